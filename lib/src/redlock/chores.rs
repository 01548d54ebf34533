//! What must still be told to nodes after the caller has gone: undos and settlements.
//!
//! One queue a node, worked off by one task that lives while the queue is not
//! empty. A node that does not answer is asked again, one chore at a time, until
//! it does or the chore's time is over. Queues are bounded: the oldest chore is
//! given up first, since its key is the first to expire.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::clock::{Clock, Moment};
use crate::core::command::Command;
use crate::core::quorum::{Fault, FaultKind, Vote};
use crate::node::{Ballot, Node};
use crate::observer::{Event, Observer};

/// Chores kept for one node: some ten megabytes.
const MAX_CHORES: usize = 65_536;
/// Chores sent to a healthy node at once.
const BATCH: usize = 256;
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
    emptied: Notify,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Chore>,
    /// Whether a task works on the queue.
    worked: bool,
}

#[derive(Clone)]
struct Chore {
    command: Command,
    until: Moment,
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
                emptied: Notify::new(),
            })
        };
        Self {
            queues: nodes.iter().map(queue).collect(),
            runtime,
        }
    }

    /// Has a node told this, for as long as `patience` if it does not answer.
    pub(super) fn add(&self, node: usize, command: Command, patience: Duration) {
        let Some(queue) = self.queues.get(node) else {
            return;
        };
        let until = queue.clock.now() + patience;
        let mut state = queue.lock();
        if state.waiting.len() >= MAX_CHORES {
            state.waiting.pop_front();
        }
        state.waiting.push_back(Chore { command, until });
        if !std::mem::replace(&mut state.worked, true) {
            drop(state);
            self.runtime.spawn(Arc::clone(queue).work());
        }
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

    async fn work(self: Arc<Self>) {
        let mut pause = None;
        loop {
            let batch = self.take(if pause.is_none() { BATCH } else { 1 });
            if batch.is_empty() {
                return;
            }
            let failed = self.tell(batch).await;
            if failed.is_empty() {
                pause = None;
                continue;
            }
            self.put_back(failed);
            let next = pause.map_or(SHORTEST_PAUSE, |last: Duration| {
                (last * 2).min(LONGEST_PAUSE)
            });
            pause = Some(next);
            tokio::time::sleep(next).await;
        }
    }

    /// The next chores whose time is not over. Without any, the work is ended.
    fn take(&self, most: usize) -> Vec<Chore> {
        let now = self.clock.now();
        let mut state = self.lock();
        let mut batch = Vec::new();
        while batch.len() < most
            && let Some(chore) = state.waiting.pop_front()
        {
            if chore.until > now {
                batch.push(chore);
            } else {
                let vote = Vote::Failed(Fault::unknown(FaultKind::Timeout, "given up"));
                self.observer.event(&Event::CleanedUp {
                    node: self.node.id(),
                    vote: &vote,
                });
            }
        }
        if batch.is_empty() {
            state.worked = false;
            drop(state);
            self.emptied.notify_waiters();
        }
        batch
    }

    /// Tells the node; what it did not answer comes back.
    async fn tell(&self, batch: Vec<Chore>) -> Vec<Chore> {
        let not_after = self.clock.now() + ANSWER_TIME;
        let mut ballot = Ballot::open();
        for (index, chore) in batch.iter().enumerate() {
            self.node
                .submit(chore.command.clone(), not_after, ballot.slot(index));
        }
        let mut open: Vec<Option<Chore>> = batch.into_iter().map(Some).collect();
        let mut missing = open.len();
        let mut failed = Vec::new();
        let all = async {
            while missing > 0 {
                let (index, reply) = ballot.next().await;
                missing -= 1;
                let Some(chore) = open[index].take() else {
                    continue;
                };
                if let Vote::Failed(_) = reply.vote {
                    failed.push(chore);
                } else {
                    let node = self.node.id();
                    self.observer.event(&Event::CleanedUp {
                        node,
                        vote: &reply.vote,
                    });
                }
            }
        };
        let _ = tokio::time::timeout(ANSWER_TIME, all).await;
        failed.extend(open.into_iter().flatten());
        failed
    }

    fn put_back(&self, failed: Vec<Chore>) {
        let mut state = self.lock();
        for chore in failed.into_iter().rev() {
            state.waiting.push_front(chore);
        }
    }
}

impl fmt::Debug for Chores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chores").finish_non_exhaustive()
    }
}
