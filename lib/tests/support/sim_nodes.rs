//! The simulation's nodes: clocks that differ, and servers that forget.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use everlock::clock::{Clock, Moment, WallTime};
use everlock::node::faulty::FaultyNode;
use everlock::node::memory::MemoryNode;
use everlock::node::{Ballot, Judged, Node, NodeFuture, ReplySlot};
use everlock::protocol::{ClusterInfo, Command, MarkerCommand, MarkerState, ServerFacts};
use everlock::{NodeId, Vote};

use super::sim::{Dice, Notes, Without, ms};

const EPOCH: u64 = 1_800_000_000_000_000;
const MILLION: i128 = 1_000_000;

/// True time, some of it added or lost: its own rate, its own offset.
pub(crate) struct SimClock {
    origin: tokio::time::Instant,
    /// Gained in a million.
    rate: i128,
    offset: AtomicI64,
    /// A client's readings fall between the milliseconds of paused time.
    between: Option<Dice>,
}

impl SimClock {
    /// Its wall clock may be `skew` microseconds wrong, either way.
    pub(crate) fn new(notes: &Notes, dice: &Dice, skew: u64) -> Self {
        let either_way = |most: u64| {
            let drawn = i64::try_from(dice.below(2 * most + 1)).unwrap();
            drawn - i64::try_from(most).unwrap()
        };
        Self {
            origin: notes.origin,
            rate: i128::from(either_way(notes.terms.drift)),
            offset: AtomicI64::new(either_way(skew)),
            between: (skew > 0).then(|| Dice::new(dice.below(u64::MAX), 3)),
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
    started: Mutex<tokio::time::Instant>,
    judging: AtomicBool,
    this: Weak<Self>,
}

impl SimNode {
    pub(crate) fn new(number: usize, seed: u64, notes: &Arc<Notes>) -> Arc<Self> {
        let dice = Dice::new(seed, 300 + number as u64);
        let mut clock = SimClock::new(notes, &dice, 300_000);
        clock.between = None;
        let clock = Arc::new(clock);
        let memory = MemoryNode::new(&format!("node-{number}"), clock.clone());
        Arc::new_cyclic(|this| Self {
            memory,
            number,
            clock,
            notes: Arc::clone(notes),
            dice,
            cluster: OnceLock::new(),
            started: Mutex::new(notes.origin),
            judging: AtomicBool::new(false),
            this: this.clone(),
        })
    }

    pub(crate) fn joined(&self, cluster: ClusterInfo) {
        let _ = self.cluster.set(cluster);
    }

    pub(crate) fn restart(&self, keep_data: bool) {
        self.notes.trace(format_args!(
            "node {} restarts, data kept: {keep_data}",
            self.number
        ));
        *self.started.lock().unwrap() = tokio::time::Instant::now();
        self.memory.restart(keep_data);
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

    async fn be_judged(&self) {
        let Some(cluster) = self.cluster.get().cloned() else {
            return;
        };
        self.notes.count("guarded");
        self.notes
            .trace(format_args!("node {} is judged", self.number));
        if self.notes.terms.without == Without::RestartGuard {
            let nonce = "again".to_owned();
            let durable = false;
            let prepare = MarkerCommand::Prepare {
                cluster,
                nonce: nonce.clone(),
                durable,
            };
            self.memory.restart(false);
            for command in [prepare, MarkerCommand::Activate { nonce }] {
                self.memory.mark(command).await.unwrap();
            }
            return;
        }
        let uptime = self.started.lock().unwrap().elapsed();
        let guard = MarkerCommand::Guard {
            cluster,
            started: Some(self.clock.wall().minus(uptime)),
            durable: false,
        };
        self.memory.mark(guard).await.unwrap();
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
        let undo = matches!(command, Command::Undo { .. } | Command::Settle { .. });
        if undo && self.notes.terms.without == Without::Undo {
            slot.reply(self.memory.apply(&Command::Ping));
            return;
        }
        let reply = self.memory.apply(&command);
        self.notes.trace(format_args!(
            "node {} {} => {:?}",
            self.number,
            Told(&command),
            reply.vote
        ));
        match reply.vote {
            Vote::Guarded { remaining: None } => self.wants_judgement(),
            Vote::Stale { .. } => self.notes.count("stale"),
            Vote::Ahead => self.notes.count("ahead"),
            Vote::Again { .. } => self.notes.count("again"),
            Vote::Undone { deleted: true } => self.notes.count("undone"),
            Vote::Settled { deleted: true } => self.notes.count("settled"),
            Vote::Newer { .. } => self.notes.count("newer"),
            _ => {}
        }
        slot.reply(reply);
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        self.memory.mark(command)
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        self.memory.facts()
    }

    fn last_judged(&self) -> Option<Judged> {
        self.memory.last_judged()
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        self.memory.judge()
    }
}

/// The way to a node, on which what a client's background work hears of failures
/// comes last in its instant.
///
/// That work draws lots where it is told two things at once; told in turn, it
/// does the same every time.
#[derive(Debug)]
pub(crate) struct InTurn(pub(crate) Arc<FaultyNode>);

/// Whatever else happens in an instant has happened after so many turns.
const TURNS: u32 = 20;

fn last_of_its_instant(slot: ReplySlot) -> ReplySlot {
    let runtime = tokio::runtime::Handle::current();
    let slot = Mutex::new(Some(slot));
    let reader = Ballot::with_late(move |_, reply| {
        let Some(slot) = slot.lock().unwrap().take() else {
            return;
        };
        if !matches!(reply.vote, Vote::Failed(_)) {
            return slot.reply(reply);
        }
        runtime.spawn(async move {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            slot.reply(reply);
        });
    });
    // The reader goes at once, so every reply is a late one.
    reader.slot(0)
}

impl Node for InTurn {
    fn id(&self) -> &NodeId {
        self.0.id()
    }

    fn submit(&self, command: Command, not_after: Moment, slot: ReplySlot) {
        let in_background = matches!(command, Command::Undo { .. } | Command::Settle { .. });
        let slot = if in_background {
            last_of_its_instant(slot)
        } else {
            slot
        };
        self.0.submit(command, not_after, slot);
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        self.0.mark(command)
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        self.0.facts()
    }

    fn last_judged(&self) -> Option<Judged> {
        self.0.last_judged()
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        self.0.judge()
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
            } => (resource.as_str(), owner.as_str()),
            Command::Stand { resource, call, .. } | Command::LeaveQueue { resource, call, .. } => {
                return write!(f, "{name} {} {call}", resource.as_str());
            }
            Command::Inspect { .. } | Command::Queue { .. } | Command::Ping => {
                return f.write_str(name);
            }
        };
        write!(f, "{name} {resource} {owner}")?;
        match command {
            Command::Acquire {
                lease, call, token, ..
            }
            | Command::AcquireInTurn {
                lease, call, token, ..
            } => write!(f, " {lease:?} {call} {token}"),
            Command::Extend { by, .. } => write!(f, " {by:?}"),
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
