//! Who of this process stands in line on the nodes, lock by lock, and whose turn comes.
//!
//! A waiter knows from its last answer how many are before it, and every release
//! makes one less. So a release prompts one waiter of a process at most, and mostly
//! the right one: where it is of this process, it is next without a word from the nodes,
//! and its attempt is sent right behind the release. Counts may be wrong (somebody gave
//! up, a word was lost): an attempt that comes too early is refused and corrects them,
//! and who may have missed its turn looks where it stands.
//!
//! Invariant: nothing here decides who is granted the lock; the nodes do.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Inner;
use super::hearing::Hearing;
use super::spot::Spot;
use crate::clock::Moment;
use crate::core::command::Turn;
use crate::core::token::FencingToken;
use crate::core::types::{CallId, Resource};

/// A lock that nobody waits for is listened for this long, for those who come back.
const LINGER: Duration = Duration::from_secs(5);
/// Of so many locks at most.
const MAX_LINES: usize = 256;
/// A release is told of by several nodes, and by this client before them: so many are
/// known again.
const MAX_KNOWN: usize = 16;

/// So many look where they stand when releases may have gone unheard; those behind them have time.
const MAX_DOUBTS: usize = 32;

/// The lines of one client.
#[derive(Default)]
pub(super) struct Turns {
    by_lock: Mutex<HashMap<Resource, Line>>,
    /// How many there are, so that a client without any looks at nothing else.
    count: AtomicUsize,
}

struct Line {
    /// Those whose tickets were accepted, in their order.
    spots: BTreeMap<(FencingToken, u64), Arc<Spot>>,
    /// How many requests there are, those that stand nowhere yet included.
    asking: usize,
    /// Since when there is none.
    idle_since: Moment,
    /// How many releases are known of.
    released: u64,
    /// The last of them.
    known: VecDeque<FencingToken>,
    listens: bool,
    hearing: Option<Hearing>,
}

impl Line {
    /// Whether this release is news.
    fn learn(&mut self, release: FencingToken) -> bool {
        if self.known.contains(&release) {
            return false;
        }
        if self.known.len() == MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(release);
        true
    }

    /// One more release is known of: who is first here now, and how many releases there were.
    fn count_release(&mut self) -> Option<(Arc<Spot>, u64)> {
        self.released += 1;
        Some((self.first()?, self.released))
    }

    fn first(&self) -> Option<Arc<Spot>> {
        self.spots
            .first_key_value()
            .map(|(_, spot)| Arc::clone(spot))
    }
}

/// The order of tickets on the nodes.
const fn place_of(turn: Turn, call: CallId) -> (FencingToken, u64) {
    (turn.ticket, call.number())
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, HashMap<Resource, Line>> {
        self.by_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody is going to stand in line.
    pub(super) fn enter(&self, resource: &Resource) {
        let mut lines = self.lock();
        let line = lines.entry(resource.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::SeqCst);
            Line {
                spots: BTreeMap::new(),
                asking: 0,
                idle_since: Moment::default(),
                released: 0,
                known: VecDeque::new(),
                listens: false,
                hearing: None,
            }
        });
        line.asking += 1;
    }

    /// A quorum of nodes has accepted this ticket.
    pub(super) fn stand(&self, spot: &Arc<Spot>, turn: Turn) {
        if let Some(line) = self.lock().get_mut(&spot.bid.resource) {
            let place = place_of(turn, spot.bid.call);
            line.spots.insert(place, Arc::clone(spot));
        }
    }

    /// How many releases of the lock are known of.
    pub(super) fn released(&self, resource: &Resource) -> u64 {
        self.lock().get(resource).map_or(0, |line| line.released)
    }

    /// Somebody has won, or waits no longer.
    pub(super) fn exit(&self, spot: &Spot, turn: Option<Turn>, won: bool, now: Moment) {
        let resource = &spot.bid.resource;
        let mut lines = self.lock();
        let unread = spot.end();
        let Some(line) = lines.get_mut(resource) else {
            return;
        };
        if let Some(turn) = turn {
            let place = place_of(turn, spot.bid.call);
            let stood = line.spots.remove(&place).is_some();
            // Who is first for a free lock is missed by all: the nodes tell of its leaving.
            if stood && !won && !spot.is_first() {
                for (_, behind) in line.spots.range(place..) {
                    behind.one_less();
                }
            }
        }
        line.asking -= 1;
        line.idle_since = now;
        let keep = line.asking > 0 || line.listens && lines.len() <= MAX_LINES;
        let ended = if keep {
            None
        } else {
            self.count.fetch_sub(1, Ordering::SeqCst);
            lines.remove(resource)
        };
        drop(lines);
        // Its end is told to the nodes, and what was begun is undone, after others can go on.
        drop((ended, unread));
    }

    /// This client is about to send a release. Whether that is news.
    pub(super) fn expect(&self, resource: &Resource, release: FencingToken) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let mut lines = self.lock();
        lines
            .get_mut(resource)
            .is_some_and(|line| line.learn(release))
    }

    /// It was sent. If somebody of this process is next, its attempt follows at once.
    pub(super) fn let_go(&self, resource: &Resource) {
        let first = self.lock().get_mut(resource).and_then(Line::count_release);
        if let Some((first, released)) = first {
            first.release_came(released);
        }
    }

    /// Nodes have told of this release, or may have told of one that was not heard.
    fn heard(&self, resource: &Resource, release: Option<FencingToken>) {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(resource) else {
            return;
        };
        let Some(release) = release else {
            // What was missed makes the counts of all too high who were told before.
            let spots: Vec<_> = line.spots.values().take(MAX_DOUBTS).cloned().collect();
            let released = line.released;
            drop(lines);
            for spot in spots {
                spot.release_may_have_come(released);
            }
            return;
        };
        let first = if line.learn(release) {
            line.count_release()
        } else {
            None
        };
        drop(lines);
        if let Some((first, released)) = first {
            first.release_came(released);
        }
    }

    /// Listens for a lock that is waited for, once.
    pub(super) fn listen(&self, inner: &Arc<Inner>, resource: &Resource) {
        match self.lock().get_mut(resource) {
            Some(line) if !line.listens => line.listens = true,
            _ => return,
        }
        let (weak, name) = (Arc::downgrade(inner), resource.clone());
        let hearing = Hearing::begin(inner, resource, move |release| {
            if let Some(inner) = weak.upgrade() {
                inner.turns.heard(&name, release);
            }
        });
        if let Some(line) = self.lock().get_mut(resource) {
            line.hearing = Some(hearing);
        }
    }

    /// Ends the listening for what nobody came back for.
    pub(super) fn forget(&self, now: Moment) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let over =
            |_: &Resource, line: &mut Line| line.asking == 0 && line.idle_since + LINGER <= now;
        let gone: Vec<_> = self.lock().extract_if(over).collect();
        self.count.fetch_sub(gone.len(), Ordering::SeqCst);
        drop(gone);
    }
}
