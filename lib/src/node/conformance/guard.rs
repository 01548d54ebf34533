//! Rules of the restart guard: a node that may have lost something does not vote.

use std::time::Duration;

use super::{Bench, LEASE, MAX_LEASE, Make, SHORT_MAX_LEASE, cluster, open};
use crate::core::command::Command;
use crate::core::marker::{MarkerCommand, Phase};
use crate::core::quorum::Vote;
use crate::core::token::FencingToken;

const BRIEF: Duration = Duration::from_millis(50);
const SHORT_LEASE: Duration = Duration::from_millis(800);

#[track_caller]
fn guarded(vote: &Vote) -> Option<Duration> {
    match vote {
        Vote::Guarded { remaining } => *remaining,
        other => panic!("the node may not vote: {other:?}"),
    }
}

async fn with_short_leases(make: Make<'_>, durable: bool) -> Bench {
    let bench = Bench::unmarked(make(durable)).await;
    open(&*bench.node, SHORT_MAX_LEASE, durable).await;
    bench
}

impl Bench {
    /// Proposes under the present time, as clients do.
    async fn acquire_now(&self, by: &str, call: u64) -> Vote {
        // A manual clock may stand exactly at the floor that the guard left.
        let token = FencingToken::new(self.now().await.as_micros()).next();
        self.acquire_under(by, call, token, SHORT_LEASE).await
    }

    /// How long it takes until the node grants, at most three times the short maximum lease.
    async fn votes_after(&self) -> Duration {
        let started = self.now().await;
        loop {
            match self.acquire_now("late", 99).await {
                Vote::Granted => return self.now().await.saturating_since(started),
                // The token was read a moment before the guard ended.
                Vote::Stale { .. } => {}
                vote => {
                    guarded(&vote);
                }
            }
            let waited = self.now().await.saturating_since(started);
            assert!(waited < 3 * SHORT_MAX_LEASE, "guarded for ever");
            self.pass(BRIEF).await;
        }
    }
}

pub async fn a_node_without_a_marker_votes_on_nothing(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    assert_eq!(guarded(&bench.acquire("a", 1, 1).await), None);
    assert_eq!(guarded(&bench.extend("a", LEASE).await), None);
    assert_eq!(guarded(&bench.ask(Command::Ping).await), None);
    assert_eq!(bench.release("a", 1).await, Vote::Absent);
    assert_eq!(bench.holder().await, None);
}

pub async fn a_prepared_node_votes_on_nothing(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    bench
        .mark(MarkerCommand::Prepare {
            cluster: cluster(MAX_LEASE),
            nonce: "1".into(),
            over: None,
            durable: false,
        })
        .await;
    assert_eq!(guarded(&bench.acquire("a", 1, 1).await), None);
    assert_eq!(guarded(&bench.extend("a", LEASE).await), None);
    assert_eq!(guarded(&bench.ask(Command::Ping).await), None);
    assert_eq!(bench.holder().await, None);
}

pub async fn a_guarded_node_releases_undoes_and_tells_the_holder(make: Make<'_>) {
    // Neither the guard nor the lease ends before the rule does, however slow the restart.
    let long = Duration::from_mins(1);
    let bench = Bench::unmarked(make(false)).await;
    open(&*bench.node, long, false).await;
    let granted = bench.acquire_for("a", 1, 10, long).await;
    assert_eq!(granted, Vote::Granted);
    bench.subject.restart();
    bench.guard(long, false).await;
    assert!(guarded(&bench.ask(Command::Ping).await).is_some());
    assert!(guarded(&bench.extend("a", LEASE).await).is_some());
    assert!(guarded(&bench.acquire("a", 1, 11).await).is_some());
    assert_eq!(bench.holder().await.as_deref(), Some("a"));
    assert!(matches!(bench.release("b", 99).await, Vote::Held { .. }));
    let token = Some(bench.token(10));
    assert_eq!(bench.release("a", 10).await, Vote::Released { token });
    let undone = Vote::Undone { deleted: false };
    assert_eq!(bench.undo("a", 1, 11).await, undone);
    let settled = Vote::Settled { deleted: false };
    assert_eq!(bench.settle("a", 12).await, settled);
}

pub async fn a_node_that_lost_everything_waits_the_longest_lease_and_no_longer(make: Make<'_>) {
    let bench = with_short_leases(make, false).await;
    assert_eq!(bench.acquire_now("a", 1).await, Vote::Granted);
    let before = bench.now().await;
    bench.subject.forget();
    guarded(&bench.acquire_now("b", 2).await);
    bench.guard(SHORT_MAX_LEASE, false).await;
    bench.votes_after().await;
    let waited = bench.now().await.saturating_since(before);
    assert!(waited >= SHORT_MAX_LEASE, "voted after {waited:?}");
    assert!(waited < 2 * SHORT_MAX_LEASE + LEASE, "{waited:?}");
}

