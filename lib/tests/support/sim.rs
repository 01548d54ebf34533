//! One schedule of the simulation: everything in it follows from its seed.
//!
//! The clients are the real ones, the nodes keep the real rules; time is tokio's
//! and paused, so a schedule of seconds takes a millisecond or so.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Arguments;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::cluster::Cluster;
use everlock::entropy::{Entropy as _, SeededEntropy};
use everlock::node::Node;
use everlock::node::faulty::FaultyNode;
use everlock::{Redlock, Resource};
use everlock_testkit::history::{History, Violation, judge};

use super::sim_clients::Client;
use super::sim_nodes::{InTurn, SimClock, SimNode};
use super::sim_weather;

/// The cluster's longest lease.
pub(crate) const MAX_LEASE: Duration = Duration::from_secs(2);
/// No message is later.
pub(crate) const LATEST: u64 = 600;
pub(crate) const SILENCE: Duration = Duration::from_millis(150);
const NODE_TIMEOUT: Duration = Duration::from_millis(100);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The numbers that belong to a seed.
#[derive(Debug)]
pub(crate) struct Dice(SeededEntropy);

impl Dice {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(SeededEntropy::new(
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .wrapping_add(stream),
        ))
    }

    pub(crate) fn below(&self, sides: u64) -> u64 {
        self.0.bits() % sides
    }

    pub(crate) fn one_in(&self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    pub(crate) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// A protection that is switched off, to see that the simulation misses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    /// Nodes that forgot vote at once.
    RestartGuard,
    /// Nothing is taken off a lease, and clocks drift the more.
    DriftMargin,
    /// Nodes never hear an undo or a settlement.
    Undo,
}

/// What may go wrong in one schedule.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a thing that may happen or not"
)]
pub(crate) struct Terms {
    pub(crate) nodes: usize,
    pub(crate) clients: usize,
    pub(crate) resources: u64,
    /// In parts of a thousand messages, one for each of `sim_weather::MISHAPS`.
    pub(crate) odds: [u64; 7],
    /// No message that meets no mishap takes longer, in milliseconds.
    pub(crate) latency: u64,
    /// Which of `sim_weather::SPELLS` nodes may meet.
    pub(crate) spells: Vec<usize>,
    pub(crate) cancels: bool,
    pub(crate) pauses: bool,
    pub(crate) shared_owners: bool,
    /// Clocks of nodes jump and drift at will: only the tokens are promised then.
    pub(crate) wild_clocks: bool,
    /// How far clocks may drift, in parts of a million.
    pub(crate) drift: u64,
    pub(crate) without: Without,
}

impl Terms {
    fn draw(dice: &Dice, without: Without) -> Self {
        let mut odds = [0; 7];
        for odd in &mut odds {
            if dice.one_in(3) {
                // Mostly a few, now and then many.
                *odd = dice.below(if dice.one_in(5) { 250 } else { 60 });
            }
        }
        let all = 0..sim_weather::SPELLS.len();
        let wild_clocks = dice.one_in(5);
        Self {
            nodes: if dice.one_in(2) { 3 } else { 5 },
            clients: 2 + dice.index(3),
            resources: 1 + dice.below(2),
            odds,
            latency: [0, 5, 30][dice.index(3)],
            spells: all.filter(|_| dice.one_in(3)).collect(),
            cancels: dice.one_in(2),
            pauses: dice.one_in(3),
            shared_owners: dice.one_in(2),
            wild_clocks,
            drift: match without {
                Without::DriftMargin => 100_000,
                _ if wild_clocks => 200_000,
                _ => 4_000,
            },
            without,
        }
    }
}

/// What is noted of a schedule while it runs.
pub(crate) struct Notes {
    pub(crate) origin: tokio::time::Instant,
    pub(crate) terms: Terms,
    pub(crate) history: Mutex<History>,
    tally: Mutex<BTreeMap<&'static str, u64>>,
    trace: Option<Mutex<Vec<String>>>,
}

impl Notes {
    /// The true time.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap()
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.tally.lock().unwrap().entry(what).or_default() += 1;
    }

    pub(crate) fn trace(&self, line: Arguments<'_>) {
        if let Some(trace) = &self.trace {
            let at = self.now();
            trace.lock().unwrap().push(format!("{at:>9} {line}"));
        }
    }
}

/// What became of a schedule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How often what happened.
    pub(crate) tally: BTreeMap<&'static str, u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
}

/// Runs the schedule of this seed.
pub(crate) fn run(seed: u64, without: Without, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(schedule(seed, without, traced))
}

async fn schedule(seed: u64, without: Without, traced: bool) -> Outcome {
    let dice = Dice::new(seed, 0);
    let notes = Arc::new(Notes {
        origin: tokio::time::Instant::now(),
        terms: Terms::draw(&dice, without),
        history: Mutex::default(),
        tally: Mutex::default(),
        trace: traced.then(Mutex::default),
    });
    let world = World::open(seed, &notes).await;
    let clients = world.clients(seed).await;
    let weather = world.weather(seed);
    let mut work = tokio::task::JoinSet::new();
    for client in &clients {
        work.spawn(Arc::clone(client).work());
    }
    work.join_all().await;
    weather.join_all().await;
    let mut violations = world.settles(&clients).await;
    violations.extend(world.verdict());
    let tally = std::mem::take(&mut *notes.tally.lock().unwrap());
    let trace = notes.trace.as_ref();
    let trace = trace.map(|trace| std::mem::take(&mut *trace.lock().unwrap()));
    Outcome {
        tally,
        violations,
        trace: trace.unwrap_or_default(),
    }
}

