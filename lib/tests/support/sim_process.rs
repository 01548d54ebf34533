//! A client's process: it may die, with everything that it had still to tell.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use everlock::clock::Moment;
use everlock::node::faulty::FaultyNode;
use everlock::node::{Ear, Judged, Listening, Node, NodeFuture, ReplySlot};
use everlock::protocol::{Command, MarkerCommand, MarkerState, ServerFacts};
use everlock::{NodeId, Resource};

use super::sim::Notes;

/// What all ways from one process to the nodes share.
#[derive(Debug, Default)]
pub(crate) struct Process {
    dead: AtomicBool,
    /// What it would have sent after its death. Nobody ever answers these.
    unsent: Mutex<Vec<ReplySlot>>,
}

impl Process {
    /// The ways from this process, a client's, to the nodes.
    pub(crate) fn ways(
        self: &Arc<Self>,
        client: usize,
        to: &[Arc<FaultyNode>],
        notes: &Arc<Notes>,
    ) -> Vec<Arc<dyn Node>> {
        let way = |node: &Arc<FaultyNode>| {
            Arc::new(Way {
                node: Arc::clone(node),
                process: Arc::clone(self),
                client,
                notes: Arc::clone(notes),
            }) as Arc<dyn Node>
        };
        to.iter().map(way).collect()
    }

    /// Nothing leaves it from now on; what it has sent already goes its way.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Ends the circle of a dead client that waits for answers to itself.
    pub(crate) fn bury(&self) {
        self.die();
        loop {
            let unsent = std::mem::take(&mut *self.unsent.lock().unwrap());
            if unsent.is_empty() {
                return;
            }
            drop(unsent);
        }
    }
}

/// The way from one process to one node.
struct Way {
    node: Arc<FaultyNode>,
    process: Arc<Process>,
    client: usize,
    notes: Arc<Notes>,
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.node.fmt(f)
    }
}

impl Node for Way {
    fn id(&self) -> &NodeId {
        self.node.id()
    }

    fn submit(&self, command: Command, not_after: Moment, slot: ReplySlot) {
        if self.process.is_dead() {
            self.process.unsent.lock().unwrap().push(slot);
        } else {
            self.notes.lines.sent(self.client, &command);
            self.node.submit(command, not_after, slot);
        }
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        if self.process.is_dead() {
            return Box::pin(pending());
        }
        self.node.mark(command)
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        if self.process.is_dead() {
            return Box::pin(pending());
        }
        self.node.facts()
    }

    fn listen(&self, resource: &Resource, ear: Ear) -> Listening {
        self.node.listen(resource, ear)
    }

    fn last_judged(&self) -> Option<Judged> {
        self.node.last_judged()
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        self.node.judge()
    }
}
