//! A node whose answers the observer hears of.
//!
//! Invariant: of every command that is submitted exactly one answer is told, as its slot is
//! answered once. What is told changes nothing of what the ballot gets.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::{Ear, Judged, Listening, Node, NodeFuture, ReplySlot};
use crate::clock::{Clock, Moment};
use crate::core::admission::ServerFacts;
use crate::core::command::Command;
use crate::core::marker::{Bar, MarkerCommand, MarkerState, bar};
use crate::core::quorum::{Fault, FaultKind, Vote, majority};
use crate::core::types::{NodeId, Resource};
use crate::observer::{CommandTrace, Event, Observer};

/// What a look at a node's marker is called; every few seconds there is one.
const MARK: &str = "mark";

/// A node, and who hears of its answers.
struct Observed {
    node: Arc<dyn Node>,
    ears: Arc<Ears>,
}

struct Ears {
    id: NodeId,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
}

/// Waits for the answer to one command.
pub(super) struct Witness {
    ears: Arc<Ears>,
    operation: &'static str,
    asked: Moment,
    /// Who follows the operation hears of this command, too.
    trace: Option<Box<dyn CommandTrace>>,
}

/// The same nodes, of which this observer hears from now on.
pub(crate) fn observed(
    nodes: Vec<Arc<dyn Node>>,
    clock: &Arc<dyn Clock>,
    observer: &Arc<dyn Observer>,
) -> Vec<Arc<dyn Node>> {
    let ids: Vec<_> = nodes.iter().map(|node| node.id()).collect();
    observer.event(&Event::Opened {
        nodes: &ids,
        quorum: majority(ids.len()),
    });
    let observe = |node: Arc<dyn Node>| -> Arc<dyn Node> {
        let ears = Arc::new(Ears {
            id: node.id().clone(),
            clock: Arc::clone(clock),
            observer: Arc::clone(observer),
        });
        Arc::new(Observed { node, ears })
    };
    nodes.into_iter().map(observe).collect()
}

impl Observed {
    fn witness(&self, operation: &'static str) -> Witness {
        Witness {
            asked: self.ears.clock.now(),
            ears: Arc::clone(&self.ears),
            operation,
            trace: None,
        }
    }
}

impl Witness {
    pub(super) fn tell(self, vote: &Vote) {
        let ears = &self.ears;
        ears.observer.event(&Event::Answered {
            node: &ears.id,
            operation: self.operation,
            vote,
            took: ears.clock.now().saturating_since(self.asked),
        });
        if let Some(trace) = self.trace {
            trace.answered(vote);
        }
    }

    pub(super) fn sent(&mut self, together: usize) {
        if let Some(trace) = &mut self.trace {
            trace.sent(together);
        }
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").finish_non_exhaustive()
    }
}

/// A look at a marker. Who stops waiting for it had no answer in time.
struct Look(Option<Witness>);

impl Look {
    fn end(mut self, seen: &Result<MarkerState, Fault>) {
        if let Some(witness) = self.0.take() {
            witness.tell(&said(seen));
        }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(witness) = self.0.take() {
            let fault = Fault::unknown(FaultKind::Timeout, "");
            witness.tell(&Vote::Failed(fault));
        }
    }
}

/// What the node would have answered if it had been asked whether it may vote.
fn said(seen: &Result<MarkerState, Fault>) -> Vote {
    match seen {
        Ok(state) => match bar(state.marker.as_ref(), &state.run_id, state.time) {
            None => Vote::Pong,
            Some(Bar::Guarded(left)) => Vote::Guarded {
                remaining: Some(left),
            },
            Some(_) => Vote::Guarded { remaining: None },
        },
        Err(fault) => Vote::Failed(fault.clone()),
    }
}

impl Node for Observed {
    fn id(&self) -> &NodeId {
        self.node.id()
    }

    fn submit(&self, command: Command, not_after: Moment, mut slot: ReplySlot) {
        let operation = command.name();
        let mut witness = self.witness(operation);
        if let Some(trace) = slot.trace.take() {
            witness.trace = trace.command(&self.ears.id, operation);
        }
        slot.witness = Some(witness);
        self.node.submit(command, not_after, slot);
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        Box::pin(async move {
            let look = Look(Some(self.witness(MARK)));
            let seen = self.node.mark(command).await;
            look.end(&seen);
            seen
        })
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        self.node.facts()
    }

    fn last_judged(&self) -> Option<Judged> {
        self.node.last_judged()
    }

    fn listen(&self, resource: &Resource, ear: Ear) -> Listening {
        self.node.listen(resource, ear)
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        self.node.judge()
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}
