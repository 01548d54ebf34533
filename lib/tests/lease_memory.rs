//! Hazard: a lease that promises what it does not keep. The contract, in memory.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use support::leases::MemorySubject;

fn in_memory() -> std::future::Ready<MemorySubject> {
    std::future::ready(MemorySubject::new())
}

everlock::lease_contract!(in_memory);
