//! A small world for tests: in-memory nodes behind faults, on tokio's own time.
//!
//! Under a paused tokio clock (`start_paused`) nothing in it takes real time.

#![allow(dead_code, reason = "every test file uses its own part of it")]

pub(crate) mod filter;
pub(crate) mod leases;
pub(crate) mod redis;
pub(crate) mod secured;
pub(crate) mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use everlock::clock::{Clock, Moment, WallTime};
use everlock::cluster::Cluster;
use everlock::entropy::{Entropy, SeededEntropy, SystemEntropy};
use everlock::node::Node;
use everlock::node::faulty::FaultyNode;
use everlock::node::memory::MemoryNode;
use everlock::{AcquireOptions, OwnerId, Redlock, RedlockBuilder, Resource, Vote};

/// Enough for everything that tests lock.
pub(crate) const MAX_LEASE: Duration = Duration::from_mins(5);
/// A node that is silent counts as away after this.
const SILENCE: Duration = Duration::from_millis(400);
const EPOCH: u64 = 1_800_000_000_000_000;

/// Tokio's time as a clock; its wall clock may be wrong.
#[derive(Debug)]
pub(crate) struct TokioClock {
    origin: tokio::time::Instant,
    offset: AtomicI64,
}

impl TokioClock {
    pub(crate) fn new(origin: tokio::time::Instant) -> Self {
        Self {
            origin,
            offset: AtomicI64::new(0),
        }
    }

    /// Sets the wall clock this far from the true time, in seconds.
    pub(crate) fn skew(&self, seconds: i64) {
        self.offset.store(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Moment {
        Moment::from_origin(Duration::from_hours(1) + self.origin.elapsed())
    }

    fn wall(&self) -> WallTime {
        let micros = u64::try_from(self.origin.elapsed().as_micros()).unwrap();
        let true_time = EPOCH + micros;
        WallTime::from_micros(true_time.saturating_add_signed(self.offset.load(Ordering::Relaxed)))
    }
}

/// Nodes, and what can go wrong with them.
pub(crate) struct World {
    origin: tokio::time::Instant,
    /// What the nodes know.
    pub(crate) memory: Vec<Arc<MemoryNode>>,
    /// The nodes as clients reach them.
    pub(crate) faulty: Vec<Arc<FaultyNode>>,
}

impl World {
    /// `count` open nodes in order.
    pub(crate) async fn of(count: usize) -> Self {
        Self::with_max_lease(count, MAX_LEASE).await
    }

    pub(crate) async fn with_max_lease(count: usize, max_lease: Duration) -> Self {
        let origin = tokio::time::Instant::now();
        let memory: Vec<_> = (1..=count)
            .map(|number| {
                let clock = Arc::new(TokioClock::new(origin));
                Arc::new(MemoryNode::new(&format!("node-{number}"), clock))
            })
            .collect();
        let faulty: Vec<_> = memory
            .iter()
            .map(|node| Arc::new(FaultyNode::new(node.clone()).silence(SILENCE)))
            .collect();
        let world = Self {
            origin,
            memory,
            faulty,
        };
        let clock = Arc::new(world.clock());
        let cluster = Cluster::of(world.nodes(), clock, Arc::new(SystemEntropy));
        cluster.init(Some(max_lease)).await.unwrap();
        world
    }

    /// A true clock.
    pub(crate) fn clock(&self) -> TokioClock {
        TokioClock::new(self.origin)
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<dyn Node>> {
        let nodes = self.faulty.iter();
        nodes.map(|node| node.clone() as Arc<dyn Node>).collect()
    }

    /// The configuration of a client with a true clock.
    pub(crate) fn builder(&self) -> RedlockBuilder {
        Redlock::builder()
            .nodes(self.nodes())
            .clock(Arc::new(self.clock()))
    }

    /// A client with a true clock; its choices follow from the seed.
    pub(crate) async fn client(&self, seed: u64) -> Redlock {
        let entropy = Arc::new(SeededEntropy::new(seed));
        self.builder().entropy(entropy).connect().await.unwrap()
    }

    /// A client with a clock that can be set wrong.
    pub(crate) async fn client_with_clock(&self, seed: u64) -> (Redlock, Arc<TokioClock>) {
        let clock = Arc::new(self.clock());
        let entropy = Arc::new(SeededEntropy::new(seed));
        let builder = self.builder().entropy(entropy).clock(clock.clone());
        (builder.connect().await.unwrap(), clock)
    }

    /// Who holds the resource, node by node.
    pub(crate) fn holders(&self, resource: &str) -> Vec<Option<String>> {
        let resource = Resource::new(resource).unwrap();
        let nodes = self.memory.iter();
        nodes
            .map(|node| {
                node.holder(&resource)
                    .map(|owner| owner.as_str().to_owned())
            })
            .collect()
    }

    /// On how many nodes this owner holds the resource.
    pub(crate) fn held_by(&self, resource: &str, owner: &OwnerId) -> usize {
        let holders = self.holders(resource);
        let ours = |holder: &&Option<String>| holder.as_deref() == Some(owner.as_str());
        holders.iter().filter(ours).count()
    }

    /// How many locks there are on all nodes together.
    pub(crate) fn left(&self) -> usize {
        self.memory.iter().map(|node| node.locks()).sum()
    }

    pub(crate) fn heal(&self) {
        for node in &self.faulty {
            node.heal();
        }
    }
}

/// One attempt, for a lease that outlasts the test.
pub(crate) fn once() -> AcquireOptions {
    AcquireOptions::new()
        .retries(0)
        .lease(Duration::from_mins(1))
}

/// The numbers that belong to a seed.
pub(crate) struct Dice(SeededEntropy);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    pub(crate) fn below(&self, sides: u64) -> u64 {
        self.0.bits() % sides
    }
}

/// The first word of a vote's `Debug`.
pub(crate) fn word(vote: &Vote) -> String {
    let text = format!("{vote:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}
