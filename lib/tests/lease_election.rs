//! Hazard: a leader that does not know that it leads no more. The examples, as they
//! are run, and what they promise.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

#[path = "../examples/leader_election.rs"]
mod leader_election;
#[path = "../examples/split_brain.rs"]
mod split_brain;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everlock::lease::memory::MemoryLeases;
use everlock::lease::{Lease, LeaseOptions};
use leader_election::campaign;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_examples_do_what_they_say() {
    let turn = Duration::from_millis(700);
    let (lines, tokens) = tokio::join!(
        leader_election::demonstrate(turn),
        split_brain::demonstrate()
    );
    assert!(lines.unwrap() >= 3, "each of the three wrote");
    let [minor, major] = tokens.unwrap();
    assert!(minor < major);
}

/// Counts down when the work is dropped.
struct Runs<'a>(&'a AtomicUsize);
impl Drop for Runs<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_singleton_stops_when_it_loses_and_starts_again_under_a_later_token() {
    let leases = MemoryLeases::new();
    let options = LeaseOptions::builder("one", "only").ttl(Duration::from_secs(1));
    let lease = leases.lease(options.build().unwrap());
    let stop = CancellationToken::new();
    let (running, tokens) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = async |token| {
        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
        let _runs = Runs(&running);
        tokens.lock().unwrap().push(token);
        std::future::pending::<()>().await;
    };
    tokio::join!(campaign(&lease, &stop, work), async {
        for tenure in 1..=3 {
            let started = || tokens.lock().unwrap().len() >= tenure;
            let soon = everlock_testkit::SETTLED;
            assert!(everlock_testkit::eventually(soon, async || started()).await);
            assert_eq!(running.load(Ordering::SeqCst), 1);
            if tenure < 3 {
                leases.revoke("one");
            }
        }
        stop.cancel();
    });
    assert_eq!(running.load(Ordering::SeqCst), 0);
    assert!(!lease.check_alive() && leases.holder("one").is_none());
    let tokens = tokens.into_inner().unwrap();
    assert!(tokens.is_sorted_by(|one, other| one < other), "{tokens:?}");
}
