//! The API keys that were deleted: a set that only grows, on all nodes.
//!
//! A deletion is acknowledged by a majority, and every proxy reads all nodes twice a second. What
//! it has read is *fresh* while a majority of nodes that are *sure* was read within [`MAX_AGE`]: two
//! majorities share a node, so a fresh proxy knows every deletion acknowledged longer ago than that.
//!
//! A node is sure in a run in which it was taught everything: `mark` holds that run. One that
//! restarted may have lost what it had acknowledged. It counts for nothing until it was taught the
//! union of what a majority of sure nodes told after the loss was seen. If fewer are sure (a new
//! set, or all were restarted), all nodes together teach, or, after [`PATIENCE`], any majority.
//!
//! It does not survive the loss of a majority's data, as locks don't either; what any running
//! proxy knows is taught again even then.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use everlock::entropy::{Entropy as _, SystemEntropy};
use everlock::majority;
use redis::Script;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api_key::KeyId;
use super::keeper::{Away, Keeper, Link};

/// What a proxy knows of deletions is never older when it admits somebody. With the time that an
/// answer takes, a deleted key is refused everywhere within five seconds.
pub(super) const MAX_AGE: Duration = Duration::from_secs(4);
/// A node is read this often, so that one slow reading or two cost nobody anything.
const POLL: Duration = Duration::from_millis(500);
/// And one that is not sure this often: somebody may wait for it.
const UNSURE_POLL: Duration = Duration::from_millis(50);
/// How long the nodes that are away are waited for, when those that are there can't know.
const PATIENCE: Duration = Duration::from_secs(10);
/// A deletion is acknowledged within this, or not at all.
const REVOKE_TIME: Duration = Duration::from_secs(2);
/// Members that travel together.
const PAGE: usize = 1_000;
/// Deleted keys of one secret; some 50 MB in each proxy and on each node. Rotation starts afresh.
const MAX_REVOKED: usize = 500_000;

static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/read.lua")));
static ADD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/add.lua")));

/// Why a key could not be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RevokeError {
    /// No majority of nodes took it in time. It may be deleted, and is on this proxy.
    Unavailable,
    /// As many keys of one secret are deleted as can be.
    Full,
}

