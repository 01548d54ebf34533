//! The simulation's clients: what they ask of the real client, and what they note.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::{AcquireOptions, Error, Grant, OwnerId, Redlock, Resource};
use everlock_testkit::history::Hold;

use super::sim::{Dice, MAX_LEASE, Notes, ms};
use super::sim_nodes::SimClock;

/// The owner ids that clients share, and those that have begun to release.
#[derive(Default)]
pub(crate) struct Owners {
    in_use: BTreeMap<usize, String>,
    retired: BTreeSet<String>,
}

pub(crate) struct Client {
    pub(crate) redlock: Redlock,
    number: usize,
    clock: Arc<SimClock>,
    dice: Dice,
    notes: Arc<Notes>,
    owners: Arc<Mutex<Owners>>,
}

/// A request in words that outlive it.
#[derive(Clone)]
struct Asked {
    resource: usize,
    owner: Option<String>,
    lease: Duration,
    at: u64,
}

impl Client {
    pub(crate) fn new(
        number: usize,
        redlock: Redlock,
        clock: Arc<SimClock>,
        dice: Dice,
        notes: Arc<Notes>,
        owners: Arc<Mutex<Owners>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            redlock,
            number,
            clock,
            dice,
            notes,
            owners,
        })
    }

    /// Everything that this client does.
    pub(crate) async fn work(self: Arc<Self>) {
        for round in 0..4 + self.dice.below(4) {
            tokio::time::sleep(ms(self.dice.below(150))).await;
            let asked = self.choose(round);
            if self.dice.one_in(6) {
                self.hold_with_a_guard(asked).await;
            } else if let Some(grant) = self.ask(&asked).await {
                self.hold(asked, grant).await;
            }
        }
    }

    fn choose(&self, round: u64) -> Asked {
        let resource = usize::try_from(self.dice.below(self.notes.terms.resources)).unwrap();
        let longest = u64::try_from(MAX_LEASE.as_millis()).unwrap();
        let longest = if self.dice.one_in(4) { longest } else { 400 };
        let lease = ms(20 + self.dice.below(longest - 20));
        let mut owners = self.owners.lock().unwrap();
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
        let at = self.notes.now();
        Asked {
            resource,
            owner,
            lease,
            at,
        }
    }

    fn options(&self, asked: &Asked) -> AcquireOptions {
        let dice = &self.dice;
        let options = AcquireOptions::new()
            .lease(asked.lease)
            .retries(u32::try_from(dice.below(5)).unwrap())
            .delay(ms(10 + dice.below(100)))
            .jitter(ms(dice.below(50)));
        match &asked.owner {
            Some(owner) => options.owner(OwnerId::new(owner.clone()).unwrap()),
            None => options,
        }
    }

    /// Acquires; it may be cancelled, or the client may be paused meanwhile.
    async fn ask(&self, asked: &Asked) -> Option<Grant> {
        let (notes, dice) = (&self.notes, &self.dice);
        let options = self.options(asked);
        notes.count("asked");
        notes.trace(format_args!(
            "client {} asks for r{} as {:?} for {:?}",
            self.number, asked.resource, asked.owner, asked.lease
        ));
        let name = format!("r{}", asked.resource);
        let mut acquiring = pin!(self.redlock.acquire(name, options));
        let result = if notes.terms.cancels && dice.one_in(5) {
            let patience = ms(dice.below(60));
            let Ok(result) = tokio::time::timeout(patience, &mut acquiring).await else {
                notes.count("cancelled");
                notes.trace(format_args!("client {} goes away", self.number));
                return None;
            };
            result
        } else if notes.terms.pauses && dice.one_in(5) {
            let before = ms(dice.below(30));
            if let Ok(result) = tokio::time::timeout(before, &mut acquiring).await {
                result
            } else {
                notes.count("client paused");
                tokio::time::sleep(ms(dice.below(600))).await;
                acquiring.await
            }
        } else {
            acquiring.await
        };
        self.note(asked, result)
    }

    fn note(&self, asked: &Asked, result: Result<Grant, Error>) -> Option<Grant> {
        let notes = &self.notes;
        match result {
            Ok(grant) => {
                notes.count("acquired");
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
        self.notes.history.lock().unwrap().held(hold);
    }

    /// The client begins to give up what it holds, up to this token.
    fn gives_up(&self, resource: usize, owner: &str, token: u64) {
        let mut owners = self.owners.lock().unwrap();
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
        let lease = u64::try_from(asked.lease.as_millis()).unwrap();
        for _ in 0..dice.below(3) {
            tokio::time::sleep(ms(dice.below(lease))).await;
            if self.owners.lock().unwrap().retired.contains(&owner) {
                // Another client of this owner gave it up.
                break;
            }
            asked.at = self.notes.now();
            if dice.one_in(3) {
                self.notes.count("asked again");
                if let Some(again) = self.ask(&asked).await {
                    grant = again;
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
        match self.redlock.extend(grant, by).await {
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
        let way = dice.below(10);
        if way == 0 {
            notes.count("left to expire");
            return;
        }
        let by_name = way == 1;
        let token = grant.token().as_u64();
        self.gives_up(resource, owner, if by_name { u64::MAX } else { token });
        let released = if by_name {
            let name = Resource::new(format!("r{resource}")).unwrap();
            self.redlock.release((&name, grant.owner())).await
        } else if way == 2 && notes.terms.cancels {
            let release = self.redlock.release(grant);
            let Ok(released) = tokio::time::timeout(ms(dice.below(30)), release).await else {
                notes.count("release cancelled");
                return;
            };
            released
        } else {
            self.redlock.release(grant).await
        };
        notes.trace(format_args!("client {}: {released:?}", self.number));
        notes.count(match released {
            Ok(()) => "released",
            Err(Error::NotHeld { .. }) => "release: not held",
            Err(Error::HeldByAnother { .. }) => "release: another's",
            Err(Error::Unavailable { .. }) => "release: unavailable",
            Err(other) => panic!("{other:?}"),
        });
    }

    /// Holds the lock with a guard that renews it.
    async fn hold_with_a_guard(self: &Arc<Self>, asked: Asked) {
        let name = format!("r{}", asked.resource);
        self.notes.count("asked");
        let options = self.options(&asked);
        let guard = match self.redlock.lock(name, options).await {
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
        self.gives_up(resource, &owner, token);
        if self.dice.one_in(4) {
            drop(guard);
        } else {
            // What it says was told before: it may be lost by now.
            let _ = guard.release().await;
        }
    }
}
