//! The simulation's clients: what they ask of the real client, and what they note.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use everlock::{AcquireOptions, Error, Grant, Guard, OwnerId, Redlock, Resource, majority};
use everlock_testkit::history::Hold;

use super::sim::{Dice, Notes, Running, World, Wrong, ms};
use super::sim_nodes::{SimClock, SimNode};

/// The owner ids that clients share, and those that have begun to release.
#[derive(Default)]
pub(crate) struct Owners {
    in_use: BTreeMap<usize, String>,
    retired: BTreeSet<String>,
    /// Those for which a client asked that died, or whose release may have meant an
    /// earlier grant, and whether one that died asked without a name.
    dead: BTreeSet<String>,
    nameless_dead: bool,
    /// How many calls were made for each.
    calls: BTreeMap<String, usize>,
}

/// Beyond so many calls a grant is pinned: no undo takes it.
const MAX_SHARES: usize = 4;

impl Owners {
    /// Whether a lock of this owner may outlive what all clients know of it.
    pub(crate) fn may_be_left(&self, owner: &str) -> bool {
        // Names that the library gives are UUIDs; those given here begin with a `c`
        // and hold a single dash.
        let nameless = owner.matches('-').count() > 1;
        let dead = self.dead.contains(owner) || (nameless && self.nameless_dead);
        dead || self
            .calls
            .get(owner)
            .is_some_and(|calls| *calls > MAX_SHARES)
    }
}

pub(crate) struct Client {
    pub(crate) number: usize,
    seed: u64,
    pub(crate) clock: Arc<SimClock>,
    dice: Dice,
    /// For what has to do with lines.
    pub(crate) line_dice: Dice,
    /// For what has to do with crowds.
    pub(crate) crowd_dice: Dice,
    pub(crate) world: Arc<World>,
    pub(crate) notes: Arc<Notes>,
    running: Mutex<Option<Running>>,
    /// The owners for which this process has asked.
    asked_as: Mutex<BTreeSet<Option<String>>>,
}

/// A request in words that outlive it.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) resource: usize,
    pub(crate) owner: Option<String>,
    pub(crate) lease: Duration,
    pub(crate) min_validity: Duration,
    pub(crate) at: u64,
}

impl Asked {
    /// The same, for whoever asks.
    fn nameless(self) -> Self {
        Self {
            owner: None,
            ..self
        }
    }
}

/// What becomes of a client while it waits for an answer.
#[derive(Clone, Copy)]
enum Fate {
    Waits,
    /// It gives the request up after some time, or when it has looked so often.
    GoesAway {
        after: Duration,
        polls: u64,
    },
    /// It looks at nothing for a while.
    Pauses {
        after: Duration,
        pause: Duration,
    },
    Dies {
        after: Duration,
    },
}

impl Client {
    pub(crate) fn new(number: usize, seed: u64, world: &Arc<World>) -> Arc<Self> {
        let dice = Dice::new(seed, 100 + number as u64);
        Arc::new(Self {
            number,
            seed,
            clock: Arc::new(SimClock::of_client(&world.notes, &dice)),
            dice,
            line_dice: Dice::new(seed, 500 + number as u64),
            crowd_dice: Dice::new(seed, 600 + number as u64),
            world: Arc::clone(world),
            notes: Arc::clone(&world.notes),
            running: Mutex::default(),
            asked_as: Mutex::default(),
        })
    }

    /// Half of the clients start while the weather is fine, half of them in it.
    pub(crate) async fn may_connect_early(&self) {
        if self.dice.one_in(2) {
            self.start().await;
        }
    }

    async fn start(&self) {
        let running = self
            .world
            .connect(self.number, &self.clock, self.seed)
            .await;
        *self.running.lock().unwrap() = Some(running);
    }

    fn is_dead(&self) -> bool {
        self.running.lock().unwrap().is_none()
    }

    pub(crate) fn redlock(&self) -> Redlock {
        let running = self.running.lock().unwrap();
        running.as_ref().unwrap().redlock.clone()
    }

    /// Everything that this client does.
    pub(crate) async fn work(self: Arc<Self>) {
        // Where most stand in line, they meet there.
        let (rounds, pause) = if self.notes.terms.in_turn == 100 {
            (3, 20)
        } else {
            (4, 150)
        };
        for round in 0..rounds + self.dice.below(4) {
            tokio::time::sleep(ms(self.dice.below(pause))).await;
            if self.is_dead() {
                if round == 0 {
                    self.notes.count("connected in the weather");
                }
                self.start().await;
            }
            let asked = self.choose(round);
            if self.notes.terms.crowds && self.crowd_dice.one_in(2) {
                self.crowd(&asked.nameless()).await;
                continue;
            }
            if self.dice.one_in(6) {
                self.hold_with_a_guard(asked).await;
            } else if let Some(grant) = self.ask(&asked).await {
                self.hold(asked, grant).await;
            }
        }
    }