pub async fn a_later_witness_neither_shortens_nor_prolongs_a_guard(make: Make<'_>) {
    let bench = with_short_leases(make, false).await;
    bench.subject.forget();
    let first = bench.guard(SHORT_MAX_LEASE, false).await.marker;
    let first = first.expect("the loss is noted");
    assert_eq!(first.phase, Phase::Active);
    for _ in 0..5 {
        bench.pass(BRIEF).await;
        let later = bench.guard(SHORT_MAX_LEASE, false).await.marker;
        let later = later.expect("the marker stays");
        assert_eq!(
            (later.voting_from, later.floor_base),
            (first.voting_from, first.floor_base)
        );
    }
}

pub async fn tokens_that_may_be_forgotten_are_refused_after_a_loss(make: Make<'_>) {
    let bench = with_short_leases(make, false).await;
    // The highest token that the node may have granted before it forgot everything.
    let highest = bench.now().await.plus(SHORT_MAX_LEASE);
    let highest = FencingToken::new(highest.as_micros());
    let vote = bench.acquire_under("a", 1, highest, SHORT_LEASE).await;
    assert_eq!(vote, Vote::Granted);
    bench.subject.forget();
    bench.guard(SHORT_MAX_LEASE, false).await;
    bench.votes_after().await;
    bench.pass(SHORT_LEASE + BRIEF).await;
    let vote = bench.acquire_under("b", 2, highest, SHORT_LEASE).await;
    assert!(matches!(vote, Vote::Stale { .. }), "{vote:?}");
}

pub async fn a_restart_that_may_have_lost_something_waits(make: Make<'_>) {
    let bench = with_short_leases(make, false).await;
    assert_eq!(bench.acquire_now("a", 1).await, Vote::Granted);
    let before = bench.now().await;
    bench.subject.restart();
    guarded(&bench.acquire_now("b", 2).await);
    bench.guard(SHORT_MAX_LEASE, false).await;
    guarded(&bench.acquire_now("b", 2).await);
    bench.votes_after().await;
    let waited = bench.now().await.saturating_since(before);
    assert!(waited >= SHORT_MAX_LEASE, "voted after {waited:?}");
}

pub async fn a_restart_counts_from_the_start_of_the_server(make: Make<'_>) {
    let bench = with_short_leases(make, false).await;
    bench.subject.restart();
    let now = bench.now().await;
    let longer_ago = now.minus(2 * SHORT_MAX_LEASE);
    let state = bench
        .mark(MarkerCommand::Guard {
            cluster: cluster(SHORT_MAX_LEASE),
            started: Some(longer_ago),
            durable: false,
        })
        .await;
    let marker = state.marker.expect("the node has a marker");
    assert!(
        marker.voting_from <= state.time.plus(SHORT_MAX_LEASE),
        "no guard is longer than any lease"
    );
    assert!(marker.voting_from >= longer_ago.plus(SHORT_MAX_LEASE));
    bench.votes_after().await;
}

pub async fn a_restart_that_loses_nothing_votes_at_once(make: Make<'_>) {
    let bench = with_short_leases(make, true).await;
    let token = bench.token(1);
    let held = bench.acquire_under("a", 1, token, SHORT_MAX_LEASE).await;
    assert_eq!(held, Vote::Granted);
    bench.subject.restart();
    let state = bench.guard(SHORT_MAX_LEASE, true).await;
    let marker = state.marker.expect("the node has its marker");
    assert_eq!(marker.run_id, state.run_id);
    assert!(marker.voting_from <= state.time, "no wait");
    assert_eq!(bench.ask(Command::Ping).await, Vote::Pong);
    // And it knows what it granted, or at least the floor.
    let vote = bench.acquire_under("b", 2, token, SHORT_LEASE).await;
    assert!(
        matches!(vote, Vote::Held { .. } | Vote::Stale { .. }),
        "{vote:?}"
    );
}

pub async fn a_guard_survives_a_restart_that_loses_nothing(make: Make<'_>) {
    let bench = with_short_leases(make, true).await;
    bench.subject.forget();
    let before = bench.guard(SHORT_MAX_LEASE, true).await.marker;
    let before = before.expect("the loss is noted");
    bench.subject.restart();
    let state = bench.guard(SHORT_MAX_LEASE, true).await;
    let marker = state.marker.expect("the node has its marker");
    assert_eq!(marker.voting_from, before.voting_from);
    bench.votes_after().await;
    assert!(bench.now().await >= before.voting_from);
}

pub async fn steps_back_that_are_small_one_by_one_add_up(make: Make<'_>) {
    let bench = Bench::open(make).await;
    // Before it was opened no node votes either.
    bench.pass(Duration::from_secs(4)).await;
    let mut votes = vec![bench.ask(Command::Ping).await];
    while votes.last() == Some(&Vote::Pong) {
        bench.subject.step_back(Duration::from_millis(1_900));
        votes.push(bench.ask(Command::Ping).await);
    }
    assert!(votes.len() > 2, "a small step is no reason: {votes:?}");
    let stepped_back = Vote::Guarded { remaining: None };
    assert_eq!(votes.last(), Some(&stepped_back), "{votes:?}");
}
