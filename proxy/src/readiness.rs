//! The state of the nodes, asked for at most every so often.
//!
//! Invariant: one probe at a time, however many ask; an answer is never older
//! than [`FRESH`] when the question comes.

use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use everlock::{Fault, FaultKind, Redlock, Vote};
use tokio::sync::Mutex;

/// Shorter than any prober's interval, long enough that a flood reaches no node.
const FRESH: Duration = Duration::from_millis(200);
/// Nodes that take longer are not there, whatever their own timeout is: load
/// balancers want to know within two seconds.
const PROBE_TIME: Duration = Duration::from_millis(1500);

/// The probe and its last answer.
pub(crate) struct Readiness {
    redlock: Redlock,
    last: Mutex<Option<Seen>>,
}

struct Seen {
    at: Moment,
    state: Arc<everlock::Readiness>,
}

impl Readiness {
    pub(crate) fn new(redlock: Redlock) -> Self {
        let last = Mutex::default();
        Self { redlock, last }
    }

    /// The present state. Who comes during a probe waits for it and shares it.
    pub(crate) async fn now(&self) -> Arc<everlock::Readiness> {
        let mut last = self.last.lock().await;
        if let Some(seen) = &*last
            && SystemClock.now().saturating_since(seen.at) < FRESH
        {
            return Arc::clone(&seen.state);
        }
        let probed = tokio::time::timeout(PROBE_TIME, self.redlock.readiness()).await;
        let state = Arc::new(probed.unwrap_or_else(|_| self.silence(last.as_ref())));
        *last = Some(Seen {
            at: SystemClock.now(),
            state: Arc::clone(&state),
        });
        state
    }

    /// What is to be said when the probe itself takes too long.
    fn silence(&self, last: Option<&Seen>) -> everlock::Readiness {
        let timeout = || Vote::Failed(Fault::unknown(FaultKind::Timeout, ""));
        let names = last
            .map(|seen| seen.state.nodes.clone())
            .unwrap_or_default();
        let nodes = names.into_iter().map(|(id, _)| (id, timeout()));
        everlock::Readiness {
            nodes: nodes.collect(),
            guards: Vec::new(),
            clocks_astray: false,
            quorum: everlock::majority(self.redlock.node_count()),
        }
    }
}