    /// The process ends: nothing is sent any more, not even what it had still to undo.
    pub(crate) fn die(&self, owner: Option<&str>) {
        let Some(running) = self.running.lock().unwrap().take() else {
            return;
        };
        self.notes
            .trace(format_args!("client {} dies", self.number));
        running.process.die();
        let mut owners = self.world.owners.lock().unwrap();
        if let Some(owner) = owner {
            owners.in_use.retain(|_, name| name != owner);
            owners.retired.insert(owner.to_owned());
        }
        // What it had still to undo or to settle is left, whoever it was for.
        let asked_as = std::mem::take(&mut *self.asked_as.lock().unwrap());
        for owner in asked_as {
            match owner {
                Some(owner) => _ = owners.dead.insert(owner),
                None => owners.nameless_dead = true,
            }
        }
    }

    fn choose(&self, round: u64) -> Asked {
        let resource = usize::try_from(self.dice.below(self.notes.terms.resources)).unwrap();
        let max_lease = u64::try_from(self.notes.terms.max_lease.as_millis()).unwrap();
        let longest = if self.dice.one_in(4) { 2_000 } else { 400 };
        let lease = ms(if max_lease > 2_000 && self.dice.one_in(2) {
            max_lease
        } else {
            20 + self.dice.below(longest - 20)
        });
        let mut owners = self.world.owners.lock().unwrap();
        let sibling = owners.in_use.get(&resource).cloned();
        let own = format!("c{}-{round}", self.number);
        let owner = match sibling {
            Some(shared) if self.notes.terms.shared_owners && self.dice.one_in(3) => {
                self.notes.count("owner shared");
                Some(shared)
            }
            _ if self.dice.one_in(4) => None,
            _ => {
                owners.in_use.insert(resource, own.clone());
                Some(own)
            }
        };
        let min_validity = if self.dice.one_in(4) {
            lease / 2
        } else {
            Duration::ZERO
        };
        let at = self.notes.now();
        Asked {
            resource,
            owner,
            lease,
            min_validity,
            at,
        }
    }

    pub(crate) fn options(&self, asked: &Asked) -> AcquireOptions {
        let dice = &self.dice;
        self.asked_as.lock().unwrap().insert(asked.owner.clone());
        if let Some(owner) = &asked.owner {
            let mut owners = self.world.owners.lock().unwrap();
            *owners.calls.entry(owner.clone()).or_default() += 1;
        }
        let options = AcquireOptions::new()
            .lease(asked.lease)
            .min_validity(asked.min_validity)
            .retries(u32::try_from(dice.below(5)).unwrap())
            .delay(ms(10 + dice.below(100)))
            .jitter(ms(dice.below(50)));
        let options = self.in_turn(options);
        match &asked.owner {
            Some(owner) => options.owner(OwnerId::new(owner.clone()).unwrap()),
            None => options,
        }
    }

    /// Some stand in line, and wait longer than others; some so long that only
    /// heartbeats keep their place.
    fn in_turn(&self, options: AcquireOptions) -> AcquireOptions {
        let (terms, dice) = (&self.notes.terms, &self.line_dice);
        if terms.client_steps && dice.one_in(3) {
            let by = i64::try_from(dice.below(2_000_000)).unwrap();
            self.clock.jump(by - 1_000_000);
        }
        if dice.below(100) >= terms.in_turn {
            return options;
        }
        self.notes.count("asked in turn");
        let delay = if dice.one_in(5) { 1_500 } else { 300 };
        options
            .fifo(true)
            .retries(u32::try_from(dice.below(8)).unwrap())
            .delay(ms(10 + dice.below(delay)))
    }

    fn fate(&self) -> Fate {
        let (terms, dice) = (&self.notes.terms, &self.dice);
        if terms.cancels && dice.one_in(5) {
            let (after, polls) = (ms(dice.below(60)), 1 + dice.below(8));
            Fate::GoesAway { after, polls }
        } else if terms.pauses && dice.one_in(5) {
            let longest = if dice.one_in(4) { 3_000 } else { 600 };
            let (after, pause) = (ms(dice.below(30)), ms(dice.below(longest)));
            Fate::Pauses { after, pause }
        } else if terms.deaths && dice.one_in(12) {
            let after = ms(dice.below(60));
            Fate::Dies { after }
        } else {
            Fate::Waits
        }
    }

