//! The simulation's nodes: clocks that differ, and servers that forget.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use everlock::clock::{Clock, Moment, WallTime};
use everlock::node::memory::MemoryNode;
use everlock::node::{Ear, Judged, Listening, Node, NodeFuture, ReplySlot};
use everlock::protocol::{
    Admission, ClusterInfo, Command, MarkerCommand, MarkerState, Register, ServerFacts, Turn, judge,
};
use everlock::{FencingToken, Grant, NodeId, Resource, Vote};

use super::sim::{Dice, Notes, ms};

const EPOCH: u64 = 1_800_000_000_000_000;
const MILLION: i128 = 1_000_000;

/// True time, some of it added or lost: its own rate, its own offset.
pub(crate) struct SimClock {
    origin: tokio::time::Instant,
    /// Gained in a million.
    rate: i128,
    offset: AtomicI64,
    thrown: AtomicI64,
    /// A client's readings fall between the milliseconds of paused time.
    between: Option<Dice>,
}

impl SimClock {
    pub(crate) fn of_node(notes: &Notes, dice: &Dice) -> Self {
        Self::new(notes, dice, 300_000, None)
    }

    pub(crate) fn of_client(notes: &Notes, dice: &Dice) -> Self {
        let between = Dice::new(dice.below(u64::MAX), 3);
        Self::new(notes, dice, 1_000_000, Some(between))
    }

    /// Its wall clock may be `skew` microseconds wrong, either way.
    fn new(notes: &Notes, dice: &Dice, skew: u64, between: Option<Dice>) -> Self {
        let either_way = |most: u64| {
            let drawn = i64::try_from(dice.below(2 * most + 1)).unwrap();
            drawn - i64::try_from(most).unwrap()
        };
        let most = notes.terms.drift;
        // The bound itself often, since that is where a margin that is too small shows.
        let rate = match dice.below(4) {
            0 => i64::try_from(most).unwrap(),
            1 => -i64::try_from(most).unwrap(),
            _ => either_way(most),
        };
        Self {
            origin: notes.origin,
            rate: i128::from(rate),
            offset: AtomicI64::new(either_way(skew)),
            thrown: AtomicI64::new(0),
            between,
        }
    }

    fn elapsed(&self) -> u64 {
        let micros = i128::try_from(self.origin.elapsed().as_micros()).unwrap();
        u64::try_from(micros * (MILLION + self.rate) / MILLION).unwrap()
    }

    /// The true time at which this clock shows a moment.
    pub(crate) fn true_time(&self, moment: Moment) -> u64 {
        let shown = i128::try_from(moment.since_origin().as_micros()).unwrap();
        let shown = (shown - 3_600 * MILLION).max(0);
        u64::try_from(shown * MILLION / (MILLION + self.rate)).unwrap()
    }

    pub(crate) fn jump(&self, by: i64) {
        self.offset.fetch_add(by, Ordering::Relaxed);
        self.thrown.fetch_add(by, Ordering::Relaxed);
    }

    /// By how much it was set in all.
    pub(crate) fn thrown(&self) -> i64 {
        self.thrown.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for SimClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimClock").finish_non_exhaustive()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        Moment::from_origin(Duration::from_hours(1) + Duration::from_micros(self.elapsed()))
    }

    fn wall(&self) -> WallTime {
        let between = self.between.as_ref().map_or(0, |dice| dice.below(1_000));
        let shown = EPOCH + self.elapsed() + between;
        WallTime::from_micros(shown.saturating_add_signed(self.offset.load(Ordering::Relaxed)))
    }
}

/// A node in memory that is judged as a server is when it may have forgotten.
pub(crate) struct SimNode {
    pub(crate) memory: MemoryNode,
    pub(crate) number: usize,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) notes: Arc<Notes>,
    dice: Dice,
    cluster: OnceLock<ClusterInfo>,
    /// When the server started, in true microseconds.
    started: AtomicU64,
    /// Each grant, and its true time.
    granted: Mutex<Vec<(FencingToken, u64)>>,
    judging: AtomicBool,
    /// Whether it may hold again what was let go: it forgot that, or refused the
    /// floor of an undo for its token, which lay too far ahead of a clock set back.
    pub(crate) unreliable: AtomicBool,
    this: Weak<Self>,
}

