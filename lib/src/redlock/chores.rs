//! What must still be told to nodes after the caller has gone: undos and settlements.
//!
//! One queue a node, worked off by one task that lives while the queue is not
//! empty. A node that does not answer is asked again, one chore at a time, until
//! it does or the chore's time is over. Queues are bounded: the oldest chore is
//! given up first, since its key is the first to expire.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::clock::{Clock, Moment};
use crate::core::command::Command;
use crate::core::quorum::{Fault, FaultKind, Reply, Vote};
use crate::core::time::WallTime;
use crate::node::{Ballot, Judged, Node};
use crate::observer::{Event, Observer, Trace};

/// Chores kept for one node: some ten megabytes.
const MAX_CHORES: usize = 65_536;
/// Chores that a healthy node is told at once.
const WINDOW: usize = 256;
/// The pause after a node's first failure, and after many.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A node answers, or fails, within this; the bound is for nodes of other make.
const ANSWER_TIME: Duration = Duration::from_secs(10);

pub(super) struct Chores {
    queues: Vec<Arc<Queue>>,
    runtime: Handle,
}

struct Queue {
    node: Arc<dyn Node>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    state: Mutex<QueueState>,
    added: Notify,
    emptied: Notify,
    /// Chores that were neither answered nor given up.
    pending: AtomicUsize,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Chore>,
    /// What the node answered with an error, until it is told again.
    deferred: VecDeque<(Moment, Chore)>,
    /// Whether a task works on the queue.
    worked: bool,
}

struct Chore {
    command: Command,
    until: Moment,
    /// Follows whose chore it is; told of the first try alone.
    trace: Option<Arc<dyn Trace>>,
}

impl Chores {
    pub(super) fn new(
        nodes: &[Arc<dyn Node>],
        clock: &Arc<dyn Clock>,
        observer: &Arc<dyn Observer>,
        runtime: Handle,
    ) -> Self {
        let queue = |node: &Arc<dyn Node>| {
            Arc::new(Queue {
                node: Arc::clone(node),
                clock: Arc::clone(clock),
                observer: Arc::clone(observer),
                state: Mutex::default(),
                added: Notify::new(),
                emptied: Notify::new(),
                pending: AtomicUsize::new(0),
            })
        };
        Self {
            queues: nodes.iter().map(queue).collect(),
            runtime,
        }
    }

    /// Has a node told this, for as long as `patience` if it does not answer. `trace` hears of it.
    pub(super) fn add(
        &self,
        node: usize,
        command: Command,
        patience: Duration,
        trace: Option<Arc<dyn Trace>>,
    ) {
        let Some(queue) = self.queues.get(node) else {
            return;
        };
        let until = queue.clock.now() + patience;
        let mut state = queue.lock();
        let mut given_up = None;
        if state.waiting.len() + state.deferred.len() >= MAX_CHORES {
            given_up = state.waiting.pop_front();
        }
        state.waiting.push_back(Chore {
            command,
            until,
            trace,
        });
        queue.pending.fetch_add(1, Ordering::Relaxed);
        let worked = std::mem::replace(&mut state.worked, true);
        drop(state);
        if let Some(chore) = given_up {
            queue.note_given_up(&chore);
        }
        if worked {
            queue.added.notify_one();
        } else {
            self.runtime.spawn(Arc::clone(queue).work());
        }
    }

    /// How many are not done.
    pub(super) fn pending(&self) -> usize {
        let queues = self.queues.iter();
        queues
            .map(|queue| queue.pending.load(Ordering::Relaxed))
            .sum()
    }

