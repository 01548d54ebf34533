//! Hazard: a lease that promises what it does not keep. The contract, over a quorum.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use support::leases::QuorumSubject;

async fn over_a_quorum() -> QuorumSubject {
    QuorumSubject::new().await
}

everlock::lease_contract!(over_a_quorum);
