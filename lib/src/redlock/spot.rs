//! What one request knows of where it stands in line, and what it is told.
//!
//! Invariant: an attempt is begun on its behalf only while it sleeps, and one that it
//! does not read is undone when it goes away.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::inbox::{Inbox, News};
use super::proposal::{Bid, Flight};
use crate::clock::Moment;
use crate::core::attempt::Attempt;
use crate::core::command::Turn;
use crate::core::quorum::Vote;

/// Who has no more than so many before it when the lock is let go may be next: by its own
/// count it is not, but that may be too high.
const IN_SIGHT: u64 = 2;

/// An attempt that was begun on somebody's behalf is undone when it is not read for so long:
/// whose future is polled no more must not hold the lock. Far longer than a busy machine takes.
const UNREAD: Duration = Duration::from_millis(250);

/// Where a request stands, as far as it knows.
pub(super) struct Spot {
    pub(super) bid: Arc<Bid>,
    quorum: usize,
    state: Mutex<State>,
    told: Notify,
    /// There may be a reason to look where it stands.
    pub(super) look: Notify,
    /// There is a reason to look where it stands.
    pub(super) look_now: Notify,
}

struct State {
    inbox: Inbox,
    /// Under what it tries, once a quorum has accepted that.
    turn: Option<Turn>,
    /// Releases that were known of when the last attempt was begun.
    launched: u64,
    /// What each node told last.
    seen: Vec<Option<Seen>>,
    /// Whether it was told that it is the first.
    was_first: bool,
}

#[derive(Clone, Copy)]
struct Seen {
    /// Nobody was before it.
    first: bool,
    /// Its turn comes with the release of this number.
    with_release: u64,
}

