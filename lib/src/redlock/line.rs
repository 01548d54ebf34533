//! Who of this process waits for each lock, and how it passes from one to the next.
//!
//! Waiters of one lock stand in one line, and only its head talks to the nodes:
//! there is no herd, and nobody of the process starves. A release begins the
//! head's next attempt itself, right behind its own commands, so that the lock
//! changes hands within one round trip. What the head learns of the nodes holds
//! for everybody behind it.
//!
//! Other processes tell of their releases through the nodes: a lock that is waited
//! for is listened for, and tried when a quorum of nodes has spoken. So that they
//! get their turn, a lock is not passed on within the process for ever.
//!
//! Where it is known when the holder ends, it is not even released: see `handing.rs`.
//!
//! Invariant: whoever stands in a line is told when it becomes the head, and a
//! head that leaves without the lock has the next one try at once. One that is not
//! there when it should be goes behind the others: see `absence.rs`.

mod absence;
mod handing;
mod standing;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub(super) use absence::Presence;
pub(super) use handing::{Baton, Passing};
pub(super) use standing::Standing;

use super::Inner;
use super::hearing::{Hearing, Lingering};
use super::inbox::{Inbox, News};
use super::proposal::Bid;
use crate::clock::Moment;
use crate::core::attempt::{Attempt, Loss};
use crate::core::command::Command;
use crate::core::types::Resource;

/// Counters of releases: locks share them, which costs a needless attempt at times.
const STRIPES: usize = 64;
const COURTESY: Duration = Duration::from_millis(2);
/// All lines of one client.
pub(super) struct Lines {
    by_lock: Mutex<HashMap<Resource, Line>>,
    /// How many lines there are, so that a client without waiters looks at nothing else.
    /// Who joins writes this and reads `releases`, who releases does the reverse: one
    /// of them must see the other, which takes `SeqCst`.
    count: AtomicUsize,
    releases: [AtomicU64; STRIPES],
    /// Who joins any line, or hears of a release, has the next number.
    numbers: AtomicU64,
    /// Whether somebody looks after the heads.
    watched: AtomicBool,
    pub(super) lingering: Lingering,
    /// The same in every process, so that what happens can be replayed.
    hashing: BuildHasherDefault<DefaultHasher>,
}

#[derive(Default)]
struct Line {
    places: BTreeMap<u64, Arc<Place>>,
    /// The number of the last release while there was a line.
    released: u64,
    last: Option<Arc<Refusal>>,
    /// When somebody asked who is not the head.
    asked: Option<Moment>,
    hearing: Option<Hearing>,
    /// The release that told nobody, until who was meant has the lock.
    silent: Option<Command>,
    passing: Passing,
}

/// How the last attempt of a line's head ended.
pub(super) struct Refusal {
    pub(super) loss: Loss,
    pub(super) attempt: Attempt,
    pub(super) at: Moment,
}

struct Place {
    bid: Arc<Bid>,
    /// Where it stands; it changes under the lock of the lines.
    number: AtomicU64,
    is_head: AtomicBool,
    inbox: Mutex<Inbox>,
    told: Notify,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            by_lock: Mutex::default(),
            count: AtomicUsize::new(0),
            releases: [const { AtomicU64::new(0) }; STRIPES],
            numbers: AtomicU64::new(1),
            watched: AtomicBool::new(false),
            lingering: Lingering::default(),
            hashing: BuildHasherDefault::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Resource, Line>> {
        self.by_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that changes with each release of the lock by this client.
    pub(super) fn releases(&self, resource: &Resource) -> u64 {
        self.stripe(resource).load(Ordering::SeqCst)
    }

    fn stripe(&self, resource: &Resource) -> &AtomicU64 {
        let hash = self.hashing.hash_one(resource);
        &self.releases[usize::try_from(hash % STRIPES as u64).unwrap_or(0)]
    }

    /// Stands at the end of the lock's line, if there is one.
    pub(super) fn join_behind(&self, bid: &Arc<Bid>) -> Option<Standing> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut lines = self.lock();
        let line = lines.get_mut(&bid.resource)?;
        Some(line.join(bid, self.next_number()))
    }