impl SimNode {
    pub(crate) fn new(number: usize, seed: u64, notes: &Arc<Notes>) -> Arc<Self> {
        let dice = Dice::new(seed, 300 + number as u64);
        let clock = Arc::new(SimClock::of_node(notes, &dice));
        let memory = MemoryNode::new(&format!("node-{number}"), clock.clone());
        Arc::new_cyclic(|this| Self {
            memory,
            number,
            clock,
            notes: Arc::clone(notes),
            dice,
            cluster: OnceLock::new(),
            started: AtomicU64::new(0),
            granted: Mutex::default(),
            judging: AtomicBool::new(false),
            unreliable: AtomicBool::new(false),
            this: this.clone(),
        })
    }

    pub(crate) fn joined(&self, cluster: ClusterInfo) {
        let _ = self.cluster.set(cluster);
    }

    /// A new run of the server begins with all that it knew.
    pub(crate) fn restart(&self) {
        self.started.store(self.notes.now(), Ordering::Relaxed);
        self.memory.restart(true);
    }

    /// A new run of the server begins with this on its disk.
    pub(crate) fn restart_from(&self, snapshot: Register) {
        self.started.store(self.notes.now(), Ordering::Relaxed);
        self.memory.restart_from(snapshot);
        self.notes.lines.forgotten(self.number);
    }

    /// Whether the owner has held the resource under this token since before `since`,
    /// and the server has run as long.
    pub(crate) fn has_held(&self, grant: &Grant, since: u64) -> bool {
        let token = grant.token();
        let reply = self.memory.apply(&Command::Inspect {
            resource: grant.resource().clone(),
        });
        // Another owner may have proposed the same token, and lost.
        let same = matches!(
            reply.vote,
            Vote::Holder { token: of, owner, .. }
                if of == Some(token) && *owner == *grant.owner().as_str()
        );
        let granted = self.granted.lock().unwrap();
        let before = granted.iter().any(|(of, at)| *of == token && *at < since);
        same && before && self.started.load(Ordering::Relaxed) < since
    }

    /// How many stand in its lines.
    pub(crate) fn waiters(&self) -> u32 {
        let length = |index: u32| {
            let resource = Resource::new(format!("r{index}")).unwrap();
            match self.memory.apply(&Command::Queue { resource }).vote {
                Vote::Queue { length } => length,
                other => panic!("{other:?}"),
            }
        };
        length(0) + length(1)
    }

    /// Some client's connection judges the server soon.
    fn wants_judgement(&self) {
        let Some(node) = self.this.upgrade() else {
            return;
        };
        if self.judging.swap(true, Ordering::Relaxed) {
            return;
        }
        let pause = ms(self.dice.below(150));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            node.judging.store(false, Ordering::Relaxed);
            node.be_judged().await;
        });
    }

    /// As each connection to a server does: by the rules of `admission`.
    async fn be_judged(&self) -> Judged {
        let state = self.memory.mark(MarkerCommand::Read).await.unwrap();
        let facts = self.facts().await.unwrap();
        match judge(&facts, &state, self.cluster.get(), self.notes.terms.nodes) {
            Admission::Serve(cluster) => Judged::Serving(cluster),
            Admission::Guard(cluster) => {
                self.notes.count("guarded");
                self.notes
                    .trace(format_args!("node {} is guarded", self.number));
                let guard = MarkerCommand::Guard {
                    cluster: cluster.clone(),
                    started: facts.started(state.time),
                    durable: facts.survives_restart(),
                };
                self.memory.mark(guard).await.unwrap();
                Judged::Serving(cluster)
            }
            Admission::Uninitialised => Judged::Uninitialised,
            Admission::Refuse(problem) => Judged::Refused(problem),
        }
    }
}

impl std::fmt::Debug for SimNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.memory.fmt(f)
    }
}

impl Node for SimNode {
    fn id(&self) -> &NodeId {
        self.memory.id()
    }

