//! A client's watch over its nodes' clocks: it looks every few seconds, and at
//! once when votes disagree or do not count. What follows from a look is in `core::clock_watch`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::Inner;
use crate::cluster::clocks::{look, tell};
use crate::config::DEFAULT_NODE_TIMEOUT;
use crate::core::clock_watch::{ClockWatch, Sighting, Telling};
use crate::core::clocks::{Baselines, ClockStep};
use crate::core::quorum::majority;
use crate::observer::Event;

/// Doubts are looked into this often at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// How long doubts are waited for after that: every five seconds the clocks are
/// looked at though nothing is suspected.
const PATIENCE: Duration = Duration::from_millis(4_800);
/// How long while some node's clock is not known, so that a node which was away is
/// of use again within a second, also to a client that asks but once.
const CURIOSITY: Duration = Duration::from_millis(500);
/// How often a client that connects looks for the clocks of nodes that serve: one
/// slow answer should not cost the first lock its quorum.
const FIRST_LOOKS: usize = 3;

pub(super) struct Clockwork {
    watch: Mutex<ClockWatch>,
    /// What attempts judge by, copied from the watch after every look.
    baselines: Mutex<Arc<Baselines>>,
    doubts: Arc<Notify>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clockwork {
    pub(super) fn of(nodes: usize) -> Self {
        Self {
            watch: Mutex::new(ClockWatch::new(nodes, majority(nodes))),
            baselines: Mutex::default(),
            doubts: Arc::default(),
        }
    }

    /// What to judge votes by.
    pub(super) fn baselines(&self) -> Arc<Baselines> {
        Arc::clone(&lock(&self.baselines))
    }

    /// Votes disagreed: the clocks are looked at soon.
    pub(super) fn doubt(&self) {
        self.doubts.notify_one();
    }

    fn patience(&self) -> Duration {
        if lock(&self.watch).lacks_any() {
            CURIOSITY
        } else {
            PATIENCE
        }
    }

    /// Whether so many clocks jumped that no quorum of votes counts.
    pub(super) fn is_astray(&self) -> bool {
        lock(&self.watch).is_astray()
    }
}

/// Looks for as long as the client lives.
pub(super) async fn keep_watch(inner: Weak<Inner>) {
    let told = |inner: Arc<Inner>| (Arc::clone(&inner.clocks.doubts), inner.clocks.patience());
    loop {
        tokio::time::sleep(SHORTEST_PAUSE).await;
        let Some((doubts, patience)) = inner.upgrade().map(told) else {
            return;
        };
        // Doubts or not: it is looked.
        let _ = tokio::time::timeout(patience, doubts.notified()).await;
        match inner.upgrade() {
            Some(inner) => {
                inner.lines.lingering.forget(inner.clock.now());
                inner.turns.forget(inner.clock.now());
                inner.look_at_clocks().await;
            }
            None => return,
        }
    }
}

impl Inner {
    /// Looks at all nodes' clocks for the first time; those of these nodes should be
    /// known then.
    pub(super) async fn learn_clocks(&self, of: &[bool]) {
        for _ in 0..FIRST_LOOKS {
            self.look_at_clocks().await;
            if lock(&self.clocks.watch).knows_all(of) {
                return;
            }
        }
    }

    /// Looks at all nodes' clocks, and tells them what follows.
    pub(super) async fn look_at_clocks(&self) {
        let mut tellings = self.see_clocks().await;
        // What looks like a jump may be a machine of ours that stood still in the
        // middle of the look.
        let jumped = |telling: &Option<Telling>| {
            telling.is_some_and(|told| matches!(told.step, ClockStep::Jumped { .. }))
        };
        if tellings.iter().any(jumped) {
            let before = tellings;
            tellings = self.see_clocks().await;
            for (telling, before) in tellings.iter_mut().zip(&before) {
                if jumped(telling) && !jumped(before) {
                    *telling = None;
                }
            }
        }
        if tellings.iter().any(Option::is_some) {
            self.tell_clocks(&tellings).await;
        }
    }

    async fn see_clocks(&self) -> Vec<Option<Telling>> {
        // No lock waits for it, so a bound that is too short for locks is not for this.
        let time = self.settings.node_timeout.max(DEFAULT_NODE_TIMEOUT);
        let seen = look(&self.nodes, &*self.clock, time).await;
        let now = self.clock.now();
        let mut watch = lock(&self.clocks.watch);
        let tellings = watch.look(&seen, self.cluster_max_lease(), now);
        *lock(&self.clocks.baselines) = Arc::new(watch.baselines());
        let astray = watch.is_astray();
        drop(watch);
        self.note_clocks(&seen, astray);
        tellings
    }

    /// Tells the observer how the clocks stand to one another.
    fn note_clocks(&self, seen: &[Option<Sighting>], astray: bool) {
        let mut all: Vec<_> = seen.iter().flatten().map(Sighting::offset).collect();
        all.sort_unstable();
        let Some(middle) = all.get(all.len() / 2) else {
            return;
        };
        let ahead = |seen: &Option<Sighting>| {
            let offset = seen.as_ref().map(Sighting::offset)?;
            Some(offset.saturating_sub(*middle))
        };
        let named = self.nodes.iter().zip(seen);
        let offsets: Vec<_> = named.map(|(node, seen)| (node.id(), ahead(seen))).collect();
        self.observer.event(&Event::ClocksSeen {
            offsets: &offsets,
            astray,
        });
    }

    async fn tell_clocks(&self, tellings: &[Option<Telling>]) {
        let time = self.settings.node_timeout.max(DEFAULT_NODE_TIMEOUT);
        let told = tell(&self.nodes, tellings, time).await;
        for (node, telling, answer) in told {
            // Who did not answer is told again after the next look.
            let Ok(Some(marker)) = answer else { continue };
            let mut watch = lock(&self.clocks.watch);
            watch.learn(node, &marker.clock);
            *lock(&self.clocks.baselines) = Arc::new(watch.baselines());
            drop(watch);
            let ours = marker.clock.baseline == Some(telling.baseline);
            if ours && let ClockStep::Jumped { .. } = telling.step {
                self.observer.event(&Event::NodeGuarded {
                    node: self.nodes[node].id(),
                    remaining: Some(marker.cluster.max_lease),
                    cause: marker.cause,
                });
            }
        }
    }
}
