//! Hazard: openings of a new set that meet, whatever the messages' order.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock, Moment, WallTime};
use everlock::cluster::{Cluster, Initialised};
use everlock::entropy::SeededEntropy;
use everlock::node::memory::MemoryNode;
use everlock::node::{Judged, Node, NodeFuture, ReplySlot};
use everlock::protocol::{Command, MarkerCommand, MarkerState, ServerFacts};
use everlock::{ConfigError, NodeId};
use support::Dice;

const MAX_LEASE: Duration = Duration::from_mins(1);
const EPOCH: Duration = Duration::from_hours(500_000);

/// Tokio's time; the wall clock is so far ahead.
#[derive(Debug)]
struct Ahead(tokio::time::Instant, Duration);

impl Clock for Ahead {
    fn now(&self) -> Moment {
        Moment::from_origin(Duration::from_hours(1) + self.0.elapsed())
    }

    fn wall(&self) -> WallTime {
        let wall = EPOCH + self.0.elapsed() + self.1;
        WallTime::from_micros(u64::try_from(wall.as_micros()).unwrap())
    }
}

/// A node whose marker's messages take their time, now and then much of it.
struct Slow(Arc<MemoryNode>, Arc<Dice>);

impl Slow {
    async fn pass<T>(&self, question: NodeFuture<'_, T>) -> Result<T, everlock::Fault> {
        self.on_the_way().await;
        let answer = question.await;
        self.on_the_way().await;
        answer
    }

    async fn on_the_way(&self) {
        let longest = if self.1.below(10) == 0 { 20_000 } else { 2_000 };
        tokio::time::sleep(Duration::from_micros(self.1.below(longest))).await;
    }
}

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Node for Slow {
    fn id(&self) -> &NodeId {
        self.0.id()
    }

    fn submit(&self, command: Command, not_after: Moment, slot: ReplySlot) {
        self.0.submit(command, not_after, slot);
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        Box::pin(self.pass(self.0.mark(command)))
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        Box::pin(self.pass(self.0.facts()))
    }

    fn last_judged(&self) -> Option<Judged> {
        self.0.last_judged()
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        self.0.judge()
    }
}

struct NewSet {
    origin: tokio::time::Instant,
    memory: Vec<Arc<MemoryNode>>,
    dice: Arc<Dice>,
}

impl NewSet {
    fn of(count: usize, seed: u64) -> Self {
        let origin = tokio::time::Instant::now();
        let clock = Arc::new(Ahead(origin, Duration::ZERO));
        let memory = (0..count)
            .map(|number| Arc::new(MemoryNode::new(&format!("node-{number}"), clock.clone())));
        Self {
            origin,
            memory: memory.collect(),
            dice: Arc::new(Dice::new(seed)),
        }
    }

    /// Opens it, from a machine whose clock is so many seconds ahead.
    async fn open(&self, seed: u64, ahead: u64) -> Result<Initialised, ConfigError> {
        let slow = |node: &Arc<MemoryNode>| {
            Arc::new(Slow(node.clone(), self.dice.clone())) as Arc<dyn Node>
        };
        let nodes = self.memory.iter().map(slow).collect();
        let clock = Ahead(self.origin, Duration::from_secs(ahead));
        let entropy = Arc::new(SeededEntropy::new(seed));
        let cluster = Cluster::of(nodes, Arc::new(clock), entropy);
        cluster.init(Some(MAX_LEASE)).await
    }
}

#[tokio::test(start_paused = true)]
async fn openings_that_meet_in_any_order_leave_one_set_that_everybody_can_use() {
    for seed in 0..1_000 {
        let set = NewSet::of(3, seed);
        let pause = Duration::from_millis(set.dice.below(12));
        // The second one's cluster id is the lower one: it is made from the time.
        let (one, other, third) = tokio::join!(
            set.open(3 * seed, 1),
            async {
                tokio::time::sleep(pause).await;
                set.open(3 * seed + 1, 0).await
            },
            async {
                tokio::time::sleep(pause / 2).await;
                set.open(3 * seed + 2, 2).await
            }
        );
        let later = set.open(7, 0).await;
        let later = later.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(!later.opened && later.away.is_empty(), "seed {seed}");
        assert_eq!(later.guarded, [], "seed {seed}: nobody has to wait");
        for opened in [one, other, third] {
            let opened = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(opened.cluster, later.cluster, "seed {seed}");
        }
    }
}
