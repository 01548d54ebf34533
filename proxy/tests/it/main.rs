//! Tests of the proxy from outside: one file for each hazard, one program for
//! all of them, so that they are linked once.

#![allow(
    clippy::unwrap_used,
    reason = "what a test helper finds missing fails the test"
)]

mod admin;
mod cluster;
mod config;
mod disconnect;
mod hardening;
mod http2;
mod identity;
mod insights;
mod layers;
mod limits;
mod locks;
mod log_stalled;
mod node_acl;
mod notify;
mod openapi;
mod outage;
mod requests;
mod routes;
mod serving_tls;
mod shutdown;
mod support;
mod tls;
mod traces;
mod tune;
mod unix_socket;