    /// Acquires; it may go away, be paused, or die meanwhile.
    async fn ask(&self, asked: &Asked) -> Option<Grant> {
        let notes = &self.notes;
        let options = self.options(asked);
        notes.count("asked");
        notes.trace(format_args!(
            "client {} asks for r{} as {:?} for {:?}",
            self.number, asked.resource, asked.owner, asked.lease
        ));
        let redlock = self.redlock();
        let mut acquiring = pin!(redlock.acquire(format!("r{}", asked.resource), options));
        let result = match self.fate() {
            Fate::Waits => acquiring.await,
            Fate::GoesAway { after, polls } => {
                let looking = at_most(polls, acquiring.as_mut());
                let Ok(Some(result)) = tokio::time::timeout(after, looking).await else {
                    notes.count("cancelled");
                    notes.trace(format_args!("client {} goes away", self.number));
                    return None;
                };
                result
            }
            Fate::Pauses { after, pause } => {
                if let Ok(result) = tokio::time::timeout(after, acquiring.as_mut()).await {
                    result
                } else {
                    notes.count("client paused");
                    if pause > asked.lease {
                        notes.count("client paused past its lease");
                    }
                    tokio::time::sleep(pause).await;
                    acquiring.await
                }
            }
            Fate::Dies { after } => {
                let Ok(result) = tokio::time::timeout(after, acquiring.as_mut()).await else {
                    notes.count("client died while asking");
                    self.die(asked.owner.as_deref());
                    return None;
                };
                result
            }
        };
        self.note(asked, result)
    }

    fn note(&self, asked: &Asked, result: Result<Grant, Error>) -> Option<Grant> {
        let notes = &self.notes;
        match result {
            Ok(grant) => {
                notes.count("acquired");
                if grant.remaining() <= asked.min_validity {
                    let line = format!("{grant:?} for {:?}", asked.min_validity);
                    notes.wrong(Wrong::Late, line);
                }
                self.told(asked, &grant);
                Some(grant)
            }
            Err(error) => {
                notes.trace(format_args!("client {}: {error:?}", self.number));
                notes.count(match error {
                    Error::Contended { .. } => "contended",
                    Error::Unavailable { .. } => "unavailable",
                    other => panic!("{other:?}"),
                });
                None
            }
        }
    }

    /// The client may now rely on the grant, as long as it says.
    fn told(&self, asked: &Asked, grant: &Grant) {
        let hold = Hold {
            client: self.number,
            resource: asked.resource,
            owner: grant.owner().as_str().to_owned(),
            token: grant.token().as_u64(),
            asked: asked.at,
            acquired: self.notes.now(),
            valid_until: self.clock.true_time(grant.valid_until()),
            released: None,
        };
        self.notes.trace(format_args!("{hold}"));
        let quorum = majority(self.world.nodes.len());
        self.notes.lines.won(asked.resource, grant.token(), quorum);
        self.notes.history.lock().unwrap().held(hold);
    }

    /// The client begins to give up what it holds, up to this token.
    fn gives_up(&self, resource: usize, owner: &str, token: u64) {
        let mut owners = self.world.owners.lock().unwrap();
        owners.in_use.retain(|_, name| name != owner);
        owners.retired.insert(owner.to_owned());
        drop(owners);
        let (notes, now) = (&self.notes, self.notes.now());
        notes.trace(format_args!(
            "client {} gives up r{resource} of {owner} up to {token}",
            self.number
        ));
        let mut history = notes.history.lock().unwrap();
        history.released(resource, owner, token, now);
    }

    async fn hold(&self, mut asked: Asked, mut grant: Grant) {
        let dice = &self.dice;
        let owner = grant.owner().as_str().to_owned();
        asked.owner = Some(owner.clone());
        // A long lease is not used up, or others would never come to hold the lock.
        let lease = u64::try_from(asked.lease.as_millis()).unwrap();
        let lease = if lease > 2_000 { 300 } else { lease };
        if self.notes.terms.deaths && dice.one_in(12) {
            tokio::time::sleep(ms(dice.below(lease))).await;
            self.notes.count("client died while holding");
            self.die(Some(&owner));
            return;
        }
        for _ in 0..dice.below(3) {
            tokio::time::sleep(ms(dice.below(lease))).await;
            if self.world.owners.lock().unwrap().retired.contains(&owner) {
                // Another client of this owner gave it up.
                break;
            }
            asked.at = self.notes.now();
            if dice.one_in(3) {
                self.notes.count("asked again");
                if let Some(again) = self.ask(&asked).await {
                    grant = again;
                } else if self.is_dead() {
                    return;
                }
            } else {
                self.extend(&asked, &grant).await;
            }
        }
        tokio::time::sleep(ms(dice.below(lease / 2 + 1))).await;
        self.let_go(&asked, &grant).await;
    }

