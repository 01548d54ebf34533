//! What a waiter itself does in a line: it sleeps, reads what it is told, and leaves.
//!
//! Invariant: whatever lies unread in its inbox when it leaves is undone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Place, Refusal};
use crate::clock::Moment;
use crate::core::attempt::{Attempt, Loss};
use crate::redlock::inbox::News;

/// Somebody's place in a line, which is left when this is dropped.
pub(in crate::redlock) struct Standing {
    pub(super) place: Arc<Place>,
    won: Option<Moment>,
}

impl Standing {
    pub(super) const fn at(place: Arc<Place>) -> Self {
        Self { place, won: None }
    }

    pub(in crate::redlock) fn is_head(&self) -> bool {
        self.place.is_head.load(Ordering::Acquire)
    }

    /// Waits for news; `None` when there were none until this moment.
    pub(in crate::redlock) async fn news(&self, until: Moment) -> Option<News> {
        let inner = &self.place.bid.inner;
        let sleeping = Sleeping::begin(&self.place, until);
        let told = async {
            loop {
                if let Some(news) = self.place.lock().news.take() {
                    return news;
                }
                self.place.told.notified().await;
            }
        };
        let time = inner.remaining(until);
        let news = tokio::time::timeout(time, told).await.ok();
        drop(sleeping);
        // Told in the moment between.
        news.or_else(|| self.place.lock().news.take())
    }

    /// Tells those behind how the head's attempt ended.
    pub(in crate::redlock) fn note(&self, loss: Loss, attempt: &Attempt) {
        let inner = &self.place.bid.inner;
        let refusal = Refusal {
            loss,
            attempt: attempt.clone(),
            at: inner.clock.now(),
        };
        if let Some(line) = inner.lines.lock().get_mut(&self.place.bid.resource) {
            line.last = Some(Arc::new(refusal));
        }
    }

    /// Whether nobody has asked the nodes for so long that the next one should, who is
    /// counted as having asked.
    pub(in crate::redlock) fn is_to_ask(&self, age: Duration, now: Moment) -> bool {
        let mut lines = self.place.bid.inner.lines.lock();
        let Some(line) = lines.get_mut(&self.place.bid.resource) else {
            return true;
        };
        let told = line.last.as_ref().map(|last| last.at);
        let last = told.max(line.asked);
        let is_old = told.is_none() || last.is_some_and(|last| last + age < now);
        if is_old {
            line.asked = Some(now);
        }
        is_old
    }

    /// How the last attempt of the line's head ended.
    pub(in crate::redlock) fn last(&self) -> Option<Arc<Refusal>> {
        let lines = self.place.bid.inner.lines.lock();
        lines.get(&self.place.bid.resource)?.last.clone()
    }

    /// Leaves with the lock, which is held until then at most.
    pub(in crate::redlock) fn win(mut self, until: Moment) {
        self.won = Some(until);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.place.bid.inner.lines.leave(self, self.won);
    }
}

/// While it lives, an attempt may be begun on the sleeper's behalf.
struct Sleeping<'a>(&'a Place);

impl<'a> Sleeping<'a> {
    fn begin(place: &'a Place, until: Moment) -> Self {
        let mut inbox = place.lock();
        inbox.asleep = true;
        inbox.presence.sleep(until);
        drop(inbox);
        Self(place)
    }
}

impl Drop for Sleeping<'_> {
    fn drop(&mut self) {
        let mut inbox = self.0.lock();
        inbox.asleep = false;
        inbox.presence.wake();
    }
}
