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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::cluster::Cluster;
use everlock::entropy::SeededEntropy;
use everlock::node::Node;
use everlock::node::faulty::FaultyNode;
use everlock::{Redlock, Resource, majority};
use everlock_testkit::history::{History, Violation, judge};

use super::sim_clients::{Client, Owners};
use super::sim_crowd::Sections;
use super::sim_line::Lines;
use super::sim_nodes::{SimClock, SimNode};
use super::sim_process::Process;
use super::sim_weather::{self, Spell};

/// The cluster's longest lease: mostly short, so that guards are over soon; in
/// some schedules so long that what is left behind is still there at the end.
const MAX_LEASES: [Duration; 3] = [ms(2_000), ms(2_000), ms(8_000)];
/// No message is later.
pub(crate) const LATEST: u64 = 600;
pub(crate) const SILENCE: Duration = Duration::from_millis(150);
pub(crate) const NODE_TIMEOUT: Duration = Duration::from_millis(100);
/// So many of a hundred requests stand in line, in one schedule or another.
const IN_TURN: [u64; 4] = [0, 50, 100, 100];
/// How far clocks may drift, in parts of a million: twice this is what a lease's
/// hundredth bears.
const DRIFT: u64 = 4_500;

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The numbers that belong to a seed.
#[derive(Debug)]
pub(crate) struct Dice(Mutex<u64>);

impl Dice {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let dice = Self(Mutex::new(seed));
        let mixed = dice.bits();
        Self(Mutex::new(mixed ^ stream.rotate_left(20)))
    }

    /// `SplitMix64`.
    fn bits(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&self, sides: u64) -> u64 {
        self.bits() % sides
    }

    pub(crate) fn one_in(&self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    pub(crate) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }
}

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Two owners may rely on one lock at once.
    Overlap,
    /// A later holder has no higher token, or two owners have one.
    Tokens,
    /// A client was told that it holds a lock of which less than it asked for is left.
    Late,
    /// A release was answered as done while a quorum of nodes had not let go.
    NotReleased,
    /// A lock that nobody was told of, or that was released, is still held.
    LeftBehind,
    /// A lock outlives every lease.
    Outlives,
    /// A client never ends telling nodes.
    Undrained,
    /// Who stood in line before was overtaken.
    Overtaken,
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
    pub(crate) max_lease: Duration,
    /// No message that meets no mishap takes longer, in milliseconds.
    pub(crate) latency: u64,
    /// What nodes may meet.
    pub(crate) spells: Vec<Spell>,
    pub(crate) cancels: bool,
    pub(crate) pauses: bool,
    pub(crate) deaths: bool,
    pub(crate) shared_owners: bool,
    /// One hold in so many is left to expire.
    pub(crate) left_to_expire: u64,
    /// So many of a hundred requests stand in line.
    pub(crate) in_turn: u64,
    /// The time of day steps at clients as well.
    pub(crate) client_steps: bool,
    /// Nodes have each write on disk before they answer.
    pub(crate) durable: bool,
    /// Clocks drift further than is compensated for: only the tokens are promised then.
    pub(crate) wild_clocks: bool,
    /// How far clocks may drift, in parts of a million.
    pub(crate) drift: u64,
    /// Tasks of one client may want the lock at once.
    pub(crate) crowds: bool,
}

impl Terms {
    fn draw(seed: u64) -> Self {
        let (dice, line) = (&Dice::new(seed, 0), Dice::new(seed, 5));
        let mut odds = [0; 7];
        for odd in &mut odds {
            if dice.one_in(3) {
                // Mostly a few, now and then many.
                *odd = dice.below(if dice.one_in(5) { 250 } else { 60 });
            }
        }
        let in_turn = IN_TURN[line.index(4)];
        let wild_clocks = dice.one_in(5);
        let durable = dice.one_in(4);
        let may_be = |spell: &Spell| match spell {
            // What is on disk before it is answered is not lost with a restart.
            Spell::RolledBack => !durable && dice.one_in(3),
            _ => dice.one_in(3),
        };
        let spells: Vec<_> = Spell::ALL.into_iter().filter(may_be).collect();
        Self {
            nodes: if dice.one_in(2) { 3 } else { 5 },
            clients: 2 + dice.index(3),
            // Where all stand in line, there is one line.
            resources: if in_turn == 100 { 1 } else { 1 + dice.below(2) },
            odds,
            max_lease: MAX_LEASES[dice.index(3)],
            latency: [0, 5, 30][dice.index(3)],
            spells,
            cancels: dice.one_in(2),
            pauses: dice.one_in(3),
            deaths: dice.one_in(4),
            shared_owners: dice.one_in(2),
            left_to_expire: [10, 10, 10, 2][dice.index(4)],
            in_turn,
            client_steps: line.one_in(3),
            durable,
            wild_clocks,
            drift: if wild_clocks { 200_000 } else { DRIFT },
            // Where all stand in line, mostly strangers do.
            crowds: Dice::new(seed, 6).one_in(if in_turn < 100 { 2 } else { 3 }),
        }
    }
}