    async fn extend(&self, asked: &Asked, grant: &Grant) {
        let notes = &self.notes;
        let by = ms(1 + self.dice.below(500));
        notes.trace(format_args!("client {} extends by {by:?}", self.number));
        match self.redlock().extend(grant, by).await {
            Ok(_) => {
                notes.count("extended");
                self.told(asked, grant);
            }
            Err(error) => {
                notes.count("not extended");
                notes.trace(format_args!("client {}: {error:?}", self.number));
            }
        }
    }

    async fn let_go(&self, asked: &Asked, grant: &Grant) {
        let (notes, dice) = (&self.notes, &self.dice);
        let (resource, owner) = (asked.resource, grant.owner().as_str());
        if dice.one_in(notes.terms.left_to_expire) && asked.lease <= ms(2_000) {
            notes.count("left to expire");
            return;
        }
        let way = dice.below(9);
        let by_name = way == 1;
        let token = grant.token().as_u64();
        let (redlock, began) = (self.redlock(), notes.now());
        self.gives_up(resource, owner, if by_name { u64::MAX } else { token });
        let released = if by_name {
            self.may_read_too_low(owner);
            let name = Resource::new(format!("r{resource}")).unwrap();
            redlock.release((&name, grant.owner())).await
        } else if way == 2 && notes.terms.cancels {
            let release = redlock.release(grant);
            let Ok(released) = tokio::time::timeout(ms(dice.below(30)), release).await else {
                notes.count("release cancelled");
                return;
            };
            released
        } else {
            redlock.release(grant).await
        };
        notes.trace(format_args!("client {}: {released:?}", self.number));
        notes.count(match released {
            Ok(()) => {
                self.is_released(grant, began);
                "released"
            }
            Err(Error::NotHeld { .. }) => "release: not held",
            Err(Error::HeldByAnother { .. }) => "release: another's",
            Err(Error::Unavailable { .. }) => "release: unavailable",
            Err(other) => panic!("{other:?}"),
        });
    }

    /// A release by name goes by the token clock's reading. Where the time of day was
    /// set back, that may be below the grant; and if no node's answer to that effect
    /// is heard, nobody knows what to end, and the lease does.
    fn may_read_too_low(&self, owner: &str) {
        if self.notes.terms.client_steps {
            let mut owners = self.world.owners.lock().unwrap();
            owners.dead.insert(owner.to_owned());
        }
    }

    /// A release that is done leaves the lock to less than a quorum of nodes. One
    /// that a node was given after the release began is refused there soon.
    fn is_released(&self, grant: &Grant, began: u64) {
        let nodes = &self.world.nodes;
        let held = |node: &&Arc<_>| SimNode::has_held(node, grant, began);
        let holding = nodes.iter().filter(held).count();
        if holding >= majority(nodes.len()) {
            let line = format!("{grant:?} is released, and {holding} nodes hold it");
            self.notes.wrong(Wrong::NotReleased, line);
        }
    }

    /// Holds the lock with a guard that renews it.
    async fn hold_with_a_guard(self: &Arc<Self>, asked: Asked) {
        let name = format!("r{}", asked.resource);
        self.notes.count("asked");
        let options = self.options(&asked);
        let guard = match self.redlock().lock(name, options).await {
            Ok(guard) => guard,
            Err(error) => {
                self.note(&asked, Err(error));
                return;
            }
        };
        self.notes.count("acquired");
        self.notes.count("guard held");
        let (owner, token) = (guard.owner().as_str().to_owned(), guard.token().as_u64());
        let (client, resource) = (Arc::clone(self), asked.resource);
        let lost_owner = owner.clone();
        guard.on_lost(move |_| {
            client.notes.count("guard lost");
            client.gives_up(resource, &lost_owner, token);
        });
        for _ in 0..=self.dice.below(6) {
            if guard.is_valid() {
                self.told(&asked, &guard);
            }
            let pause = ms(1 + self.dice.below(150));
            tokio::select! {
                biased;
                _ = guard.lost() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.end(guard, &asked, &owner).await;
    }

    async fn end(&self, guard: Guard, asked: &Asked, owner: &str) {
        if self.notes.terms.deaths && self.dice.one_in(12) {
            self.notes.count("client died while holding");
            self.die(Some(owner));
            return;
        }
        self.gives_up(asked.resource, owner, guard.token().as_u64());
        if self.dice.one_in(4) {
            drop(guard);
        } else {
            // What it says was told before: it may be lost by now.
            let _ = guard.release().await;
        }
    }
}

/// Polls it so often at most.
pub(crate) async fn at_most<F: Future>(polls: u64, mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}
