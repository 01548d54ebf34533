//! One schedule of contenders for one lease: everything in it follows from its seed.
//!
//! The leases are the real ones; time is tokio's and paused.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::BTreeMap;
use std::fmt::{Arguments, Debug};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use everlock::Redlock;
use everlock::clock::Clock;
use everlock::entropy::SeededEntropy;
use everlock::lease::faulty::{Faults, FaultyBackend, Mishap};
use everlock::lease::memory::MemoryLeases;
use everlock::lease::{Answer, Backend, Habits, Keeper, Lasts, Lease, LeaseError, LeaseOptions};
use everlock::lease::{LeaseToken, Won};
use everlock::node::Node;
use everlock::node::faulty::{FaultyNode, Mishap as NodeMishap, Odds};

use crate::support::leases::ProcessClock;
use crate::support::{Dice, World};

pub(crate) const TTL: Duration = Duration::from_millis(600);
const MAX_LEASE: Duration = Duration::from_secs(2);
/// How far clocks may drift, in parts of a million: less than what is compensated for.
const DRIFT: u64 = 4_500;

/// Where the lease is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    InMemory,
    OverAQuorum,
}

/// What a backend does wrong, so that it is seen whether anybody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It promises longer than it keeps.
    LongValidity,
    /// Its tokens begin anew.
    OldTokens,
}

/// What became of a schedule.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) tally: BTreeMap<&'static str, u64>,
    pub(crate) wrong: Vec<String>,
    pub(crate) trace: Vec<String>,
}

/// What is noted while it runs.
struct Notes {
    origin: tokio::time::Instant,
    outcome: Mutex<Outcome>,
    /// When each acquire was answered with which token.
    tokens: Mutex<Vec<(Duration, LeaseToken)>>,
    /// All leases of processes that run.
    running: Mutex<Vec<(usize, Weak<dyn Lease>)>>,
    over: AtomicBool,
}

impl Notes {
    fn count(&self, what: &'static str) {
        *self.outcome.lock().unwrap().tally.entry(what).or_default() += 1;
    }

    fn trace(&self, line: Arguments<'_>) {
        let at = self.origin.elapsed().as_micros();
        let line = format!("{at:>9} {line}");
        self.outcome.lock().unwrap().trace.push(line);
    }

    fn wrong(&self, line: Arguments<'_>) {
        self.trace(format_args!("WRONG: {line}"));
        self.outcome.lock().unwrap().wrong.push(line.to_string());
    }

    /// A token was answered to what was asked then: it is later than all that were
    /// answered before, unless the tenure is the same.
    fn answered(&self, who: usize, asked: Duration, token: &LeaseToken, same: bool) {
        let mut tokens = self.tokens.lock().unwrap();
        let before = tokens.iter().filter(|(at, _)| *at < asked);
        let latest = before.map(|(_, token)| token).max().cloned();
        if latest.is_some_and(|latest| latest > *token || (latest == *token && !same)) {
            self.wrong(format_args!(
                "{who} is answered {token}, which is not the latest"
            ));
        }
        tokens.push((self.origin.elapsed(), token.clone()));
    }

    /// Looks at all leases: now and then, and whenever one was acquired.
    fn look(&self) {
        let running = self.running.lock().unwrap().clone();
        let alive = |(_, lease): &&(usize, Weak<dyn Lease>)| {
            lease.upgrade().is_some_and(|lease| lease.check_alive())
        };
        let alive: Vec<_> = running.iter().filter(alive).map(|(who, _)| *who).collect();
        if alive.len() > 1 {
            self.wrong(format_args!("alive at once: {alive:?}"));
        }
    }

    async fn watch(self: Arc<Self>) {
        while !self.over.load(Ordering::Relaxed) {
            self.look();
            tokio::time::sleep(Duration::from_millis(23)).await;
        }
    }
}

/// A backend with a flaw, or none.
#[derive(Debug)]
struct Flawed<B> {
    inner: B,
    flaw: Option<Flaw>,
}

impl<B> Flawed<B> {
    fn spoil(&self, lasts: Lasts) -> Lasts {
        let valid_until = match self.flaw {
            Some(Flaw::LongValidity) => lasts.valid_until + TTL / 2,
            _ => lasts.valid_until,
        };
        Lasts {
            valid_until,
            ..lasts
        }
    }
}