    /// Waits until no node has anything left to be told.
    pub(super) async fn done(&self) {
        for queue in &self.queues {
            loop {
                let emptied = queue.emptied.notified();
                if !queue.lock().worked {
                    break;
                }
                emptied.await;
            }
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until nothing is left: `Healthy => Failing => Healthy …`. A healthy
    /// node is told everything at once; one that failed, one chore at a time,
    /// after a pause. A chore that is not answered holds up no other.
    async fn work(self: Arc<Self>) {
        let mut ballot = Ballot::open();
        let mut told: HashMap<usize, Chore> = HashMap::new();
        let mut number = 0;
        let mut pause = None;
        let mut failing = false;
        loop {
            // After a failure nothing more is told before what was told has ended.
            let window = match pause {
                _ if failing => 0,
                None => WINDOW,
                Some(_) => 1,
            };
            while told.len() < window
                && let Some(mut chore) = self.take()
            {
                let not_after = self.clock.now() + ANSWER_TIME;
                let slot = ballot.slot(number).followed(chore.trace.take());
                self.node.submit(chore.command.clone(), not_after, slot);
                told.insert(number, chore);
                number += 1;
            }
            if told.is_empty() && !failing {
                match self.rest() {
                    Rest::Over => return,
                    Rest::Until(next) => {
                        let pause = next.saturating_since(self.clock.now());
                        tokio::select! {
                            biased;
                            () = tokio::time::sleep(pause) => {}
                            () = self.added.notified() => {}
                        }
                    }
                    Rest::None => {}
                }
                continue;
            }
            let answered = tokio::select! {
                biased;
                answered = tokio::time::timeout(ANSWER_TIME, ballot.next()) => answered,
                () = self.added.notified(), if told.len() < window => continue,
            };
            let Ok((number, reply)) = answered else {
                // A node of other make, which does not keep its word.
                self.put_back(told.drain().map(|(_, chore)| chore));
                ballot = Ballot::open();
                failing = false;
                continue;
            };
            let Some(chore) = told.remove(&number) else {
                continue;
            };
            if let Vote::Failed(fault) = &reply.vote {
                if is_away(fault.kind) {
                    // Healthy => Failing
                    failing = true;
                    self.put_back([chore]);
                } else {
                    // The node answers, but not this: others must not wait for it.
                    self.defer(chore);
                }
            } else if self.is_too_early(&chore.command, &reply) {
                self.defer(chore);
            } else {
                let node = self.node.id();
                self.pending.fetch_sub(1, Ordering::Relaxed);
                self.observer.event(&Event::CleanedUp {
                    node,
                    operation: chore.command.name(),
                    vote: &reply.vote,
                });
                if !failing {
                    // Failing => Healthy
                    pause = None;
                }
            }
            if failing && told.is_empty() {
                failing = false;
                let longer = |last: Duration| (last * 2).min(LONGEST_PAUSE);
                let next = pause.map_or(SHORTEST_PAUSE, longer);
                pause = Some(next);
                tokio::time::sleep(next).await;
            }
        }
    }

    /// Whether the token lies so far ahead of the node's clock that it refuses nothing for it.
    /// What comes late could be granted once the clock has come closer.
    fn is_too_early(&self, command: &Command, reply: &Reply) -> bool {
        let (Command::Undo { token, .. } | Command::Settle { token, .. }) = command else {
            return false;
        };
        let token = WallTime::from_micros(token.as_u64());
        reply.time.is_some_and(|time| {
            // Nearly always: what follows is for clocks that stand seconds apart.
            token > time
                && matches!(self.node.last_judged(),
                    Some(Judged::Serving(cluster)) if token > time.plus(cluster.max_lease))
        })
    }

    /// The next chore whose time is not over.
    fn take(&self) -> Option<Chore> {
        let now = self.clock.now();
        let (mut taken, mut given_up) = (None, Vec::new());
        {
            let mut state = self.lock();
            while let Some((due, _)) = state.deferred.front()
                && *due <= now
                && let Some((_, chore)) = state.deferred.pop_front()
            {
                state.waiting.push_back(chore);
            }
            while taken.is_none()
                && let Some(chore) = state.waiting.pop_front()
            {
                if chore.until > now {
                    taken = Some(chore);
                } else {
                    given_up.push(chore);
                }
            }
        }
        for chore in given_up {
            self.note_given_up(&chore);
        }
        taken
    }

    fn note_given_up(&self, chore: &Chore) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
        let vote = Vote::Failed(Fault::unknown(FaultKind::Timeout, "given up"));
        self.observer.event(&Event::CleanedUp {
            node: self.node.id(),
            operation: chore.command.name(),
            vote: &vote,
        });
    }

    /// Whether there is more to do, and when. Without, the work is ended.
    fn rest(&self) -> Rest {
        let mut state = self.lock();
        if !state.waiting.is_empty() {
            return Rest::None;
        }
        if let Some((due, _)) = state.deferred.front() {
            return Rest::Until(*due);
        }
        state.worked = false;
        drop(state);
        self.emptied.notify_waiters();
        Rest::Over
    }

    fn defer(&self, chore: Chore) {
        let due = self.clock.now() + LONGEST_PAUSE;
        self.lock().deferred.push_back((due, chore));
    }

    fn put_back(&self, failed: impl IntoIterator<Item = Chore>) {
        let mut state = self.lock();
        for chore in failed {
            state.waiting.push_front(chore);
        }
    }
}

/// What is left for a queue's task.
enum Rest {
    /// Something, at once.
    None,
    /// Something, from then on.
    Until(Moment),
    /// Nothing: the task ends.
    Over,
}

/// Whether a fault is of the node or its connection, rather than an answer.
const fn is_away(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Refused
            | FaultKind::Unreachable
            | FaultKind::Timeout
            | FaultKind::Disconnected
            | FaultKind::Backlog
            | FaultKind::Misconfigured
    )
}

impl fmt::Debug for Chores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chores").finish_non_exhaustive()
    }
}
