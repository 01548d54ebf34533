//! What becomes of spans on their way to the collector.
//!
//! Invariant: each span that a request ended is counted once, when that is known. So traces are
//! whole for as long as `sent` alone rises. What is not sent by the end of the process is in no
//! figure, since nobody could read it; the log tells of it.

use metrics::{Counter, Key, Label, Recorder};

use super::METADATA;

const NAME: &str = "everlock_trace_spans_total";
const HELP: &str =
    "Spans that ended, by what became of them; all but those that were sent are lost.";

/// Counts spans; clones share it.
#[derive(Clone)]
pub(crate) struct Spans {
    /// The collector has them.
    pub(crate) sent: Counter,
    /// There was no room for them: they are made faster than they are sent.
    pub(crate) queue_full: Counter,
    /// The collector could not be reached, did not answer in time, or with an error.
    pub(crate) failed: Counter,
    /// The collector answered that it did not take them.
    pub(crate) rejected: Counter,
}

impl Spans {
    /// Counts nothing.
    pub(crate) const fn off() -> Self {
        Self {
            sent: Counter::noop(),
            queue_full: Counter::noop(),
            failed: Counter::noop(),
            rejected: Counter::noop(),
        }
    }

    /// All of them, from zero.
    pub(super) fn on(recorder: &dyn Recorder) -> Self {
        recorder.describe_counter(NAME.into(), None, HELP.into());
        let counter = |outcome| {
            let labels = vec![Label::from_static_parts("outcome", outcome)];
            recorder.register_counter(&Key::from_parts(NAME, labels), &METADATA)
        };
        Self {
            sent: counter("sent"),
            queue_full: counter("queue_full"),
            failed: counter("failed"),
            rejected: counter("rejected"),
        }
    }
}

impl std::fmt::Debug for Spans {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spans").finish_non_exhaustive()
    }
}
