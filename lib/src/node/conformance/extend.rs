//! Rules of extending: relative, bounded, and never a resurrection.

use std::time::Duration;

use super::{Bench, LEASE, MAX_LEASE, Make, about, owner, resource};
use crate::core::command::Command;
use crate::core::quorum::Vote;
use crate::core::token::FencingToken;

#[track_caller]
fn extended(vote: &Vote) -> (Option<FencingToken>, Duration) {
    match vote {
        Vote::Extended { token, remaining } => (*token, *remaining),
        other => panic!("the owner holds it: {other:?}"),
    }
}

impl Bench {
    pub(super) async fn extend(&self, by: &str, time: Duration) -> Vote {
        self.ask(Command::Extend {
            resource: resource(),
            owner: owner(by),
            by: time,
        })
        .await
    }
}

pub async fn an_extension_adds_to_what_remains_and_keeps_the_token(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let second = Duration::from_secs(1);
    bench.acquire_for("a", 1, 1, second).await;
    let (token, remaining) = extended(&bench.extend("a", second).await);
    assert_eq!(token, Some(bench.token(1)));
    about(remaining, 2 * second);
    let Vote::Held {
        remaining: Some(left),
        token,
    } = bench.acquire("b", 2, 2).await
    else {
        panic!("a holds it")
    };
    about(left, 2 * second);
    assert_eq!(token, Some(bench.token(1)));
}

pub async fn an_extension_ends_at_the_maximum_lease(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("a", 1, 1).await;
    for _ in 0..3 {
        let (_, remaining) = extended(&bench.extend("a", LEASE).await);
        assert!(remaining <= MAX_LEASE, "{remaining:?}");
        about(remaining, MAX_LEASE);
    }
}

pub async fn an_expired_lock_is_never_resurrected(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.extend("a", LEASE).await, Vote::Absent);
    let lease = Duration::from_millis(100);
    bench.acquire_for("a", 1, 1, lease).await;
    bench.pass(lease + Duration::from_millis(20)).await;
    assert_eq!(bench.extend("a", LEASE).await, Vote::Absent);
    assert_eq!(bench.holder().await, None);
}

pub async fn anothers_lock_is_not_extended(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire_for("a", 1, 1, Duration::from_secs(1)).await;
    let Vote::Held {
        remaining: Some(remaining),
        token,
    } = bench.extend("b", LEASE).await
    else {
        panic!("a holds it")
    };
    about(remaining, Duration::from_secs(1));
    assert_eq!(token, Some(bench.token(1)));
}

pub async fn an_extended_lock_outlives_its_first_lease_and_then_ends(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let lease = Duration::from_millis(900);
    bench.acquire_for("a", 1, 1, lease).await;
    extended(&bench.extend("a", lease).await);
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
    bench.pass(Duration::from_millis(850)).await;
    assert_eq!(bench.holder().await, None);
}