/// The deleted keys, as this process knows them.
pub(crate) struct Revocations {
    shelves: Vec<Arc<Shelf>>,
    keepers: Vec<Arc<Keeper>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The deleted keys of one secret.
struct Shelf {
    set: String,
    mark: String,
    state: RwLock<State>,
}

struct State {
    known: HashSet<KeyId>,
    sights: Vec<Sight>,
    /// Since when a majority of nodes is read without a break.
    majority_since: Option<Moment>,
}

/// What was seen of one node.
#[derive(Clone, Copy, Default)]
struct Sight {
    /// When the last complete reading began.
    read: Option<Moment>,
    /// Since when it was seen not to be sure.
    unsure_since: Option<Moment>,
}

/// Up to where one task has read one node's set, over one link.
#[derive(Default)]
struct Cursor {
    link: Option<u64>,
    mark: String,
    place: usize,
    /// Whether the node was short of members at the last reading, too.
    short: bool,
}

impl Revocations {
    /// The keys deleted among those of secrets with these names. Nodes may be none: then the
    /// deletions live in this process alone.
    pub(crate) fn new(prefix: &str, names: &[String], keepers: Vec<Arc<Keeper>>) -> Self {
        let shelf = |name: &String| {
            Arc::new(Shelf {
                set: format!("{prefix}~revoked:{name}"),
                mark: format!("{prefix}~revoked-mark:{name}"),
                state: RwLock::new(State {
                    known: HashSet::new(),
                    sights: vec![Sight::default(); keepers.len()],
                    majority_since: None,
                }),
            })
        };
        Self {
            shelves: names.iter().map(shelf).collect(),
            keepers,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts to read the nodes, until this is dropped. A node has one task, which never waits
    /// for another node's.
    pub(crate) fn watch(&self) {
        for (index, keeper) in self.keepers.iter().enumerate() {
            let (keeper, shelves) = (Arc::clone(keeper), self.shelves.clone());
            let watching = async move {
                let mut cursors: Vec<_> = shelves.iter().map(|_| Cursor::default()).collect();
                loop {
                    let mut pause = POLL;
                    for (shelf, cursor) in shelves.iter().zip(&mut cursors) {
                        // One that is away is tried again at the next round.
                        if shelf.look(index, &keeper, cursor).await == Ok(false) {
                            pause = UNSURE_POLL;
                        }
                    }
                    tokio::time::sleep(pause).await;
                }
            };
            let stop = self.stop.clone();
            self.tasks.spawn(stop.run_until_cancelled_owned(watching));
        }
    }

    /// Whether the key was deleted, as far as is known here.
    pub(crate) fn is_revoked(&self, secret: usize, id: &KeyId) -> bool {
        self.shelves[secret].read().known.contains(id)
    }

    /// Whether everything is known that was deleted longer than [`MAX_AGE`] ago.
    pub(crate) fn is_fresh(&self) -> bool {
        let now = SystemClock.now();
        self.shelves.iter().all(|shelf| {
            let state = shelf.read();
            let fresh = state.sights.iter().filter(|sight| sight.is_sure_at(now));
            state.sights.is_empty() || fresh.count() >= majority(state.sights.len())
        })
    }

    /// Deletes a key: here at once, everywhere once a majority of nodes has it. What was begun
    /// goes on if the future is dropped, and again whenever a node is seen to be short of it.
    pub(crate) async fn revoke(&self, secret: usize, id: KeyId) -> Result<(), RevokeError> {
        let set = &self.shelves[secret];
        {
            let mut state = set.write();
            if state.known.len() >= MAX_REVOKED && !state.known.contains(&id) {
                return Err(RevokeError::Full);
            }
            state.known.insert(id);
        }
        if self.keepers.is_empty() {
            return Ok(());
        }
        let (told, mut acks) = mpsc::channel(self.keepers.len());
        for keeper in &self.keepers {
            let (set, keeper, told) = (Arc::clone(set), Arc::clone(keeper), told.clone());
            self.tasks.spawn(async move {
                let written = async {
                    let link = keeper.link().await?;
                    set.add(&keeper, &link, ("", ""), &[id]).await
                };
                let _ = told.send(written.await).await;
            });
        }
        drop(told);
        let majority = majority(self.keepers.len());
        let counting = async {
            let mut written = 0;
            while written < majority
                && let Some(ack) = acks.recv().await
            {
                written += usize::from(ack.is_ok());
            }
            written >= majority
        };
        match tokio::time::timeout(REVOKE_TIME, counting).await {
            Ok(true) => Ok(()),
            _ => Err(RevokeError::Unavailable),
        }
    }

    /// Waits until every node was told, or could not be.
    pub(crate) async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Revocations {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shelf {
    /// Reads what is new on one node, and teaches it what it lacks. Whether it was sure.
    async fn look(&self, index: usize, keeper: &Keeper, cursor: &mut Cursor) -> Result<bool, Away> {
        let started = SystemClock.now();
        let link = keeper.link().await?;
        if cursor.link != Some(link.number) {
            *cursor = Cursor {
                link: Some(link.number),
                ..Cursor::default()
            };
        }
        self.read_on(keeper, &link, cursor).await?;
        let sure = cursor.mark.strip_prefix(link.run.as_str()).is_some();
        let (known, lacks) = {
            let mut state = self.write();
            state.saw(index, started, sure);
            let lacks = cursor.place < state.known.len();
            // A deletion that is just being written is no lack.
            let lasting = std::mem::replace(&mut cursor.short, lacks) && lacks;
            let teach = if sure {
                lasting
            } else {
                state.can_teach(index, SystemClock.now())
            };
            if !teach {
                return Ok(sure);
            }
            (state.known.iter().copied().collect::<Vec<_>>(), lacks)
        };
        for page in known.chunks(PAGE).filter(|_| lacks) {
            self.add(keeper, &link, ("", ""), page).await?;
        }
        if !sure {
            // The mark differs with each teaching, so that nobody reads on where another began.
            let mark = format!("{}:{:016x}", link.run, SystemEntropy.bits());
            self.add(keeper, &link, (&link.run, &mark), &[]).await?;
            let (node, keys) = (index + 1, known.len());
            tracing::info!(node, keys, "taught a node which API keys are deleted");
        }
        Ok(sure)
    }

    async fn read_on(&self, keeper: &Keeper, link: &Link, cursor: &mut Cursor) -> Result<(), Away> {
        loop {
            let mut call = READ.prepare_invoke();
            call.key(&self.set).key(&self.mark);
            call.arg(&cursor.mark).arg(cursor.place).arg(PAGE);
            let (mark, from, members): (String, usize, Vec<Vec<u8>>) =
                keeper.call(link, &call).await?;
            cursor.mark = mark;
            cursor.place = from + members.len();
            let ids = members
                .iter()
                .filter_map(|id| id.as_slice().try_into().ok());
            let ids: Vec<_> = ids.map(KeyId).collect();
            if !ids.is_empty() {
                self.write().known.extend(ids);
            }
            if members.len() < PAGE {
                return Ok(());
            }
        }
    }

    async fn add(
        &self,
        keeper: &Keeper,
        link: &Link,
        (run, mark): (&str, &str),
        ids: &[KeyId],
    ) -> Result<(), Away> {
        let mut call = ADD.prepare_invoke();
        call.key(&self.set).key(&self.mark).arg(run).arg(mark);
        for id in ids {
            call.arg(&id.0[..]);
        }
        keeper.call(link, &call).await
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn saw(&mut self, index: usize, started: Moment, sure: bool) {
        let sight = &mut self.sights[index];
        sight.read = Some(started);
        sight.unsure_since = match (sure, sight.unsure_since) {
            (true, _) => None,
            // It is known to be unsure from the end of this reading on.
            (false, None) => Some(SystemClock.now()),
            (false, since) => since,
        };
        let there = self
            .sights
            .iter()
            .filter(|sight| sight.was_read_at(started));
        if there.count() < majority(self.sights.len()) {
            self.majority_since = None;
        } else {
            self.majority_since.get_or_insert(started);
        }
    }

    /// Whether what is known here is all that node may have acknowledged and lost. Only readings
    /// count that began after the loss was seen: an earlier one may have missed what was deleted
    /// between it and the loss.
    fn can_teach(&self, index: usize, now: Moment) -> bool {
        let Some(since) = self.sights[index].unsure_since else {
            return true;
        };
        let majority = majority(self.sights.len());
        let later =
            |sight: &&Sight| sight.was_read_at(now) && sight.read.is_some_and(|read| read >= since);
        let sure = self
            .sights
            .iter()
            .filter(later)
            .filter(|sight| sight.is_sure());
        if sure.count() >= majority {
            return true;
        }
        let there = self.sights.iter().filter(later).count();
        let waited = |since: Moment| now.saturating_since(since) >= PATIENCE;
        there == self.sights.len() || (there >= majority && self.majority_since.is_some_and(waited))
    }
}

impl Sight {
    fn is_sure(&self) -> bool {
        self.unsure_since.is_none()
    }

    fn was_read_at(&self, now: Moment) -> bool {
        self.read
            .is_some_and(|read| now.saturating_since(read) <= MAX_AGE)
    }

    fn is_sure_at(&self, now: Moment) -> bool {
        self.is_sure() && self.was_read_at(now)
    }
}