    /// Stands at the end of the lock's line, or begins one. `releases` is the
    /// number of before the attempt that was lost: a release that came since is
    /// not missed.
    pub(super) fn join(&self, bid: &Arc<Bid>, releases: u64) -> Standing {
        let mut lines = self.lock();
        let mut is_new = false;
        let line = lines.entry(bid.resource.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::SeqCst);
            is_new = true;
            let kept = self.lingering.take(&bid.resource);
            let (hearing, passing) = kept.unzip();
            Line {
                hearing,
                passing: passing.unwrap_or_default(),
                ..Line::default()
            }
        });
        let listens = line.hearing.is_some();
        let standing = line.join(bid, self.next_number());
        drop(lines);
        if is_new {
            self.watch(&bid.inner);
        }
        if is_new && !listens {
            self.listen(&bid.inner, &bid.resource);
        }
        if standing.is_head() && self.releases(&bid.resource) != releases {
            standing.place.tell(News::Try);
        }
        standing
    }

    /// Listens for a lock for which there is a line now.
    fn listen(&self, inner: &Arc<Inner>, resource: &Resource) {
        let (weak, name) = (Arc::downgrade(inner), resource.clone());
        let hearing = Hearing::begin(inner, resource, move |_| {
            if let Some(inner) = weak.upgrade() {
                inner.lines.heard(&name);
            }
        });
        // Should the line have ended meanwhile, this does, too.
        if let Some(line) = self.lock().get_mut(resource) {
            line.hearing = Some(hearing);
        }
    }

    /// Whether a lock that is let go now is passed on to whoever is next here.
    /// The answer counts as one time. Should who is next go away, `release` tells all.
    pub(super) fn may_pass(&self, resource: &Resource, release: &Command, now: Moment) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(resource) else {
            return false;
        };
        let may = line.passing.may(now);
        if may {
            line.passing.note();
            line.silent = Some(release.clone());
        } else {
            line.passing = Passing::default();
        }
        may
    }

    /// The lock was just let go: the head's attempt follows at once if it is
    /// passed on, and else after those of others.
    pub(super) fn let_go(&self, resource: &Resource, pass: bool) {
        self.stripe(resource).fetch_add(1, Ordering::SeqCst);
        self.note_release(resource);
        while let Some((head, waiting)) = self.head(resource) {
            let mut inbox = head.lock();
            if inbox.left {
                continue;
            }
            let news = if !pass {
                News::Later(head.bid.inner.clock.now() + COURTESY)
            } else if inbox.asleep && inbox.news.is_none() {
                News::Begun(Box::new(head.bid.launch_for(None, waiting)))
            } else {
                News::Try
            };
            inbox.take(news);
            drop(inbox);
            head.told.notify_one();
            return;
        }
    }

    /// A quorum of nodes has told that the lock was let go.
    pub(super) fn heard(&self, resource: &Resource) {
        self.stripe(resource).fetch_add(1, Ordering::SeqCst);
        self.note_release(resource);
        if let Some((head, _)) = self.head(resource) {
            head.tell(News::Try);
        }
    }

    /// The head of the lock's line, and how many stand in it.
    fn head(&self, resource: &Resource) -> Option<(Arc<Place>, usize)> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let lines = self.lock();
        let places = &lines.get(resource)?.places;
        let (_, head) = places.first_key_value()?;
        Some((Arc::clone(head), places.len()))
    }

    fn leave(&self, standing: &Standing, won: Option<Moment>) {
        let (resource, place) = (&standing.place.bid.resource, &standing.place);
        let mut lines = self.lock();
        let mut inbox = place.lock();
        inbox.left = true;
        // An attempt that was begun for it is undone by its drop, after the locks are free.
        let unread = inbox.news.take();
        drop(inbox);
        let Some(line) = lines.get_mut(resource) else {
            return;
        };
        let was_head = place.is_head.load(Ordering::Acquire);
        line.places.remove(&place.number.load(Ordering::Relaxed));
        let next = if was_head { line.first() } else { None };
        if let Some(until) = won {
            line.silent = None;
            line.pass_to_winner(until, place.bid.inner.clock.now());
        }
        let ended = if line.places.is_empty() {
            self.count.fetch_sub(1, Ordering::SeqCst);
            lines.remove(resource)
        } else {
            None
        };
        drop(lines);
        // What it had begun is undone before anybody tries.
        drop(unread);
        if let Some(ended) = ended {
            if let Some(release) = ended.silent {
                place.bid.inner.tell_all(&release);
            }
            if let Some(hearing) = ended.hearing {
                let now = place.bid.inner.clock.now();
                self.lingering.keep(resource, hearing, ended.passing, now);
            }
        }
        if let Some(next) = next {
            next.tell(won.map_or(News::Try, News::Head));
        }
    }
}

impl Line {
    fn join(&mut self, bid: &Arc<Bid>, number: u64) -> Standing {
        let place = Arc::new(Place {
            bid: Arc::clone(bid),
            number: AtomicU64::new(number),
            is_head: AtomicBool::new(self.places.is_empty()),
            inbox: Mutex::default(),
            told: Notify::new(),
        });
        self.places.insert(number, Arc::clone(&place));
        Standing::at(place)
    }

    /// Whoever is first now, who is the head from now on.
    fn first(&self) -> Option<Arc<Place>> {
        let (_, first) = self.places.first_key_value()?;
        first.is_head.store(true, Ordering::Release);
        Some(Arc::clone(first))
    }

    /// What was refused before holds no longer: the lock has gone to one of the line.
    fn pass_to_winner(&mut self, until: Moment, now: Moment) {
        let Some(last) = self.last.take() else { return };
        let held = matches!(last.loss, Loss::Contended { .. });
        self.last = held.then(|| {
            Arc::new(Refusal {
                loss: held_until(until, now),
                attempt: last.attempt.clone(),
                at: now,
            })
        });
    }
}

/// What is known of a lock that is held until then at most.
pub(super) fn held_until(until: Moment, now: Moment) -> Loss {
    Loss::Contended {
        free_in: Some(until.saturating_since(now)),
        split: false,
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: News) {
        self.lock().take(news);
        self.told.notify_one();
    }
}