impl Spot {
    pub(super) fn new(bid: &Arc<Bid>) -> Arc<Self> {
        let inner = &bid.inner;
        let state = State {
            inbox: Inbox::default(),
            turn: None,
            launched: 0,
            seen: vec![None; inner.nodes.len()],
            was_first: false,
        };
        Arc::new(Self {
            bid: Arc::clone(bid),
            quorum: inner.quorum(),
            state: Mutex::new(state),
            told: Notify::new(),
            look: Notify::new(),
            look_now: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt is being begun, when so many releases are known of.
    pub(super) fn launch(&self, released: u64) {
        let mut state = self.lock();
        state.launched = released;
        // What it was told before has come true.
        state.inbox.news = None;
    }

    /// How an attempt ended, and under what it tries from now on.
    pub(super) fn note(&self, attempt: &Attempt, turn: Option<Turn>) {
        let mut state = self.lock();
        state.turn = turn;
        let launched = state.launched;
        for (node, reply) in attempt.replies().iter().enumerate() {
            if let Some(reply) = reply {
                state.note(node, &reply.vote, launched);
            }
        }
        state.was_first = state.is_first(self.quorum);
    }

    /// The answer to a heartbeat that was sent when so many releases were known of. Who has
    /// become the first tries.
    pub(super) fn beaten(&self, node: usize, vote: &Vote, released: u64) {
        let mut state = self.lock();
        state.note(node, vote, released);
        let is_first = state.is_first(self.quorum);
        let became = is_first && !state.was_first;
        state.was_first = is_first;
        if became {
            state.inbox.take(News::Try);
            drop(state);
            self.told.notify_one();
        }
    }

    /// The lock was let go, for the so-manieth time.
    pub(super) fn release_came(self: &Arc<Self>, released: u64) {
        let mut state = self.lock();
        match state.ahead(self.quorum, released) {
            0 => {
                let begin = state.inbox.asleep && state.inbox.news.is_none() && !state.inbox.left;
                let news = match state.turn.filter(|_| begin) {
                    Some(turn) => {
                        state.launched = released;
                        let unread = Arc::downgrade(self);
                        self.bid.inner.runtime.spawn(async move {
                            tokio::time::sleep(UNREAD).await;
                            if let Some(spot) = unread.upgrade() {
                                spot.withdraw(released);
                            }
                        });
                        News::Begun(Box::new(self.bid.launch_in_turn(None, turn)))
                    }
                    None => News::Try,
                };
                state.inbox.take(news);
                drop(state);
                self.told.notify_one();
            }
            1..=IN_SIGHT => self.look.notify_one(),
            _ => {}
        }
    }

    /// The attempt that was begun when so many releases were known of is undone, unless it
    /// was read. It stands in line for as long as its ticket lives.
    fn withdraw(&self, released: u64) {
        let mut state = self.lock();
        let unread = matches!(state.inbox.news, Some(News::Begun(_)));
        if unread && state.launched == released {
            let begun = state.inbox.news.replace(News::Try);
            drop(state);
            drop(begun);
        }
    }

    /// The lock may have been let go unheard.
    pub(super) fn release_may_have_come(&self, released: u64) {
        let mut state = self.lock();
        let ahead = state.ahead(self.quorum, released);
        if ahead == 0 || state.is_first(self.quorum) {
            state.inbox.take(News::Try);
            drop(state);
            self.told.notify_one();
        } else {
            self.look_now.notify_one();
        }
    }

    /// Somebody before it has gone.
    pub(super) fn one_less(&self) {
        for seen in self.lock().seen.iter_mut().flatten() {
            if !seen.first {
                seen.with_release = seen.with_release.saturating_sub(1);
            }
        }
    }

    /// It waits no longer. An attempt that was begun for it is undone when it is dropped.
    pub(super) fn end(&self) -> Option<News> {
        let mut state = self.lock();
        state.inbox.left = true;
        state.inbox.news.take()
    }

    /// Whether a quorum of nodes has nobody before it.
    pub(super) fn is_first(&self) -> bool {
        self.lock().is_first(self.quorum)
    }

    /// Whether by its own count only a few are before it.
    pub(super) fn is_in_sight(&self, released: u64) -> bool {
        let ahead = self.lock().ahead(self.quorum, released);
        (1..=IN_SIGHT).contains(&ahead)
    }

    /// Whether others stand before it on so many nodes that it can't be granted the lock.
    pub(super) fn is_behind_others(&self, released: u64) -> bool {
        let state = self.lock();
        !state.is_first(self.quorum) && state.ahead(self.quorum, released) > 0
    }

    /// Waits for news; `None` when there were none until this moment.
    pub(super) async fn news(&self, until: Moment) -> Option<Option<Box<Flight>>> {
        let inner = &self.bid.inner;
        if self.has_missed_its_turn(inner.turns.released(&self.bid.resource)) {
            return Some(None);
        }
        let sleeping = Sleeping::begin(self);
        let told = async {
            loop {
                if let Some(news) = self.lock().inbox.news.take() {
                    return news;
                }
                self.told.notified().await;
            }
        };
        let news = tokio::time::timeout(inner.remaining(until), told).await;
        drop(sleeping);
        // Told in the moment between.
        let news = news.ok().or_else(|| self.lock().inbox.news.take());
        news.map(|news| match news {
            News::Begun(flight) => Some(flight),
            _ => None,
        })
    }

    /// Whether its turn came while it was busy with the attempt before.
    fn has_missed_its_turn(&self, released: u64) -> bool {
        let state = self.lock();
        released > state.launched && state.ahead(self.quorum, released) == 0
    }
}

impl State {
    fn note(&mut self, node: usize, vote: &Vote, released: u64) {
        let before = match vote {
            Vote::Queued { position, .. } => u64::from(*position),
            // What the first in line is told: by and by, or at once.
            Vote::Held { .. } => 1,
            Vote::Granted | Vote::Again { .. } | Vote::Stale { .. } => 0,
            _ => return,
        };
        let first = before == 0 || matches!(vote, Vote::Held { .. });
        if let Some(seen) = self.seen.get_mut(node) {
            *seen = Some(Seen {
                first,
                with_release: released + before,
            });
        }
    }

    /// How many releases its turn is away, as a quorum of nodes has it; none where that
    /// is not known.
    fn ahead(&self, quorum: usize, released: u64) -> u64 {
        let seen = self.seen.iter().flatten();
        let mut ahead: Vec<_> = seen
            .map(|seen| seen.with_release.saturating_sub(released))
            .collect();
        ahead.sort_unstable();
        ahead.get(quorum - 1).copied().unwrap_or(0)
    }

    fn is_first(&self, quorum: usize) -> bool {
        let first = self.seen.iter().flatten().filter(|seen| seen.first);
        first.count() >= quorum
    }
}

/// While it lives, an attempt may be begun on the sleeper's behalf.
struct Sleeping<'a>(&'a Spot);

impl<'a> Sleeping<'a> {
    fn begin(spot: &'a Spot) -> Self {
        spot.lock().inbox.asleep = true;
        Self(spot)
    }
}

impl Drop for Sleeping<'_> {
    fn drop(&mut self) {
        self.0.lock().inbox.asleep = false;
    }
}
