//! What the metrics are called, what they mean, and the words that labels may hold.

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, SharedString};

use super::Source;
use crate::core::outcome::{ExtendOutcome, ReleaseOutcome};
use crate::observer::{AcquireOutcome, AttemptOutcome};

pub(super) const ATTEMPTS: &str = "everlock_lock_attempts_total";
pub(super) const ACQUIRES: &str = "everlock_lock_acquires_total";
pub(super) const ACQUIRE_DURATION: &str = "everlock_lock_acquire_duration_seconds";
pub(super) const ATTEMPTS_PER_ACQUIRE: &str = "everlock_lock_attempts_per_acquire";
pub(super) const WAITERS: &str = "everlock_lock_waiters";
pub(super) const HOLD_DURATION: &str = "everlock_lock_hold_duration_seconds";
pub(super) const EXPIRED: &str = "everlock_lock_expired_before_release_total";
pub(super) const RELEASES: &str = "everlock_lock_releases_total";
pub(super) const EXTENDS: &str = "everlock_lock_extends_total";
pub(super) const UNDOS: &str = "everlock_undo_total";
pub(super) const NODE_UP: &str = "everlock_node_up";
pub(super) const NODE_GUARDED: &str = "everlock_node_guarded";
pub(super) const NODE_CLOCK_OFFSET: &str = "everlock_node_clock_offset_seconds";
pub(super) const NODE_REQUEST_DURATION: &str = "everlock_node_request_duration_seconds";
pub(super) const NODE_ERRORS: &str = "everlock_node_errors_total";
pub(super) const CLOCKS_ASTRAY: &str = "everlock_clocks_astray";
pub(super) const QUORUM_AVAILABLE: &str = "everlock_quorum_available";

/// All names, each with its kind and meaning.
pub const NAMES: &[(&str, Kind, &str)] = &[
    (
        ATTEMPTS,
        Kind::Counter,
        "Proposals to acquire, by how they ended; one acquire may make several.",
    ),
    (
        ACQUIRES,
        Kind::Counter,
        "Acquire requests that ended, by how.",
    ),
    (
        ACQUIRE_DURATION,
        Kind::Histogram,
        "How long acquire requests took, all waiting included, however they ended.",
    ),
    (
        ATTEMPTS_PER_ACQUIRE,
        Kind::Histogram,
        "Attempts that an acquire request made, however it ended.",
    ),
    (
        WAITERS,
        Kind::Gauge,
        "Acquire requests that wait for another attempt.",
    ),
    (
        HOLD_DURATION,
        Kind::Histogram,
        "For how long locks were held that were released here, or lost by guards.",
    ),
    (
        EXPIRED,
        Kind::Counter,
        "Releases that found the lock expired, another's or never held, and guards that lost it.",
    ),
    (
        RELEASES,
        Kind::Counter,
        "Releases, by how they ended; let_go is a guard that was dropped.",
    ),
    (EXTENDS, Kind::Counter, "Extensions, by how they ended."),
    (
        UNDOS,
        Kind::Counter,
        "Clean-up commands that a node has answered, or that were given up with it.",
    ),
    (
        NODE_UP,
        Kind::Gauge,
        "Whether the node could be used when it was heard of last.",
    ),
    (
        NODE_GUARDED,
        Kind::Gauge,
        "Whether the node waits before it votes, when it was heard of last.",
    ),
    (
        NODE_CLOCK_OFFSET,
        Kind::Gauge,
        "How far the node's clock is ahead of the middle of all nodes'.",
    ),
    (
        NODE_REQUEST_DURATION,
        Kind::Histogram,
        "How long the node took to answer or to fail, the wait to be sent included.",
    ),
    (
        NODE_ERRORS,
        Kind::Counter,
        "Commands that the node did not answer as it should, by what went wrong.",
    ),
    (
        CLOCKS_ASTRAY,
        Kind::Gauge,
        "Whether so many clocks jumped that no votes count together for a while.",
    ),
    (
        QUORUM_AVAILABLE,
        Kind::Gauge,
        "Whether a quorum of nodes votes, as far as they were heard of last.",
    ),
];

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// A node that is well answers in less than the first, or the third; one that is not is given up
/// after some hundred milliseconds.
const REQUEST_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];
/// From one round trip to the longest wait.
const WAIT_BUCKETS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
];
const ATTEMPT_BUCKETS: &[f64] = &[1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 100.0];

