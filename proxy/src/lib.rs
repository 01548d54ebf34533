//! The everlock HTTP proxy and command line: quorum locks behind the Evermind HTTP API.
//!
//! The binary `everlock` is a thin shell over [`cli`]. Tests and benchmarks run
//! the server in their own process: an [`App`] over any [`everlock::Redlock`],
//! and [`server::run`] with a listener and a signal to stop.
//!
//! Layers, each importing only those below: `cli` · `server` · `middleware` ·
//! `router` and `handlers` · `api`, `body` and `problem` · `app` · `config`.
//! Nothing in this crate talks to Redis: handlers see the library's API only.

mod answer;
mod api;
mod app;
mod body;
pub mod cli;
pub mod config;
mod handlers;
mod middleware;
pub mod nodes;
mod problem;
mod readiness;
mod router;
pub mod server;
mod telemetry;

pub use app::App;
