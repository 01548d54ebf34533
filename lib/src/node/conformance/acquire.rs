//! Rules of acquiring: who is granted what, and what the others are told.

use std::time::Duration;

use super::{Bench, LEASE, MAX_LEASE, Make, about, attempt, owner, resource};
use crate::core::command::Command;
use crate::core::quorum::{FaultKind, Vote};
use crate::core::token::FencingToken;
use crate::core::types::{CallId, Resource};

pub async fn a_free_lock_is_granted_to_its_owner_alone(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.holder().await, None);
    assert_eq!(bench.acquire("a", 1, 1).await, Vote::Granted);
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
}

pub async fn another_owner_is_told_what_remains_and_under_which_token(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    let Vote::Held {
        remaining: Some(remaining),
        token,
    } = bench.acquire("b", 2, 2).await
    else {
        panic!("a holds it")
    };
    about(remaining, LEASE);
    assert_eq!(token, Some(bench.token(1)));
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
}

pub async fn a_held_lock_is_held_whatever_token_is_proposed(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 5).await;
    for token in [
        bench.token(4),
        bench.token(5),
        FencingToken::ZERO,
        FencingToken::MAX,
    ] {
        let vote = bench.acquire_under("b", 2, token, LEASE).await;
        assert!(matches!(vote, Vote::Held { .. }), "{token}: {vote:?}");
    }
}

pub async fn a_token_not_above_the_floor_is_stale_and_told_the_floor(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 5).await;
    bench.release("a", 5).await;
    let stale = Vote::Stale {
        floor: bench.token(5),
    };
    for (by, call, step) in [("a", 1, 5), ("a", 1, 4), ("b", 2, 5), ("b", 2, 1)] {
        assert_eq!(
            bench.acquire(by, call, step).await,
            stale,
            "{by} {call} {step}"
        );
    }
    assert_eq!(bench.holder().await, None);
    assert_eq!(bench.acquire("b", 2, 6).await, Vote::Granted);
}

async fn reserving(bench: &Bench, by: &str, call: u64, step: u64, reserve: u32) -> Vote {
    let tokens = (attempt(call, step), bench.token(step), reserve);
    bench.acquire_as(by, tokens, LEASE).await
}

pub async fn tokens_that_are_reserved_are_granted_to_nobody_else(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.acquire("a", 1, 5).await, Vote::Granted);
    bench.release("a", 5).await;
    // All of them must be above the floor, and the first alone is what counts as granted.
    let floor = bench.token(5);
    let low = reserving(&bench, "b", 2, 4, 9).await;
    assert_eq!(low, Vote::Stale { floor });
    assert_eq!(reserving(&bench, "b", 2, 6, 4).await, Vote::Granted);
    let Vote::Held { token, .. } = bench.acquire("c", 3, 20).await else {
        panic!("b holds it")
    };
    assert_eq!(token, Some(bench.token(6)));
    let released = bench.release("b", 8).await;
    let token = Some(bench.token(6));
    assert_eq!(released, Vote::Released { token });
    let floor = bench.token(10);
    for step in 6..=10 {
        let reserved = bench.acquire("c", 3, step).await;
        assert_eq!(reserved, Vote::Stale { floor }, "{step}");
    }
    assert_eq!(bench.acquire("c", 3, 11).await, Vote::Granted);
}

pub async fn reserved_tokens_beyond_any_lease_are_ahead(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let beyond = MAX_LEASE + Duration::from_mins(1);
    let beyond = u32::try_from(beyond.as_micros()).expect("it is less than an hour");
    let ahead = reserving(&bench, "a", 1, 1, beyond).await;
    assert_eq!(ahead, Vote::Ahead);
    let within = reserving(&bench, "a", 1, 1, 1_000).await;
    assert_eq!(within, Vote::Granted);
}

pub async fn a_missing_floor_counts_as_that_of_a_day_ago(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let hours = |hours: u64| bench.base - hours * 3_600_000_000;
    let old = bench
        .acquire_under("a", 1, FencingToken::new(hours(25)), LEASE)
        .await;
    let Vote::Stale { floor } = old else {
        panic!("a day and an hour ago is too long ago: {old:?}")
    };
    let day_ago = hours(24);
    assert!((day_ago..day_ago + 60_000_000).contains(&floor.as_u64()));
    let younger = bench
        .acquire_under("a", 1, FencingToken::new(hours(23)), LEASE)
        .await;
    assert_eq!(younger, Vote::Granted);
}

pub async fn a_token_beyond_any_lease_is_ahead(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let now = bench.now().await;
    for beyond in [
        MAX_LEASE + Duration::from_mins(1),
        Duration::from_hours(300_000),
    ] {
        let token = FencingToken::new(now.plus(beyond).as_micros());
        assert_eq!(
            bench.acquire_under("a", 1, token, LEASE).await,
            Vote::Ahead,
            "{beyond:?}"
        );
    }
    assert_eq!(bench.holder().await, None);
    let within = FencingToken::new(now.plus(MAX_LEASE).as_micros());
    assert_eq!(
        bench.acquire_under("a", 1, within, LEASE).await,
        Vote::Granted
    );
}

pub async fn a_lease_above_the_maximum_is_refused_and_the_maximum_is_not(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let above = MAX_LEASE + Duration::from_millis(1);
    let Vote::Failed(fault) = bench.acquire_for("a", 1, 1, above).await else {
        panic!("no lease may be longer than the maximum")
    };
    assert_eq!(
        (fault.kind, fault.maybe_done),
        (FaultKind::Misconfigured, false)
    );
    assert_eq!(bench.holder().await, None);
    assert_eq!(bench.acquire_for("a", 1, 2, MAX_LEASE).await, Vote::Granted);
}

pub async fn the_same_call_is_granted_again_under_a_higher_token(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench
        .acquire_for("a", 1, 1, Duration::from_millis(100))
        .await;
    assert_eq!(bench.acquire("a", 1, 2).await, Vote::Granted);
    let Vote::Held {
        remaining: Some(remaining),
        token,
    } = bench.acquire("b", 2, 3).await
    else {
        panic!("a holds it")
    };
    about(remaining, LEASE);
    assert_eq!(token, Some(bench.token(2)));
}

pub async fn an_expired_lock_is_free_and_its_floor_stays(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let lease = Duration::from_millis(100);
    assert_eq!(bench.acquire_for("a", 1, 5, lease).await, Vote::Granted);
    bench.pass(lease + Duration::from_millis(20)).await;
    assert_eq!(bench.holder().await, None);
    let floor = bench.token(5);
    assert_eq!(bench.acquire("b", 2, 5).await, Vote::Stale { floor });
    assert_eq!(bench.acquire("b", 2, 6).await, Vote::Granted);
}

pub async fn resources_do_not_touch_each_other(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 9).await;
    let other = Command::Acquire {
        resource: Resource::new("tenant:orders:43").expect("the name is valid"),
        owner: owner("b"),
        lease: LEASE,
        call: CallId::new(2),
        token: bench.token(1),
        reserve: 0,
    };
    assert_eq!(bench.ask(other).await, Vote::Granted);
    let inspected = bench
        .ask(Command::Inspect {
            resource: resource(),
        })
        .await;
    let Vote::Holder {
        owner,
        remaining: Some(remaining),
        token,
    } = inspected
    else {
        panic!("{inspected:?}")
    };
    about(remaining, LEASE);
    assert_eq!((&*owner, token), ("a", Some(bench.token(9))));
}

pub async fn a_node_that_votes_answers_a_ping(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.ask(Command::Ping).await, Vote::Pong);
}
