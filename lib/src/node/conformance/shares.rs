//! Rules of shared grants: one owner's calls rest on one grant, and none of them
//! can take it from another.

use std::time::Duration;

use super::{Bench, LEASE, MAX_LEASE, Make, about};
use crate::core::quorum::Vote;
use crate::core::shares::MAX_SHARES;
use crate::core::token::FencingToken;

const NOT_DELETED: Vote = Vote::Undone { deleted: false };
const DELETED: Vote = Vote::Undone { deleted: true };

#[track_caller]
fn again(vote: &Vote) -> (FencingToken, Duration) {
    match vote {
        Vote::Again { token, remaining } => (*token, *remaining),
        other => panic!("the owner holds it already: {other:?}"),
    }
}

pub async fn the_owner_asking_by_another_call_shares_the_grant(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    let (token, _) = again(&bench.acquire("a", 2, 5).await);
    assert_eq!(token, bench.token(1));
    // The grant's token stays for everybody, and so does the floor.
    let (token, _) = again(&bench.acquire("a", 3, 2).await);
    assert_eq!(token, bench.token(1));
}

pub async fn sharing_never_shortens_a_lease_and_may_lengthen_it(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire_for("a", 1, 1, Duration::from_secs(1)).await;
    let shorter = bench.acquire_for("a", 2, 2, Duration::from_millis(50));
    about(again(&shorter.await).1, Duration::from_secs(1));
    let longer = bench.acquire_for("a", 3, 3, MAX_LEASE);
    about(again(&longer.await).1, MAX_LEASE);
    let Vote::Held {
        remaining: Some(remaining),
        ..
    } = bench.acquire("b", 4, 4).await
    else {
        panic!("a holds it")
    };
    about(remaining, MAX_LEASE);
}

pub async fn an_undo_takes_the_lock_only_with_the_last_share(make: Make<'_>) {
    for (first, last) in [((1, 1), (2, 2)), ((2, 2), (1, 1))] {
        let bench = Bench::open(make).await;
        bench.acquire("a", 1, 1).await;
        again(&bench.acquire("a", 2, 2).await);
        assert_eq!(bench.undo("a", first.0, first.1).await, NOT_DELETED);
        assert_eq!(
            bench.holder().await.as_deref(),
            Some("a"),
            "after {first:?}"
        );
        assert_eq!(bench.undo("a", first.0, first.1).await, NOT_DELETED);
        assert_eq!(bench.holder().await.as_deref(), Some("a"), "done twice");
        assert_eq!(bench.undo("a", last.0, last.1).await, DELETED);
        assert_eq!(bench.holder().await, None);
    }
}

pub async fn an_undo_takes_back_nothing_that_a_later_attempt_renewed(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    again(&bench.acquire("a", 2, 2).await);
    again(&bench.acquire("a", 2, 4).await);
    assert_eq!(bench.undo("a", 2, 2).await, NOT_DELETED);
    assert_eq!(bench.undo("a", 1, 1).await, NOT_DELETED);
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
    assert_eq!(bench.undo("a", 2, 4).await, DELETED);
}

pub async fn an_undo_before_the_sharing_call_arrives_makes_it_stale(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    assert_eq!(bench.undo("a", 2, 3).await, NOT_DELETED);
    let floor = bench.token(3);
    assert_eq!(bench.acquire("a", 2, 3).await, Vote::Stale { floor });
    assert_eq!(bench.undo("a", 1, 1).await, DELETED);
}

pub async fn more_calls_than_are_counted_pin_the_grant_until_it_is_released(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    let most = u64::try_from(MAX_SHARES).expect("a few");
    for call in 2..=most + 1 {
        again(&bench.acquire("a", call, call).await);
    }
    for call in 1..=most + 1 {
        assert_eq!(bench.undo("a", call, call).await, NOT_DELETED, "{call}");
    }
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
    let token = Some(bench.token(1));
    assert_eq!(bench.release("a", 1).await, Vote::Released { token });
    assert_eq!(bench.holder().await, None);

    // As many as are counted do not pin.
    for call in 1..=most {
        bench.acquire("a", call, call + 100).await;
    }
    for call in 1..most {
        assert_eq!(bench.undo("a", call, call + 100).await, NOT_DELETED);
    }
    assert_eq!(bench.undo("a", most, most + 100).await, DELETED);
}

pub async fn stale_and_ahead_come_before_sharing(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 5).await;
    let floor = bench.token(5);
    assert_eq!(bench.acquire("a", 2, 5).await, Vote::Stale { floor });
    let wild = bench.acquire_under("a", 2, FencingToken::MAX, LEASE).await;
    assert_eq!(wild, Vote::Ahead);
    // Neither left a share.
    assert_eq!(bench.undo("a", 1, 5).await, DELETED);
}

pub async fn a_call_that_asks_again_takes_nothing_from_those_it_shares_with(make: Make<'_>) {
    // The call that won the grant, of which the answers got lost, asks once more;
    // meanwhile another one has won by sharing.
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    again(&bench.acquire("a", 2, 2).await);
    bench.acquire("a", 1, 3).await;
    bench.undo("a", 1, 3).await;
    assert_eq!(
        bench.holder().await.as_deref(),
        Some("a"),
        "the second call rests on the lock still"
    );
    assert_eq!(bench.undo("a", 2, 2).await, DELETED);
}
