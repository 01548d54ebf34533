//! The everlock HTTP proxy and command line: quorum locks behind the Evermind HTTP API.
//!
//! The binary `everlock` is a thin shell over [`cli`]. Tests and benchmarks run
//! the server in their own process: an [`App`] over any [`everlock::Redlock`],
//! and [`server::run`] with a listener and a signal to stop.
//!
//! Layers, each importing only those that follow: `cli` and `fuzz` · `admin`, `nodes` and `server` ·
//! `middleware` · `openapi` · `handlers` · `api`, `body` and `router` · `problem` · `answer` ·
//! `app` · `traces` · `readiness`, `telemetry`, `metrics` and `identity` · `insights` · `advisor` · `config`
//! and `verb`. Handlers see the library's API only; `identity` alone talks to Redis, for what is no
//! lock.

pub mod admin;
pub mod advisor;
mod answer;
mod api;
mod app;
mod body;
pub mod cli;
pub mod config;
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod fuzz;
mod handlers;
mod identity;
mod insights;
mod metrics;
mod middleware;
pub mod nodes;
mod openapi;
mod problem;
mod readiness;
mod router;
pub mod server;
mod telemetry;
mod traces;
mod verb;

pub use app::{App, Watchers};
pub use identity::Gate;
pub use insights::Insights;
pub use metrics::Metrics;
pub use traces::Traces;
