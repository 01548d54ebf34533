//! An observer that counts, on the facade [`metrics`](https://docs.rs/metrics), so that the
//! application's own exporter gets what happens to its locks.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use everlock::metrics::{HISTOGRAMS, MetricsObserver};
//!
//! // The application installs its exporter first, with the buckets of `HISTOGRAMS`.
//! let redlock = everlock::Redlock::builder()
//!     .memory_nodes(5)
//!     .observer(Arc::new(MetricsObserver::new()))
//!     .connect()
//!     .await?;
//! # let _ = (redlock, HISTOGRAMS);
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: a label is the name of a node, or one of the words that are written here; never what
//! a caller chose. Handles are made once, when a node or an operation is first heard of; an event
//! finds them without a name and without allocating.

mod names;
mod nodes;

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Label, Recorder};

pub use self::names::{HISTOGRAMS, NAMES};
use self::nodes::Nodes;
use crate::core::outcome::ReleaseOutcome;
use crate::core::quorum::Vote;
use crate::observer::{AcquireOutcome, Event, GuardEnd, Observer};

/// Counts the events of one client. Two clients need one each, with a
/// [label](MetricsObserver::labelled) to tell them apart.
pub struct MetricsObserver {
    attempts: [Counter; 6],
    acquires: [Counter; 5],
    acquire_duration: Histogram,
    attempts_per_acquire: Histogram,
    waiters: Gauge,
    holds: Histogram,
    expired: Counter,
    releases: [Counter; 5],
    extends: [Counter; 4],
    undos: [Counter; 2],
    nodes: Nodes,
}

/// Where handles come from: names, kinds and help.
struct Source {
    /// None for the recorder that is installed for the whole process.
    recorder: Option<Arc<dyn Recorder + Send + Sync>>,
    labels: Vec<Label>,
}

impl MetricsObserver {
    /// Counts on the recorder that is installed. One that is installed later hears of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Source {
            recorder: None,
            labels: Vec::new(),
        })
    }

    /// The same, with labels on everything.
    #[must_use]
    pub fn labelled(labels: impl IntoIterator<Item = Label>) -> Self {
        Self::of(Source {
            recorder: None,
            labels: labels.into_iter().collect(),
        })
    }

    /// Counts on a recorder of one's own.
    #[must_use]
    pub fn with_recorder(recorder: Arc<dyn Recorder + Send + Sync>) -> Self {
        Self::of(Source {
            recorder: Some(recorder),
            labels: Vec::new(),
        })
    }

    fn of(source: Source) -> Self {
        source.describe();
        let outcomes = "outcome";
        Self {
            attempts: source.counters(names::ATTEMPTS, outcomes, names::ATTEMPT_OUTCOMES),
            acquires: source.counters(names::ACQUIRES, outcomes, names::ACQUIRE_OUTCOMES),
            releases: source.counters(names::RELEASES, outcomes, names::RELEASE_OUTCOMES),
            extends: source.counters(names::EXTENDS, outcomes, names::EXTEND_OUTCOMES),
            undos: source.counters(names::UNDOS, "result", names::UNDO_RESULTS),
            acquire_duration: source.histogram(names::ACQUIRE_DURATION, &[]),
            attempts_per_acquire: source.histogram(names::ATTEMPTS_PER_ACQUIRE, &[]),
            waiters: source.gauge(names::WAITERS, &[]),
            holds: source.histogram(names::HOLD_DURATION, &[]),
            expired: source.counter(names::EXPIRED, &[]),
            nodes: Nodes::new(source),
        }
    }

    /// Whether a quorum of nodes votes, as far as they were heard of last.
    #[must_use]
    pub fn quorum_available(&self) -> bool {
        self.nodes.quorum_available()
    }

    fn acquired(&self, outcome: AcquireOutcome, attempts: u32, waited: bool, took: Duration) {
        self.acquires[names::of_acquire(outcome)].increment(1);
        self.acquire_duration.record(took);
        if attempts > 0 {
            self.attempts_per_acquire.record(f64::from(attempts));
        }
        if waited {
            self.waiters.decrement(1);
        }
    }

    fn released(&self, outcome: Option<ReleaseOutcome>, held: Option<Duration>) {
        self.releases[names::of_release(outcome)].increment(1);
        if matches!(
            outcome,
            Some(ReleaseOutcome::NotHeld | ReleaseOutcome::HeldByAnother)
        ) {
            self.expired.increment(1);
        }
        if let Some(held) = held {
            self.holds.record(held);
        }
    }
}

impl Default for MetricsObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for MetricsObserver {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Answered {
                node,
                operation,
                vote,
                took,
            } => self.nodes.answered(node, operation, vote, took),
            Event::Attempted { outcome, .. } => {
                self.attempts[names::of_attempt(outcome)].increment(1);
            }
            Event::Waiting => self.waiters.increment(1),
            Event::Acquired {
                outcome,
                attempts,
                waited,
                took,
            } => self.acquired(outcome, attempts, waited, took),
            Event::Released { outcome, held, .. } => self.released(outcome, held),
            Event::Extended { outcome, .. } => {
                self.extends[names::of_extend(outcome)].increment(1);
            }
            // One that was released tells so by the release.
            Event::GuardEnded {
                end: GuardEnd::Lost(_),
                held,
            } => {
                self.expired.increment(1);
                self.holds.record(held);
            }
            Event::CleanedUp { vote, .. } => {
                let given_up = matches!(vote, Vote::Failed(_));
                self.undos[usize::from(given_up)].increment(1);
            }
            Event::Opened { nodes, quorum } => self.nodes.opened(nodes, quorum),
            Event::NodeUp { node, .. } => self.nodes.up(node),
            Event::NodeDown { node, .. } => self.nodes.down(node),
            Event::NodeGuarded { node, .. } => self.nodes.guarded(node),
            Event::ClocksSeen { offsets, astray } => self.nodes.clocks(offsets, astray),
            _ => {}
        }
    }
}

impl std::fmt::Debug for MetricsObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsObserver").finish_non_exhaustive()
    }
}
