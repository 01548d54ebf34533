//! Logs: how they are written, and what the library's events say in them.
//!
//! Invariant: only changes are logged. A node that stays away is one line, not
//! one for each try. No line holds a key, a uuid or a URL.

mod lines;
mod quorum;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use everlock::metrics::MetricsObserver;
use everlock::observer::{Event, Observer, Trace};
use everlock::{Cause, NodeId, Report};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::lines::Lines;
use self::quorum::{Change, Quorum};
use crate::config::LogFormat;
use crate::insights::Insights;

/// Outages of a quorum are logged this often at most.
const OUTAGE_EVERY: Duration = Duration::from_secs(1);

/// Starts logging to standard error.
pub(crate) fn start(format: LogFormat, level: tracing::Level) {
    let ours = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("everlock", level)
        .with_target("everlock_proxy", level);
    let writer = Lines::new(std::io::stderr(), format);
    let registry = tracing_subscriber::registry().with(ours);
    // Only fails if logging was started before, which then goes on.
    let _ = match format {
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
            registry.with(lines.with_writer(writer)).try_init()
        }
        LogFormat::Plain => {
            let lines = tracing_subscriber::fmt::layer().with_ansi(false);
            registry.with(lines.with_writer(writer)).try_init()
        }
    };
}

/// Logs an outage of a quorum, with each node's answer.
pub(crate) fn note_outage(operation: &'static str, report: &Report) {
    static LAST: Mutex<Option<Moment>> = Mutex::new(None);
    let now = SystemClock.now();
    {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_since(last) < OUTAGE_EVERY) {
            return;
        }
        *last = Some(now);
    }
    tracing::warn!(operation, nodes = %report, "no quorum of nodes answers");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    Up,
    Guarded(Option<Cause>),
    Down,
}

/// Logs the changes of nodes, and of whether a quorum of them votes.
#[derive(Debug, Default)]
pub(crate) struct LogObserver {
    nodes: Mutex<HashMap<NodeId, NodeState>>,
    quorum: Quorum,
}

impl LogObserver {
    /// Whether this is news about the node.
    fn is_news(&self, node: &NodeId, state: NodeState) -> bool {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(node.clone(), state) != Some(state)
    }
}

/// Logs; counts, records what was in trouble, and traces, if anybody can look at it.
pub(crate) struct Observers {
    pub(crate) log: LogObserver,
    pub(crate) metrics: Option<Arc<MetricsObserver>>,
    pub(crate) insights: Arc<Insights>,
    /// Tells the requests that are traced.
    pub(crate) traces: Option<Arc<dyn Observer>>,
}

impl Observer for Observers {
    fn event(&self, event: &Event<'_>) {
        if let Some(metrics) = &self.metrics {
            metrics.event(event);
        }
        if let Some(traces) = &self.traces {
            traces.event(event);
        }
        self.insights.event(event);
        self.log.event(event);
    }

    fn follow(&self) -> Option<Arc<dyn Trace>> {
        self.traces.as_ref()?.follow()
    }
}

impl Observer for LogObserver {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::NodeUp {
                node,
                version,
                warnings,
            } if self.is_news(node, NodeState::Up) => {
                tracing::info!(%node, version, "node is up");
                for warning in *warnings {
                    tracing::warn!(%node, "{warning}");
                }
            }
            Event::NodeDown { node, fault } if self.is_news(node, NodeState::Down) => {
                tracing::warn!(%node, %fault, "node is down");
            }
            Event::NodeGuarded {
                node,
                remaining,
                cause,
            } if self.is_news(node, NodeState::Guarded(*cause)) => {
                let votes_in = remaining.map(|left| left.as_secs());
                let why = cause.map(tracing::field::display);
                tracing::warn!(%node, votes_in_seconds = votes_in, why, "node may have lost grants or let them go early, and waits before it votes");
            }
            _ => {}
        }
        match self.quorum.event(event) {
            Some(Change::Lost { guarded, down }) => {
                tracing::warn!(
                    down,
                    guarded,
                    "no quorum of nodes votes: no lock can be taken"
                );
            }
            Some(Change::Back) => tracing::info!("a quorum of nodes votes again"),
            None => {}
        }
    }
}
