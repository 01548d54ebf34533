//! What the benchmarks share: lockers to compare, load to put on them, and what
//! both sides used for it.
//!
//! A run counts only what was verified: each section was alone, tokens of one key
//! rose, and no key is left at the end.

mod connection;
mod cost;
mod load;
mod locker;
mod naive;
mod raw;
mod witness;

use std::path::PathBuf;
use std::time::Duration;

pub use connection::Connection;
pub use cost::Meter;
pub use load::{Contention, Seen, contended, nothing_left, uncontended};
pub use locker::{Locker, Way};
pub use naive::Naive;
pub use raw::Raw;
pub use witness::Witness;

/// The lease of every benchmark: long enough never to end within a cycle.
pub const LEASE: Duration = Duration::from_secs(10);

/// A runtime of one thread, or of several.
///
/// # Panics
///
/// When the system gives no threads.
#[must_use]
pub fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder
        .enable_all()
        .build()
        .expect("a runtime can be built")
}

/// The proxy that was built for the same profile as this program.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn proxy_program() -> PathBuf {
    let mut program = std::env::current_exe().expect("this program has a path");
    program.pop();
    program.pop();
    program.push("everlock");
    assert!(
        program.exists(),
        "cargo build --release -p everlock-proxy first"
    );
    program
}