struct World {
    notes: Arc<Notes>,
    nodes: Vec<Arc<SimNode>>,
    faulty: Vec<Arc<FaultyNode>>,
}

impl World {
    async fn open(seed: u64, notes: &Arc<Notes>) -> Self {
        let servers: Vec<_> = (0..notes.terms.nodes)
            .map(|number| SimNode::new(number, seed, notes))
            .collect();
        let faulty: Vec<_> = servers
            .iter()
            .map(|node| Arc::new(FaultyNode::new(node.clone()).silence(SILENCE)))
            .collect();
        let clock = SimClock::new(notes, &Dice::new(seed, 1), 0);
        let all = faulty.iter().map(|node| node.clone() as Arc<dyn Node>);
        let entropy = Arc::new(SeededEntropy::new(seed));
        let cluster = Cluster::of(all.collect(), Arc::new(clock), entropy);
        let opened = cluster.init(Some(MAX_LEASE)).await.unwrap();
        for node in &servers {
            node.joined(opened.cluster.clone());
        }
        Self {
            notes: Arc::clone(notes),
            nodes: servers,
            faulty,
        }
    }

    async fn clients(&self, seed: u64) -> Vec<Arc<Client>> {
        let mut clients = Vec::new();
        let owners = Arc::default();
        for number in 0..self.notes.terms.clients {
            let stream = 100 + number as u64;
            let dice = Dice::new(seed, stream);
            let skew = 1_000_000;
            let clock = Arc::new(SimClock::new(&self.notes, &dice, skew));
            let way = |node: &Arc<FaultyNode>| Arc::new(InTurn(node.clone())) as Arc<dyn Node>;
            let mut builder = Redlock::builder()
                .nodes(self.faulty.iter().map(way))
                .node_timeout(NODE_TIMEOUT)
                .patience(ms(300))
                .clock(clock.clone())
                .entropy(Arc::new(SeededEntropy::new(seed ^ (stream << 32))));
            if self.notes.terms.without == Without::DriftMargin {
                builder = builder.drift_factor(0.0);
            }
            let redlock = builder.connect().await.unwrap();
            let (notes, owners) = (Arc::clone(&self.notes), Arc::clone(&owners));
            clients.push(Client::new(number, redlock, clock, dice, notes, owners));
        }
        clients
    }

    fn weather(&self, seed: u64) -> tokio::task::JoinSet<()> {
        let mut weather = tokio::task::JoinSet::new();
        // These may forget what they knew, or have clocks that jump: a minority.
        let dice = Dice::new(seed, 2);
        let mut bad: BTreeSet<usize> = BTreeSet::new();
        while bad.len() < self.nodes.len() / 2 {
            bad.insert(dice.index(self.nodes.len()));
        }
        for (number, (node, faulty)) in self.nodes.iter().zip(&self.faulty).enumerate() {
            let dice = Dice::new(seed, 200 + number as u64);
            let may_forget = bad.contains(&number);
            let (node, faulty) = (Arc::clone(node), Arc::clone(faulty));
            weather.spawn(sim_weather::weather(node, faulty, dice, may_forget));
        }
        weather
    }

    /// Lets everything come to rest, and tells what is left that should not be.
    async fn settles(&self, clients: &[Arc<Client>]) -> Vec<String> {
        self.notes.trace(format_args!("the weather clears"));
        for node in &self.faulty {
            node.heal();
        }
        tokio::time::sleep(ms(LATEST) + 2 * SILENCE).await;
        let mut violations = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            if !client.redlock.drained(Duration::from_mins(1)).await {
                violations.push(format!("client {number} never ends telling nodes"));
            }
        }
        tokio::time::sleep(ms(LATEST) + SILENCE).await;
        violations.extend(self.left_of_released());
        // A clock that was set back lengthens what it had begun.
        let jumps = Duration::from_mins(self.notes.terms.spells.contains(&6).into());
        tokio::time::sleep(2 * MAX_LEASE + jumps).await;
        let locks: usize = self.nodes.iter().map(|node| node.memory.locks()).sum();
        if locks > 0 {
            violations.push(format!("{locks} locks outlive every lease"));
        }
        violations
    }

    /// Locks whose owner gave up every grant it was told of.
    fn left_of_released(&self) -> Vec<String> {
        let holds = self.notes.history.lock().unwrap().holds();
        let kept: BTreeSet<_> = holds
            .iter()
            .filter(|hold| hold.released.is_none())
            .map(|hold| (hold.resource, hold.owner.clone()))
            .collect();
        let mut left = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            for index in 0..2 {
                let resource = Resource::new(format!("r{index}")).unwrap();
                let Some(owner) = node.memory.holder(&resource) else {
                    continue;
                };
                if !kept.contains(&(index, owner.as_str().to_owned())) {
                    left.push(format!(
                        "node {number}: {} still holds r{index}",
                        owner.as_str()
                    ));
                }
            }
        }
        left
    }

    fn verdict(&self) -> Vec<String> {
        let holds = self.notes.history.lock().unwrap().holds();
        let timing = !self.notes.terms.wild_clocks;
        let counts = |violation: &Violation| timing || !matches!(violation, Violation::Overlap(..));
        let found = judge(&holds).into_iter().filter(counts);
        found.map(|violation| violation.to_string()).collect()
    }
}