/// What is noted of a schedule while it runs.
pub(crate) struct Notes {
    pub(crate) origin: tokio::time::Instant,
    pub(crate) terms: Terms,
    pub(crate) history: Mutex<History>,
    pub(crate) lines: Lines,
    tally: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<(Wrong, String)>>,
    trace: Option<Mutex<Vec<String>>>,
}

impl Notes {
    /// The true time.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap()
    }

    pub(crate) fn count(&self, what: &'static str) {
        self.count_all(what, 1);
    }

    pub(crate) fn count_all(&self, what: &'static str, times: u64) {
        if times > 0 {
            *self.tally.lock().unwrap().entry(what).or_default() += times;
        }
    }

    pub(crate) fn trace(&self, line: Arguments<'_>) {
        if let Some(trace) = &self.trace {
            let at = self.now();
            trace.lock().unwrap().push(format!("{at:>9} {line}"));
        }
    }

    pub(crate) fn wrong(&self, what: Wrong, line: String) {
        self.trace(format_args!("WRONG: {what:?}: {line}"));
        self.wrong.lock().unwrap().push((what, line));
    }
}

/// What became of a schedule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How often what happened.
    pub(crate) tally: BTreeMap<&'static str, u64>,
    pub(crate) wrong: Vec<(Wrong, String)>,
    pub(crate) trace: Vec<String>,
}

/// Runs the schedule of this seed.
pub(crate) fn run(seed: u64, traced: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(schedule(seed, traced))
}

async fn schedule(seed: u64, traced: bool) -> Outcome {
    let notes = Arc::new(Notes {
        origin: tokio::time::Instant::now(),
        terms: Terms::draw(seed),
        history: Mutex::default(),
        lines: Lines::default(),
        tally: Mutex::default(),
        wrong: Mutex::default(),
        trace: traced.then(Mutex::default),
    });
    let world = World::open(seed, &notes).await;
    let clients: Vec<_> = (0..notes.terms.clients)
        .map(|number| Client::new(number, seed, &world))
        .collect();
    for client in &clients {
        client.may_connect_early().await;
    }
    let weather = world.weather(seed);
    let mut work = tokio::task::JoinSet::new();
    for client in &clients {
        work.spawn(Arc::clone(client).work());
    }
    work.join_all().await;
    weather.join_all().await;
    world.settles().await;
    world.verdict();
    world.bury();
    let trace = notes.trace.as_ref();
    let trace = trace.map(|trace| std::mem::take(&mut *trace.lock().unwrap()));
    Outcome {
        tally: std::mem::take(&mut *notes.tally.lock().unwrap()),
        wrong: std::mem::take(&mut *notes.wrong.lock().unwrap()),
        trace: trace.unwrap_or_default(),
    }
}

/// A client's process.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) process: Arc<Process>,
    pub(crate) redlock: Redlock,
}

pub(crate) struct World {
    pub(crate) notes: Arc<Notes>,
    pub(crate) nodes: Vec<Arc<SimNode>>,
    faulty: Vec<Arc<FaultyNode>>,
    pub(crate) owners: Mutex<Owners>,
    pub(crate) sections: Sections,
    running: Mutex<Vec<Running>>,
    processes: AtomicU64,
}

impl World {
    async fn open(seed: u64, notes: &Arc<Notes>) -> Arc<Self> {
        let servers: Vec<_> = (0..notes.terms.nodes)
            .map(|number| SimNode::new(number, seed, notes))
            .collect();
        let faulty: Vec<_> = servers
            .iter()
            .map(|node| Arc::new(FaultyNode::new(node.clone()).silence(SILENCE)))
            .collect();
        let clock = SimClock::of_node(notes, &Dice::new(seed, 1));
        let all = faulty.iter().map(|node| node.clone() as Arc<dyn Node>);
        let entropy = Arc::new(SeededEntropy::new(seed));
        let cluster = Cluster::of(all.collect(), Arc::new(clock), entropy);
        let opened = cluster.init(Some(notes.terms.max_lease)).await.unwrap();
        for node in &servers {
            node.joined(opened.cluster.clone());
        }
        Arc::new(Self {
            notes: Arc::clone(notes),
            nodes: servers,
            faulty,
            owners: Mutex::default(),
            sections: Sections::default(),
            running: Mutex::default(),
            processes: AtomicU64::new(1),
        })
    }