/// The histograms and the upper bounds of their buckets.
pub const HISTOGRAMS: &[(&str, &[f64])] = &[
    (ACQUIRE_DURATION, WAIT_BUCKETS),
    (ATTEMPTS_PER_ACQUIRE, ATTEMPT_BUCKETS),
    (HOLD_DURATION, WAIT_BUCKETS),
    (NODE_REQUEST_DURATION, REQUEST_BUCKETS),
];

pub(super) const ATTEMPT_OUTCOMES: [&str; 6] = [
    "won",
    "contended",
    "unavailable",
    "late",
    "token_too_low",
    "cancelled",
];

pub(super) const fn of_attempt(outcome: AttemptOutcome) -> usize {
    match outcome {
        AttemptOutcome::Won => 0,
        AttemptOutcome::Contended => 1,
        AttemptOutcome::Unavailable => 2,
        AttemptOutcome::Late => 3,
        AttemptOutcome::TokenTooLow => 4,
        AttemptOutcome::Cancelled => 5,
    }
}

pub(super) const ACQUIRE_OUTCOMES: [&str; 5] =
    ["acquired", "contended", "unavailable", "late", "cancelled"];

pub(super) const fn of_acquire(outcome: AcquireOutcome) -> usize {
    match outcome {
        AcquireOutcome::Acquired => 0,
        AcquireOutcome::Contended => 1,
        AcquireOutcome::Unavailable => 2,
        AcquireOutcome::Late => 3,
        AcquireOutcome::Cancelled => 4,
    }
}

pub(super) const RELEASE_OUTCOMES: [&str; 5] = [
    "released",
    "unavailable",
    "held_by_another",
    "not_held",
    "let_go",
];

pub(super) const fn of_release(outcome: Option<ReleaseOutcome>) -> usize {
    match outcome {
        Some(ReleaseOutcome::Released) => 0,
        Some(ReleaseOutcome::Unavailable) => 1,
        Some(ReleaseOutcome::HeldByAnother) => 2,
        Some(ReleaseOutcome::NotHeld) => 3,
        None => 4,
    }
}

pub(super) const EXTEND_OUTCOMES: [&str; 4] =
    ["extended", "unavailable", "held_by_another", "not_held"];

pub(super) const fn of_extend(outcome: ExtendOutcome) -> usize {
    match outcome {
        ExtendOutcome::Extended => 0,
        ExtendOutcome::Unavailable => 1,
        ExtendOutcome::HeldByAnother => 2,
        ExtendOutcome::NotHeld => 3,
    }
}

pub(super) const UNDO_RESULTS: [&str; 2] = ["done", "given_up"];

static METADATA: Metadata<'static> = Metadata::new("everlock", Level::INFO, Some("everlock"));

impl Source {
    pub(super) fn describe(&self) {
        self.with(|recorder| {
            for (name, kind, help) in NAMES {
                let (name, help) = ((*name).into(), SharedString::const_str(help));
                match kind {
                    Kind::Counter => recorder.describe_counter(name, None, help),
                    Kind::Gauge => recorder.describe_gauge(name, None, help),
                    Kind::Histogram => recorder.describe_histogram(name, None, help),
                }
            }
        });
    }

    pub(super) fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.with(|recorder| recorder.register_counter(&self.key(name, labels), &METADATA))
    }

    /// One for each value of a label.
    pub(super) fn counters<const N: usize>(
        &self,
        name: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        values.map(|value| self.counter(name, &[(label, value)]))
    }

    pub(super) fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.with(|recorder| recorder.register_gauge(&self.key(name, labels), &METADATA))
    }

    pub(super) fn histogram(
        &self,
        name: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Histogram {
        self.with(|recorder| recorder.register_histogram(&self.key(name, labels), &METADATA))
    }

    fn key(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Key {
        let own = labels.iter();
        let own = own.map(|(name, value)| Label::new(*name, (*value).to_owned()));
        Key::from_parts(
            name,
            self.labels.iter().cloned().chain(own).collect::<Vec<_>>(),
        )
    }

    fn with<T>(&self, work: impl FnOnce(&dyn Recorder) -> T) -> T {
        match &self.recorder {
            Some(recorder) => work(&**recorder),
            None => ::metrics::with_recorder(work),
        }
    }
}
