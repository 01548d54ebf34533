//! Rules of undoing one attempt of one call, in whatever order it arrives.

use std::time::Duration;

use super::{Bench, LEASE, MAX_LEASE, Make, owner, resource};
use crate::core::command::Command;
use crate::core::quorum::Vote;
use crate::core::token::FencingToken;
use crate::core::types::CallId;

const NOT_DELETED: Vote = Vote::Undone { deleted: false };

pub async fn what_is_undone_is_free_at_once(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    assert_eq!(bench.undo("a", 1, 1).await, Vote::Undone { deleted: true });
    assert_eq!(bench.holder().await, None);
    assert_eq!(bench.undo("a", 1, 1).await, NOT_DELETED);
    assert_eq!(bench.acquire("b", 2, 2).await, Vote::Granted);
}

pub async fn an_undo_before_arrival_makes_a_late_acquire_stale(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.undo("a", 1, 3).await, NOT_DELETED);
    let floor = bench.token(3);
    assert_eq!(bench.acquire("a", 1, 3).await, Vote::Stale { floor });
    assert_eq!(bench.holder().await, None);
    assert_eq!(bench.acquire("a", 1, 4).await, Vote::Granted);
}

pub async fn an_undo_never_hits_a_later_attempt(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    bench.acquire("a", 1, 2).await;
    assert_eq!(bench.undo("a", 1, 1).await, NOT_DELETED);
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
}

pub async fn an_undo_never_hits_another_owner(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    // Even with the call's number, and a higher token.
    assert_eq!(bench.undo("b", 1, 9).await, NOT_DELETED);
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
    // A call that did not grant takes nothing either.
    assert_eq!(bench.undo("a", 2, 9).await, NOT_DELETED);
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
}

pub async fn an_undo_beyond_any_lease_lifts_no_floor(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    let now = bench.now().await;
    let beyond = FencingToken::new(now.plus(MAX_LEASE + Duration::from_hours(1)).as_micros());
    for token in [beyond, FencingToken::MAX] {
        let undo = Command::Undo {
            resource: resource(),
            owner: owner("b"),
            call: CallId::new(2),
            token,
        };
        assert_eq!(bench.ask(undo).await, NOT_DELETED);
        let settle = Command::Settle {
            resource: resource(),
            owner: owner("b"),
            token,
        };
        let settled = Vote::Settled { deleted: false };
        assert_eq!(bench.ask(settle).await, settled);
    }
    bench.release("a", 1).await;
    let next = bench.acquire_for("b", 3, 2, LEASE).await;
    assert_eq!(next, Vote::Granted, "the key is not refused for ever");
}

pub async fn an_undo_never_lowers_a_floor(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 9).await;
    bench.release("a", 9).await;
    bench.undo("b", 2, 3).await;
    let floor = bench.token(9);
    assert_eq!(bench.acquire("b", 2, 9).await, Vote::Stale { floor });
}