    fn submit(&self, command: Command, _not_after: Moment, slot: ReplySlot) {
        let reply = self.memory.apply(&command);
        if let Some(time) = reply.time {
            let stands = |resource: &_, call| self.memory.ticket(resource, call);
            let here = (self.number, time);
            self.notes
                .lines
                .answered(here, &command, &reply.vote, stands);
        }
        self.notes.trace(format_args!(
            "node {} {} => {:?}",
            self.number,
            Told(&command),
            reply.vote
        ));
        match (&command, &reply.vote) {
            (_, Vote::Guarded { remaining: None }) => self.wants_judgement(),
            (
                Command::Acquire { token, .. } | Command::AcquireInTurn { token, .. },
                Vote::Granted,
            ) => {
                self.granted
                    .lock()
                    .unwrap()
                    .push((*token, self.notes.now()));
            }
            (_, Vote::Stale { .. }) => self.notes.count("stale"),
            (_, Vote::Ahead) => self.notes.count("ahead"),
            (_, Vote::Again { .. }) => self.notes.count("again"),
            (_, Vote::Undone { deleted: true }) => self.notes.count("undone"),
            (_, Vote::Settled { deleted: true }) => self.notes.count("settled"),
            (_, Vote::Newer { .. }) => self.notes.count("newer"),
            _ => {}
        }
        slot.reply(reply);
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        Box::pin(async move {
            let line = command.clone();
            let state = self.memory.mark(command).await;
            let number = self.number;
            if !matches!(line, MarkerCommand::Read) {
                self.notes
                    .trace(format_args!("node {number} marker: {line:?}"));
            }
            state
        })
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        Box::pin(async move {
            let ran = self.notes.now() - self.started.load(Ordering::Relaxed);
            let facts = self.memory.facts().await?;
            Ok(ServerFacts {
                uptime_secs: ran / 1_000_000,
                durable: Some(self.notes.terms.durable),
                ..facts
            })
        })
    }

    fn listen(&self, resource: &Resource, ear: Ear) -> Listening {
        self.memory.listen(resource, ear)
    }

    fn last_judged(&self) -> Option<Judged> {
        self.cluster.get().cloned().map(Judged::Serving)
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        Box::pin(self.be_judged())
    }
}

/// A command in one line.
pub(crate) struct Told<'a>(pub(crate) &'a Command);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (command, name) = (self.0, self.0.name());
        let (resource, owner) = match command {
            Command::Acquire {
                resource, owner, ..
            }
            | Command::AcquireInTurn {
                resource, owner, ..
            }
            | Command::Extend {
                resource, owner, ..
            }
            | Command::Undo {
                resource, owner, ..
            }
            | Command::Release {
                resource, owner, ..
            }
            | Command::PassOn {
                resource, owner, ..
            }
            | Command::Settle {
                resource, owner, ..
            }
            | Command::ReleaseInTurn {
                resource, owner, ..
            } => (resource.as_str(), owner.as_str()),
            Command::Stand {
                resource,
                call,
                turn: Turn { ticket, .. },
            }
            | Command::LeaveQueue {
                resource,
                call,
                ticket,
            } => {
                return write!(f, "{name} {} {call} {ticket}", resource.as_str());
            }
            Command::Inspect { .. } | Command::Queue { .. } | Command::Ping => {
                return f.write_str(name);
            }
        };
        write!(f, "{name} {resource} {owner}")?;
        match command {
            Command::Acquire {
                lease,
                call,
                token,
                reserve,
                ..
            } => write!(f, " {lease:?} {call} {token}+{reserve}"),
            Command::AcquireInTurn {
                lease,
                call,
                token,
                turn,
                ..
            } => write!(f, " {lease:?} {call} {token} {turn:?}"),
            Command::Extend { by, .. } => write!(f, " {by:?}"),
            Command::ReleaseInTurn {
                token,
                call,
                ticket,
                ..
            } => write!(f, " {token} {call} {ticket}"),
            Command::Undo { call, token, .. } => write!(f, " {call} {token}"),
            Command::Release { token, .. }
            | Command::PassOn { token, .. }
            | Command::Settle { token, .. } => {
                write!(f, " {token}")
            }
            _ => Ok(()),
        }
    }
}
