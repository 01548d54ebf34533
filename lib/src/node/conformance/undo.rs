//! Rules of undoing one attempt of one call, in whatever order it arrives.

use std::sync::Arc;
use std::time::Duration;

use super::{Bench, LEASE, MAX_LEASE, Make, PATIENCE, attempt, owner, resource};
use crate::core::command::Command;
use crate::core::quorum::Vote;
use crate::core::token::FencingToken;
use crate::core::types::CallId;

const NOT_DELETED: Vote = Vote::Undone { deleted: false };

impl Bench {
    pub(super) async fn undo(&self, by: &str, call: u64, step: u64) -> Vote {
        self.undo_as(by, (call, step), false).await
    }

    async fn undo_aloud(&self, by: &str, call: u64, step: u64) -> Vote {
        self.undo_as(by, (call, step), true).await
    }

    async fn undo_as(&self, by: &str, (call, step): (u64, u64), aloud: bool) -> Vote {
        self.ask(Command::Undo {
            resource: resource(),
            owner: owner(by),
            call: attempt(call, step),
            token: self.token(step),
            aloud,
        })
        .await
    }
}

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
            aloud: false,
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

pub async fn an_undo_aloud_is_heard_if_the_lock_went_with_it(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let ear = Arc::new(move |release| {
        let _ = tell.send(release);
    });
    let _listening = bench.node.listen(&resource(), ear);
    let mut heard = async || tokio::time::timeout(PATIENCE, told.recv()).await;
    assert_eq!(heard().await, Ok(Some(None)), "it can be heard now");
    // What has not arrived, what another call still rests on, and what is another's.
    bench.undo_aloud("a", 1, 1).await;
    bench.acquire("a", 2, 2).await;
    bench.acquire("a", 3, 3).await;
    bench.undo_aloud("a", 2, 3).await;
    bench.undo_aloud("b", 3, 4).await;
    assert_eq!(
        bench.undo_aloud("a", 3, 5).await,
        Vote::Undone { deleted: true }
    );
    bench.undo_aloud("a", 3, 5).await;
    bench.acquire("a", 4, 6).await;
    bench.release("a", 6).await;
    // Messages come in order: had anything else been told, it would be here by now.
    for step in [5, 6] {
        assert_eq!(heard().await, Ok(Some(Some(bench.token(step)))));
    }
}
