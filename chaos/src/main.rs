//! Everlock under chaos: real servers, real proxies and client processes contend for a few locks
//! while a seeded nemesis stops, kills, cuts off and confuses them, never more than a minority of
//! the nodes at a time.
//!
//! Three judges follow. The history of all holds, as the clients were told of them, must show no two
//! owners at once and no token out of order. A register that checks tokens, and that clients
//! update long after their lease is over, must lose no update; beside it stands one that checks
//! nothing, which shows what the lock alone, without the token, would have let through. And who stood in a
//! strict line must not have been overtaken by somebody who asked later.
//!
//! `scripts/chaos` builds and runs it. The seed fixes what the nemesis plans; the servers' and the
//! kernel's own timing is that of a real machine, so a run is not repeated to the letter.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test program: what it can't go on without ends it, and people read what it prints"
)]

mod client;
mod dice;
mod nemesis;
mod order;
mod record;
mod register;
mod verdict;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// The cluster's longest lease, and every client's lease: short, so that much happens in a run.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(name = "chaos", about = "Everlock on real servers, under faults")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs it all and judges
    Run(world::Wishes),
    /// One client process (started by `run`)
    #[command(hide = true)]
    Client(client::Config),
    /// Becomes a proxy that ends with the run (started by `run`)
    #[command(hide = true)]
    Proxy(world::ProxyArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(wishes) => on_runtime(world::run(wishes)),
        Command::Client(config) => on_runtime(client::run(config)),
        Command::Proxy(args) => world::become_proxy(&args),
    }
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let code = runtime.block_on(work);
    runtime.shutdown_background();
    code
}

/// Microseconds on the clock that all processes of a machine share and that never jumps.
pub(crate) fn now() -> u64 {
    use everlock::clock::{Clock as _, SystemClock};
    micros(SystemClock.now())
}

pub(crate) fn micros(moment: everlock::clock::Moment) -> u64 {
    u64::try_from(moment.since_origin().as_micros()).unwrap()
}
