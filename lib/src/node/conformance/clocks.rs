//! Rules of the clock guard: what a marker notes of its node's clock.

use super::{Bench, Make, SHORT_MAX_LEASE, cluster, open};
use crate::core::clocks::{Baseline, ClockRecord, ClockStep};
use crate::core::command::Command;
use crate::core::marker::{Cause, Marker, MarkerCommand};
use crate::core::quorum::Vote;
use crate::core::time::WallTime;

const NEVER: WallTime = WallTime::from_micros(0);

impl Bench {
    async fn baseline(&self, offset: i64) -> Baseline {
        let at = self.now().await;
        let width = 300;
        Baseline { offset, width, at }
    }

    async fn note(&self, era: WallTime, baseline: Baseline, step: ClockStep) -> Marker {
        let command = MarkerCommand::Clock {
            era,
            baseline,
            step,
        };
        let state = self.mark(command).await;
        state.marker.expect("the node was opened")
    }

    async fn marker(&self) -> Marker {
        let state = self.mark(MarkerCommand::Read).await;
        state.marker.expect("the node was opened")
    }
}

async fn opened(make: Make<'_>) -> Bench {
    let bench = Bench::unmarked(make(false)).await;
    open(&*bench.node, SHORT_MAX_LEASE, false).await;
    bench
}

pub async fn a_clock_has_no_baseline_until_it_is_given_one(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    let baseline = bench.baseline(7).await;
    let step = ClockStep::Refresh;
    let note = MarkerCommand::Clock {
        era: NEVER,
        baseline,
        step,
    };
    assert_eq!(bench.mark(note.clone()).await.marker, None);
    let prepare = MarkerCommand::Prepare {
        cluster: cluster(SHORT_MAX_LEASE),
        nonce: "nonce".into(),
        over: None,
        durable: false,
    };
    let prepared = bench.mark(prepare).await.marker.expect("it is prepared");
    assert_eq!(prepared.clock, ClockRecord::default());
    assert_eq!(bench.mark(note).await.marker, Some(prepared));
}

pub async fn a_baseline_is_kept_and_follows_drift_without_a_guard(make: Make<'_>) {
    let bench = opened(make).await;
    let before = bench.marker().await;
    let first = bench.baseline(-3_600_000_000_123).await;
    let noted = bench.note(NEVER, first, ClockStep::Refresh).await;
    let clock = ClockRecord {
        era: NEVER,
        first: Some(first),
        baseline: Some(first),
    };
    assert_eq!(noted, Marker { clock, ..before });
    let second = bench.baseline(-3_600_000_001_000).await;
    let noted = bench.note(NEVER, second, ClockStep::Refresh).await;
    assert_eq!(noted.clock.first, Some(first));
    assert_eq!(noted.clock.baseline, Some(second));
    assert_eq!(bench.marker().await, noted);
    assert_eq!(bench.ask(Command::Ping).await, Vote::Pong);
}

pub async fn a_jump_guards_at_once_for_the_longest_lease_and_is_named(make: Make<'_>) {
    let bench = opened(make).await;
    let lease = SHORT_MAX_LEASE / 2;
    let granted = bench.acquire_for("a", 1, 1, lease).await;
    assert_eq!(granted, Vote::Granted);
    let before = bench.marker().await;
    let baseline = bench.baseline(59_900_000).await;
    let by = 59_900_000;
    let noted = bench.note(NEVER, baseline, ClockStep::Jumped { by }).await;
    assert_eq!(noted.cause, Some(Cause::Jumped { by }));
    assert_eq!(noted.clock.baseline, Some(baseline));
    assert_eq!(noted.clock.first, Some(baseline));
    assert_eq!(noted.floor_base, before.floor_base, "no floor was lost");
    // Whatever the gate said a moment before.
    let vote = bench.acquire_for("a", 1, 2, lease).await;
    assert!(matches!(vote, Vote::Guarded { .. }), "{vote:?}");
    let vote = bench.extend("a", lease).await;
    assert!(matches!(vote, Vote::Guarded { .. }), "{vote:?}");
    let started = bench.now().await;
    assert!(noted.voting_from <= started.plus(SHORT_MAX_LEASE));
    let left = noted.voting_from.saturating_since(bench.now().await);
    bench.pass(left + std::time::Duration::from_millis(5)).await;
    assert_eq!(bench.ask(Command::Ping).await, Vote::Pong);
}

pub async fn a_jump_that_was_noted_is_not_noted_again(make: Make<'_>) {
    let bench = opened(make).await;
    let baseline = bench.baseline(60_000_000).await;
    let by = 60_000_000;
    let first = bench.note(NEVER, baseline, ClockStep::Jumped { by }).await;
    assert!(first.clock.era > NEVER);
    bench.pass(std::time::Duration::from_millis(20)).await;
    for step in [
        ClockStep::Jumped { by },
        ClockStep::Refresh,
        ClockStep::Rebase,
    ] {
        let late = bench.note(NEVER, bench.baseline(1).await, step).await;
        assert_eq!(late, first, "{step:?}");
    }
    // It jumps again, seen by somebody who knows of the first jump.
    let by = -by;
    let era = first.clock.era;
    let second = bench.note(era, baseline, ClockStep::Jumped { by }).await;
    assert!(second.voting_from > first.voting_from);
    assert!(second.clock.era > era);
    assert_eq!(second.cause, Some(Cause::Jumped { by }));
}

pub async fn a_rebase_begins_an_era_and_guards_nobody(make: Make<'_>) {
    let bench = opened(make).await;
    let first = bench.baseline(1).await;
    bench.note(NEVER, first, ClockStep::Refresh).await;
    let baseline = bench.baseline(77_000_000).await;
    let noted = bench.note(NEVER, baseline, ClockStep::Rebase).await;
    assert!(noted.clock.era > NEVER);
    assert_eq!(noted.clock.first, Some(baseline));
    assert_eq!(noted.cause, None);
    assert_eq!(bench.ask(Command::Ping).await, Vote::Pong);
}

pub async fn a_restart_keeps_the_baseline_and_a_loss_does_not(make: Make<'_>) {
    let bench = opened(make).await;
    let baseline = bench.baseline(5).await;
    let before = bench.note(NEVER, baseline, ClockStep::Refresh).await;
    bench.subject.restart();
    let restarted = bench.guard(SHORT_MAX_LEASE, false).await.marker;
    let restarted = restarted.expect("its marker was kept");
    assert_eq!(restarted.clock, before.clock);
    assert_eq!(restarted.cause, Some(Cause::Restarted));
    bench.subject.forget();
    let lost = bench.guard(SHORT_MAX_LEASE, false).await.marker;
    let lost = lost.expect("the loss is noted");
    assert_eq!(lost.clock, ClockRecord::default());
    assert_eq!(lost.cause, Some(Cause::Lost));
}
