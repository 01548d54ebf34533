//! Each node's handles, and whether those that vote are a quorum.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram};

use super::{Source, names};
use crate::core::quorum::{FaultKind, Vote};
use crate::core::types::NodeId;

/// More nodes than any quorum has; further ones are not counted.
const MAX_NODES: usize = 32;

/// What node operations are called. Commands that differ in how they are told only share one.
const OPERATIONS: [&str; 9] = [
    "acquire", "extend", "release", "undo", "queue", "inspect", "ping", "mark", "other",
];

fn operation_of(command: &str) -> usize {
    match command {
        "acquire" | "acquire in turn" => 0,
        "extend" => 1,
        "release" | "pass-on" | "release in turn" => 2,
        "undo" | "settle" => 3,
        "stand" | "leave queue" | "queue" => 4,
        "inspect" => 5,
        "ping" => 6,
        "mark" => 7,
        _ => 8,
    }
}

/// All kinds of faults, as labels.
const FAULTS: [(FaultKind, &str); 13] = [
    (FaultKind::Refused, "refused"),
    (FaultKind::Unreachable, "unreachable"),
    (FaultKind::Timeout, "timeout"),
    (FaultKind::Disconnected, "disconnected"),
    (FaultKind::Loading, "loading"),
    (FaultKind::ReadOnly, "read_only"),
    (FaultKind::Misconf, "misconf"),
    (FaultKind::OutOfMemory, "out_of_memory"),
    (FaultKind::NotAuthenticated, "not_authenticated"),
    (FaultKind::NoPermission, "no_permission"),
    (FaultKind::Backlog, "backlog"),
    (FaultKind::Misconfigured, "misconfigured"),
    (FaultKind::Unexpected, "unexpected"),
];

/// What is known of a node.
const DOWN: u8 = 0;
const UP: u8 = 1;
const GUARDED: u8 = 2;

pub(super) struct Nodes {
    source: Source,
    /// Filled from the front.
    known: [OnceLock<NodeMetrics>; MAX_NODES],
    /// Held while a node is added, and while states are told.
    change: Mutex<()>,
    quorum: AtomicUsize,
    astray: AtomicBool,
    quorum_available: Gauge,
    clocks_astray: Gauge,
}

struct NodeMetrics {
    id: NodeId,
    state: AtomicU8,
    up: Gauge,
    guarded: Gauge,
    clock_offset: Gauge,
    errors: [Counter; FAULTS.len()],
    durations: [OnceLock<Histogram>; OPERATIONS.len()],
}

impl Nodes {
    pub(super) fn new(source: Source) -> Self {
        Self {
            quorum_available: source.gauge(names::QUORUM_AVAILABLE, &[]),
            clocks_astray: source.gauge(names::CLOCKS_ASTRAY, &[]),
            source,
            known: [const { OnceLock::new() }; MAX_NODES],
            change: Mutex::new(()),
            quorum: AtomicUsize::new(usize::MAX),
            astray: AtomicBool::new(false),
        }
    }

    pub(super) fn opened(&self, nodes: &[&NodeId], quorum: usize) {
        for node in nodes {
            self.node(node);
        }
        self.quorum.store(quorum, Ordering::Relaxed);
    }

    pub(super) fn up(&self, node: &NodeId) {
        self.tell(node, UP);
    }

    pub(super) fn down(&self, node: &NodeId) {
        self.tell(node, DOWN);
    }

    pub(super) fn guarded(&self, node: &NodeId) {
        self.tell(node, GUARDED);
    }

    pub(super) fn answered(
        &self,
        id: &NodeId,
        operation: &'static str,
        vote: &Vote,
        took: Duration,
    ) {
        let Some(node) = self.node(id) else { return };
        let operation = operation_of(operation);
        let duration = node.durations[operation].get_or_init(|| {
            let labels = [("node", id.as_str()), ("op", OPERATIONS[operation])];
            self.source.histogram(names::NODE_REQUEST_DURATION, &labels)
        });
        duration.record(took);
        let state = match vote {
            Vote::Failed(fault) => {
                let index = FAULTS.iter().position(|(kind, _)| *kind == fault.kind);
                if let Some(counter) = index.and_then(|index| node.errors.get(index)) {
                    counter.increment(1);
                }
                // One answer that was late, or that one command was refused, is no outage.
                match fault.kind {
                    FaultKind::Refused
                    | FaultKind::Unreachable
                    | FaultKind::Disconnected
                    | FaultKind::Misconfigured => DOWN,
                    _ => return,
                }
            }
            Vote::Guarded { .. } => GUARDED,
            _ => UP,
        };
        if node.state.load(Ordering::Relaxed) != state {
            self.tell(id, state);
        }
    }

    pub(super) fn clocks(&self, offsets: &[(&NodeId, Option<i64>)], astray: bool) {
        for (id, offset) in offsets {
            if let (Some(node), Some(micros)) = (self.node(id), offset) {
                let size = Duration::from_micros(micros.unsigned_abs()).as_secs_f64();
                node.clock_offset
                    .set(if *micros < 0 { -size } else { size });
            }
        }
        let change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        self.astray.store(astray, Ordering::Relaxed);
        self.clocks_astray.set(f64::from(u8::from(astray)));
        self.tell_quorum();
        drop(change);
    }

    pub(super) fn quorum_available(&self) -> bool {
        let known = self.known.iter().map_while(OnceLock::get);
        let voting = known.filter(|node| node.state.load(Ordering::Relaxed) == UP);
        let quorum = self.quorum.load(Ordering::Relaxed);
        voting.count() >= quorum && !self.astray.load(Ordering::Relaxed)
    }

    fn tell(&self, id: &NodeId, state: u8) {
        let Some(node) = self.node(id) else { return };
        // Gauges of one moment, in the order of the changes.
        let change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        node.state.store(state, Ordering::Relaxed);
        node.up.set(f64::from(u8::from(state != DOWN)));
        node.guarded.set(f64::from(u8::from(state == GUARDED)));
        self.tell_quorum();
        drop(change);
    }

    fn tell_quorum(&self) {
        let available = self.quorum_available();
        self.quorum_available.set(f64::from(u8::from(available)));
    }

    /// The node's handles, made if it is heard of for the first time.
    fn node(&self, id: &NodeId) -> Option<&NodeMetrics> {
        let find = || {
            let mut all = self.known.iter().map_while(OnceLock::get);
            all.find(|node| node.id == *id)
        };
        if let Some(found) = find() {
            return Some(found);
        }
        let change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = find() {
            return Some(found);
        }
        let free = self.known.iter().find(|node| node.get().is_none())?;
        let made = free.get_or_init(|| NodeMetrics::new(&self.source, id));
        drop(change);
        Some(made)
    }
}

impl NodeMetrics {
    fn new(source: &Source, id: &NodeId) -> Self {
        let node = ("node", id.as_str());
        Self {
            id: id.clone(),
            state: AtomicU8::new(DOWN),
            up: source.gauge(names::NODE_UP, &[node]),
            guarded: source.gauge(names::NODE_GUARDED, &[node]),
            clock_offset: source.gauge(names::NODE_CLOCK_OFFSET, &[node]),
            errors: FAULTS
                .map(|(_, kind)| source.counter(names::NODE_ERRORS, &[node, ("kind", kind)])),
            durations: [const { OnceLock::new() }; OPERATIONS.len()],
        }
    }
}