    /// Starts a client's process, which may find nodes away or silent.
    pub(crate) async fn connect(&self, client: usize, clock: &Arc<SimClock>, seed: u64) -> Running {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let process = Arc::new(Process::default());
        let redlock = Redlock::builder()
            .nodes(process.ways(client, &self.faulty, &self.notes))
            .node_timeout(NODE_TIMEOUT)
            .patience(ms(300))
            .clock(clock.clone())
            .entropy(Arc::new(SeededEntropy::new(seed ^ (number << 32))))
            .connect()
            .await
            .unwrap();
        let running = Running { process, redlock };
        self.running.lock().unwrap().push(running.clone());
        running
    }

    fn weather(&self, seed: u64) -> tokio::task::JoinSet<()> {
        let mut weather = tokio::task::JoinSet::new();
        // These may forget what they knew, or have clocks that jump: a minority.
        let dice = Dice::new(seed, 2);
        let mut minority: BTreeSet<usize> = BTreeSet::new();
        while minority.len() < self.nodes.len() / 2 {
            minority.insert(dice.index(self.nodes.len()));
        }
        for (number, (node, faulty)) in self.nodes.iter().zip(&self.faulty).enumerate() {
            let dice = Dice::new(seed, 200 + number as u64);
            let (node, faulty) = (Arc::clone(node), Arc::clone(faulty));
            let in_minority = minority.contains(&number);
            weather.spawn(sim_weather::weather(node, faulty, dice, in_minority));
        }
        weather
    }

    /// Lets everything come to rest, and tells what is left that should not be.
    async fn settles(&self) {
        let notes = &self.notes;
        notes.trace(format_args!("the weather clears"));
        for node in &self.faulty {
            node.heal();
        }
        tokio::time::sleep(ms(LATEST) + 2 * SILENCE).await;
        let running = self.running.lock().unwrap().clone();
        for running in running.iter().filter(|client| !client.process.is_dead()) {
            if !running.redlock.drained(Duration::from_mins(1)).await {
                notes.wrong(Wrong::Undrained, "a client never ends telling nodes".into());
            }
        }
        tokio::time::sleep(ms(LATEST) + SILENCE).await;
        self.left_of_released();
        // A clock that was set back lengthens what it had begun.
        let jumps = notes.terms.spells.contains(&Spell::ClockJumped);
        let longer = Duration::from_mins(jumps.into());
        tokio::time::sleep(2 * notes.terms.max_lease + longer).await;
        let locks: usize = self.nodes.iter().map(|node| node.memory.locks()).sum();
        if locks > 0 {
            notes.wrong(Wrong::Outlives, format!("{locks} locks"));
        }
        for node in &self.nodes {
            let waiters = node.waiters();
            if waiters > 0 {
                notes.wrong(Wrong::Outlives, format!("{waiters} tickets"));
            }
        }
    }

    /// Locks whose owner gave up every grant it was told of. Some end with their
    /// lease only: what the dead have left, what a node holds again that was rolled
    /// back or whose clock jumped, and grants on which more calls rested than are counted.
    fn left_of_released(&self) {
        let holds = self.notes.history.lock().unwrap().holds();
        let kept: BTreeSet<_> = holds
            .iter()
            // One that another call was told of after the release stands on its own.
            .filter(|hold| hold.released.is_none_or(|at| at < hold.acquired))
            .map(|hold| (hold.resource, hold.owner.as_str()))
            .collect();
        let owners = self.owners.lock().unwrap();
        let keeps_its_word = |node: &&Arc<SimNode>| !node.unreliable.load(Ordering::Relaxed);
        for node in self.nodes.iter().filter(keeps_its_word) {
            for index in 0..2 {
                let resource = Resource::new(format!("r{index}")).unwrap();
                let Some(owner) = node.memory.holder(&resource) else {
                    continue;
                };
                let owner = owner.as_str();
                if !kept.contains(&(index, owner)) && !owners.may_be_left(owner) {
                    let line = format!("node {}: {owner} still holds r{index}", node.number);
                    self.notes.wrong(Wrong::LeftBehind, line);
                }
            }
        }
    }

    fn verdict(&self) {
        let notes = &self.notes;
        let holds = notes.history.lock().unwrap().holds();
        for violation in judge(&holds) {
            let what = match violation {
                // Overlap is possible while clocks are wild.
                Violation::Overlap(..) if notes.terms.wild_clocks => continue,
                Violation::Overlap(..) => Wrong::Overlap,
                Violation::Inversion(..) | Violation::Shared(..) => Wrong::Tokens,
            };
            notes.wrong(what, violation.to_string());
        }
        let order = notes.lines.judged(majority(notes.terms.nodes));
        notes.count_all("granted in turn", order.grants);
        notes.count_all(
            "granted in turn while others stood in line",
            order.contended,
        );
        if let Some(overtaking) = order.first {
            notes.wrong(Wrong::Overtaken, overtaking.to_string());
        }
    }

    fn bury(&self) {
        for running in self.running.lock().unwrap().drain(..) {
            running.process.bury();
        }
    }
}