impl<B: Backend> Backend for Flawed<B> {
    type Hold = B::Hold;

    fn habits(&self) -> Habits {
        self.inner.habits()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }

    async fn acquire(&self) -> Answer<B::Hold> {
        match self.inner.acquire().await {
            Answer::Won(won) => {
                let lasts = self.spoil(won.lasts);
                let token = match self.flaw {
                    Some(Flaw::OldTokens) => Some(LeaseToken::of_numbers(&[1])),
                    _ => won.token,
                };
                Answer::Won(Won {
                    lasts,
                    token,
                    hold: won.hold,
                })
            }
            other => other,
        }
    }

    async fn renew(&self, hold: &B::Hold, missing: Duration) -> Result<Option<Lasts>, LeaseError> {
        let lasts = self.inner.renew(hold, missing).await?;
        Ok(lasts.map(|lasts| self.spoil(lasts)))
    }

    async fn release(&self, hold: &B::Hold) -> Result<(), LeaseError> {
        self.inner.release(hold).await
    }
}

/// One process of a contender.
struct Process {
    lease: Arc<dyn Lease>,
    clock: Arc<ProcessClock>,
    faults: Faults,
    ways: Vec<Arc<FaultyNode>>,
    /// Whether nothing more is heard of it.
    cut: Arc<AtomicBool>,
}

impl Process {
    fn cut_off(&self) {
        self.cut.store(true, Ordering::Relaxed);
        for way in &self.ways {
            way.always(NodeMishap::RequestLost);
        }
    }

    fn reconnect(&self) {
        self.cut.store(false, Ordering::Relaxed);
        for way in &self.ways {
            way.heal();
        }
    }
}

struct Schedule {
    seed: u64,
    flaw: Option<Flaw>,
    notes: Arc<Notes>,
    leases: MemoryLeases,
    quorum: Option<World>,
    odds: u64,
}

