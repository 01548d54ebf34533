//! Rules of releasing, and of settling what a release left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Bench, LEASE, Make, PATIENCE, about, resource};
use crate::core::quorum::Vote;

pub async fn a_release_frees_and_tells_the_token(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    let token = Some(bench.token(1));
    assert_eq!(bench.release("a", 1).await, Vote::Released { token });
    assert_eq!(bench.holder().await, None);
    assert_eq!(bench.release("a", 1).await, Vote::Absent);
    assert_eq!(bench.acquire("b", 2, 2).await, Vote::Granted);
}

pub async fn a_release_without_the_token_may_bring_a_higher_one(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    let token = Some(bench.token(1));
    assert_eq!(
        bench.release("a", 1_000_000).await,
        Vote::Released { token }
    );
    // The release's token is no proposal: it lifts no floor.
    assert_eq!(bench.acquire("b", 2, 2).await, Vote::Granted);
}

pub async fn a_newer_grant_is_not_released_and_told(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 5).await;
    let token = bench.token(5);
    assert_eq!(bench.release("a", 4).await, Vote::Newer { token });
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
    let token = Some(token);
    assert_eq!(bench.release("a", 5).await, Vote::Released { token });
}

pub async fn nobodys_and_anothers_locks_are_not_released(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.release("a", 9).await, Vote::Absent);
    bench.acquire("a", 1, 1).await;
    let Vote::Held {
        remaining: Some(remaining),
        token,
    } = bench.release("b", 9).await
    else {
        panic!("a holds it")
    };
    about(remaining, LEASE);
    assert_eq!(token, Some(bench.token(1)));
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
}

pub async fn an_expired_lock_is_absent_to_its_owner(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let lease = Duration::from_millis(100);
    bench.acquire_for("a", 1, 1, lease).await;
    bench.pass(lease + Duration::from_millis(20)).await;
    assert_eq!(bench.release("a", 1).await, Vote::Absent);
}

pub async fn a_settlement_refuses_late_grants_of_what_was_released(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let settled = Vote::Settled { deleted: false };
    assert_eq!(bench.settle("a", 3).await, settled);
    let floor = bench.token(3);
    assert_eq!(bench.acquire("a", 1, 3).await, Vote::Stale { floor });
    assert_eq!(bench.holder().await, None);
    assert_eq!(bench.acquire("b", 2, 4).await, Vote::Granted);
}

pub async fn a_settlement_deletes_what_was_granted_late(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 3).await;
    let settled = Vote::Settled { deleted: true };
    assert_eq!(bench.settle("a", 3).await, settled);
    assert_eq!(bench.holder().await, None);
}

pub async fn a_settlement_hits_neither_newer_grants_nor_other_owners(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 5).await;
    let untouched = Vote::Settled { deleted: false };
    assert_eq!(bench.settle("a", 4).await, untouched);
    assert_eq!(bench.settle("b", 9).await, untouched);
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
    // The floor was lifted meanwhile, the grant's token was not.
    let token = Some(bench.token(5));
    assert_eq!(bench.release("a", 5).await, Vote::Released { token });
    let floor = bench.token(9);
    assert_eq!(bench.acquire("a", 1, 9).await, Vote::Stale { floor });
}

pub async fn what_is_passed_on_is_released(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 2).await;
    let token = bench.token(2);
    assert_eq!(bench.pass_on("a", 1).await, Vote::Newer { token });
    let token = Some(token);
    assert_eq!(bench.pass_on("a", 2).await, Vote::Released { token });
    assert_eq!(bench.pass_on("a", 2).await, Vote::Absent);
    assert_eq!(bench.acquire("b", 2, 3).await, Vote::Granted);
}

pub async fn a_release_is_heard_and_what_is_passed_on_or_undone_silently_is_not(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let ear = Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let listening = bench.node.listen(&resource(), ear);
    let wait_for = async |count: usize| {
        let reached = async {
            while heard.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("never heard {count}"));
    };
    wait_for(1).await;
    bench.acquire("a", 1, 1).await;
    bench.pass_on("a", 1).await;
    bench.acquire("a", 2, 2).await;
    bench.undo("a", 2, 2).await;
    bench.acquire("a", 3, 3).await;
    bench.release("b", 3).await;
    bench.release("a", 3).await;
    // Messages come in order: had anything else been told, it would be here by now.
    wait_for(2).await;
    bench.acquire("a", 4, 4).await;
    bench.release("a", 4).await;
    wait_for(3).await;
    assert_eq!(heard.load(Ordering::SeqCst), 3);
    drop(listening);
    bench.acquire("a", 5, 5).await;
    bench.release("a", 5).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(heard.load(Ordering::SeqCst), 3);
}
