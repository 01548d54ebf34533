//! The in-memory node keeps every rule of the conformance suite.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock, ManualClock, WallTime};
use everlock::node::Node;
use everlock::node::conformance::{Subject, Waiting};
use everlock::node::memory::MemoryNode;

struct Memory {
    node: Arc<MemoryNode>,
    clock: Arc<ManualClock>,
}

impl Subject for Memory {
    fn node(&self) -> Arc<dyn Node> {
        self.node.clone()
    }

    fn restart(&self) {
        self.node.restart(true);
    }

    fn forget(&self) {
        self.node.restart(false);
    }

    fn pass(&self, time: Duration) -> Waiting<'_> {
        self.clock.advance(time);
        Box::pin(std::future::ready(()))
    }

    fn step_back(&self, by: Duration) {
        self.clock.step_wall(self.clock.wall().minus(by));
    }
}

/// Whether a restart loses something is only what the marker says: the node itself never asks.
fn memory(_durable: bool) -> Memory {
    let clock = Arc::new(ManualClock::at(WallTime::from_micros(
        1_800_000_000_000_000,
    )));
    let node = Arc::new(MemoryNode::new("memory", clock.clone()));
    Memory { node, clock }
}

everlock::node_conformance!(memory);