impl Schedule {
    async fn process(&self, who: usize, number: u64) -> Process {
        let seed = self.seed ^ (number << 32) ^ ((who as u64) << 48);
        let dice = Dice::new(seed);
        let options = LeaseOptions::builder("lease", format!("owner-{who}")).ttl(TTL);
        let options = options.acquire_retries(1 + u32::try_from(dice.below(3)).unwrap());
        let options = options.build().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let faults = Faults::none();
        let (dead, odds) = (Arc::clone(&cut), self.odds);
        faults.plan(move |_| {
            if dead.load(Ordering::Relaxed) {
                return Some(Mishap::RequestLost(TTL / 3));
            }
            let late = Duration::from_millis(dice.below(250));
            (dice.below(100) < odds).then(|| match dice.below(4) {
                0 => Mishap::RequestLost(late),
                1 => Mishap::ReplyLost(late),
                2 => Mishap::RequestDelayed(late),
                _ => Mishap::ReplyDelayed(late),
            })
        });
        let Some(world) = &self.quorum else {
            let clock = ProcessClock::new(self.notes.origin);
            let backend = self.leases.backend(&options).with_clock(clock.clone());
            return self.started(who, options, backend, faults, clock, Vec::new(), cut);
        };
        let dice = Dice::new(seed ^ 1);
        let fast = i64::try_from(dice.below(2 * DRIFT)).unwrap() - DRIFT.cast_signed();
        let clock = ProcessClock::drifting(self.notes.origin, fast);
        let ways: Vec<_> = world
            .nodes()
            .into_iter()
            .map(|node| Arc::new(FaultyNode::new(node).silence(TTL / 3)))
            .collect();
        let client = Redlock::builder()
            .nodes(ways.iter().map(|way| way.clone() as Arc<dyn Node>))
            .node_timeout(TTL / 4)
            .clock(clock.clone())
            .entropy(Arc::new(SeededEntropy::new(seed ^ 2)));
        let client = client.connect().await.unwrap();
        let odd = || u16::try_from(dice.below(1 + self.odds * 3)).unwrap();
        for (number, way) in (0..).zip(&ways) {
            let odds = Odds {
                refused: odd(),
                error: odd(),
                cut: odd(),
                request_lost: odd(),
                reply_lost: odd(),
                request_delayed: odd(),
                reply_delayed: odd(),
                longest_delay: TTL / 2,
            };
            way.seeded(seed ^ (number << 8), odds);
        }
        let backend = client.lease_backend(&options).unwrap();
        self.started(who, options, backend, Faults::none(), clock, ways, cut)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a process")]
    fn started<B: Backend>(
        &self,
        who: usize,
        options: LeaseOptions,
        backend: B,
        faults: Faults,
        clock: Arc<ProcessClock>,
        ways: Vec<Arc<FaultyNode>>,
        cut: Arc<AtomicBool>,
    ) -> Process {
        let backend = Flawed {
            inner: FaultyBackend::new(backend, faults.clone()),
            flaw: self.flaw,
        };
        let lease: Arc<dyn Lease> = Arc::new(Keeper::new(backend, options));
        let (notes, weak) = (Arc::clone(&self.notes), Arc::downgrade(&lease));
        let subscription = lease.on_lost(Box::new(move |reason| {
            notes.count("lost");
            notes.trace(format_args!("{who} loses: {reason:?}"));
            if weak.upgrade().is_some_and(|lease| lease.check_alive()) {
                notes.wrong(format_args!("{who} is told of a loss and is alive"));
            }
        }));
        subscription.detach();
        let mut running = self.notes.running.lock().unwrap();
        running.retain(|(other, _)| *other != who);
        running.push((who, Arc::downgrade(&lease)));
        drop(running);
        Process {
            lease,
            clock,
            faults,
            ways,
            cut,
        }
    }

    /// Everything that one contender does.
    async fn contend(self: Arc<Self>, who: usize) {
        let dice = Dice::new(self.seed ^ ((who as u64 + 1) << 40));
        let mut processes = 0;
        let mut process = self.process(who, processes).await;
        for _ in 0..3 + dice.below(4) {
            pause(dice.below(400)).await;
            if !self.acquires(who, &process, &dice).await {
                continue;
            }
            if self.holds(who, &process, &dice).await {
                processes += 1;
                process.cut_off();
                drop(process);
                process = self.process(who, processes).await;
            }
        }
        process.reconnect();
        process.faults.plan(|_| None);
        let _ = process.lease.release().await;
    }

    async fn acquires(&self, who: usize, process: &Process, dice: &Dice) -> bool {
        let notes = &self.notes;
        let (asked, had) = (notes.origin.elapsed(), process.lease.token());
        notes.count("asked");
        let acquiring = process.lease.acquire_with_token();
        let gives_up = dice.below(8) == 0;
        let patience = if gives_up { dice.below(60) } else { 600_000 };
        let acquired = tokio::time::timeout(Duration::from_millis(patience), acquiring).await;
        let Ok(acquired) = acquired else {
            notes.count("given up");
            notes.trace(format_args!("{who} gives up"));
            return false;
        };
        match acquired {
            Ok(Some(token)) => {
                notes.count("acquired");
                notes.look();
                notes.trace(format_args!("{who} has {token}"));
                let same = had.as_ref() == Some(&token);
                notes.answered(who, asked, &token, same);
                true
            }
            Ok(None) => {
                notes.count("denied");
                if process.lease.check_alive() {
                    notes.wrong(format_args!("{who} is denied and alive"));
                }
                false
            }
            Err(_) => {
                notes.count("not known");
                false
            }
        }
    }

    /// What becomes of a tenure. Whether its process dies in it.
    async fn holds(&self, who: usize, process: &Process, dice: &Dice) -> bool {
        let notes = &self.notes;
        pause(dice.below(1_500)).await;
        match dice.below(10) {
            0 => {
                notes.count("paused");
                process.clock.miss(Duration::from_millis(dice.below(1_200)));
                pause(dice.below(300)).await;
            }
            1 => {
                notes.count("cut off for a while");
                process.cut_off();
                pause(dice.below(1_500)).await;
                process.reconnect();
            }
            2 => {
                notes.count("asked again");
                self.acquires(who, process, dice).await;
            }
            3 => {
                notes.count("died");
                notes.trace(format_args!("{who} dies"));
                return true;
            }
            _ => {}
        }
        if dice.below(10) < 8 {
            let releasing = process.lease.release();
            let limit = if dice.below(6) == 0 { 1 } else { 600_000 };
            let released = tokio::time::timeout(Duration::from_millis(limit), releasing).await;
            if process.lease.check_alive() {
                notes.wrong(format_args!("{who} has released and is alive"));
            }
            notes.count(match released {
                Ok(Ok(())) => "released",
                Ok(Err(_)) => "not released",
                Err(_) => "release given up",
            });
            notes.trace(format_args!(
                "{who} releases: {}",
                matches!(released, Ok(Ok(())))
            ));
        }
        false
    }

    /// Nodes of a minority go away, come back, or forget.
    async fn weather(self: Arc<Self>) {
        let Some(world) = &self.quorum else { return };
        let dice = Dice::new(self.seed ^ 0xbad);
        for _ in 0..4 {
            pause(200 + dice.below(1_500)).await;
            // One that forgets is the same one each time: a minority.
            match dice.below(4) {
                0 => {
                    self.notes.count("a node forgot");
                    world.memory[0].restart(false);
                }
                1 => {
                    self.notes.count("a node restarted");
                    world.memory[1].restart(true);
                }
                _ => {
                    self.notes.count("a node was away");
                    world.faulty[2].always(NodeMishap::Stopped);
                    pause(dice.below(1_000)).await;
                    world.faulty[2].heal();
                }
            }
        }
    }
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Runs the schedule of this seed.
pub(crate) fn run(kept: Kept, seed: u64, flaw: Option<Flaw>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(schedule(kept, seed, flaw))
}

async fn schedule(kept: Kept, seed: u64, flaw: Option<Flaw>) -> Outcome {
    let origin = tokio::time::Instant::now();
    let notes = Arc::new(Notes {
        origin,
        outcome: Mutex::default(),
        tokens: Mutex::default(),
        running: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let dice = Dice::new(seed ^ 0xfee1);
    let quorum = match kept {
        Kept::InMemory => None,
        Kept::OverAQuorum => Some(World::with_max_lease(5, MAX_LEASE).await),
    };
    let schedule = Arc::new(Schedule {
        seed,
        flaw,
        notes: Arc::clone(&notes),
        leases: MemoryLeases::with_clock(ProcessClock::new(origin)),
        quorum,
        odds: [0, 3, 10, 25][usize::try_from(dice.below(4)).unwrap()],
    });
    let watch = tokio::spawn(Arc::clone(&notes).watch());
    let mut work = tokio::task::JoinSet::new();
    for who in 0..2 + usize::try_from(dice.below(3)).unwrap() {
        work.spawn(Arc::clone(&schedule).contend(who));
    }
    work.spawn(Arc::clone(&schedule).weather());
    work.join_all().await;
    notes.over.store(true, Ordering::Relaxed);
    watch.await.unwrap();
    schedule.settles().await;
    std::mem::take(&mut *notes.outcome.lock().unwrap())
}

impl Schedule {
    /// When all is calm, somebody new gets the lease: nothing was left behind.
    async fn settles(&self) {
        if let Some(world) = &self.quorum {
            world.heal();
        }
        tokio::time::sleep(2 * MAX_LEASE + 4 * TTL).await;
        let calm = Self {
            odds: 0,
            quorum: None,
            notes: Arc::clone(&self.notes),
            leases: self.leases.clone(),
            ..*self
        };
        let process = match &self.quorum {
            None => calm.process(99, 0).await,
            Some(world) => {
                let client = world.client(self.seed ^ 3).await;
                let options = LeaseOptions::builder("lease", "newcomer").ttl(TTL);
                let options = options.build().unwrap();
                let backend = client.lease_backend(&options).unwrap();
                let clock = ProcessClock::new(self.notes.origin);
                calm.started(
                    99,
                    options,
                    backend,
                    Faults::none(),
                    clock,
                    Vec::new(),
                    Arc::default(),
                )
            }
        };
        let acquired = process.lease.acquire().await;
        if !matches!(acquired, Ok(true)) {
            self.notes
                .wrong(format_args!("a newcomer is answered {acquired:?}"));
        }
        let _ = process.lease.release().await;
    }
}
