//! Handing the lock on to the next section of this process, without the nodes.
//!
//! Invariant: a lock that is handed on has one owner at each moment, who holds it, or in
//! whose inbox it lies. Whoever goes away with it hands it on, or releases it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Lines;
use crate::clock::Moment;
use crate::core::cohort::{Cohort, Heir};
use crate::core::types::Resource;
use crate::redlock::inbox::News;
use crate::redlock::{Grant, Holding, Inner};

/// A lock is passed on within the process so often, and for so long, at least;
/// then whoever waits in another process has the first try.
const PASSES: u32 = 8;
const PASSING_TIME: Duration = Duration::from_millis(20);

/// How often the lock was passed on within the process in a row, and since when. It outlives
/// a line that is empty for a moment: others may have waited all the time.
#[derive(Clone, Copy, Default)]
pub(in crate::redlock) struct Passing {
    times: u32,
    since: Moment,
}

impl Passing {
    /// Whether the others have waited so short a time that they can wait on.
    pub(super) fn may(&mut self, now: Moment) -> bool {
        if self.times == 0 {
            self.since = now;
        }
        self.times < PASSES || now < self.since + PASSING_TIME
    }

    /// It is passed on once more.
    pub(super) const fn note(&mut self) {
        self.times = self.times.saturating_add(1);
    }
}

/// A held lock on its way from one section to the next.
pub(in crate::redlock) struct Baton {
    inner: Arc<Inner>,
    /// `None` once it was taken.
    held: Option<(Grant, Cohort)>,
}

impl Baton {
    /// Whoever takes it has the lock, and is to end it.
    pub(in crate::redlock) fn take(mut self) -> Option<(Grant, Cohort)> {
        self.held.take()
    }

    /// Whether so much of it is left that a section may begin.
    pub(in crate::redlock) fn is_worth(&self, min_validity: Duration) -> bool {
        self.held.as_ref().is_some_and(|(grant, cohort)| {
            let left = grant.valid_until().saturating_since(self.inner.clock.now());
            cohort.may_take(left, min_validity)
        })
    }
}

impl Drop for Baton {
    fn drop(&mut self) {
        // Whom it was handed to went away without having read of it.
        if let Some((grant, cohort)) = self.held.take()
            && let Err(grant) = self.inner.hand_on(grant, cohort)
        {
            self.inner.let_go(&Holding::from(&grant));
        }
    }
}

impl Inner {
    /// Hands a held lock on to whoever is next in line here; gives it back if that is
    /// nobody who may have it. It is the grant's end: it is valid no longer then.
    pub(in crate::redlock) fn hand_on(
        self: &Arc<Self>,
        grant: Grant,
        mut cohort: Cohort,
    ) -> Result<(), Grant> {
        let now = self.clock.now();
        let left = grant.valid_until().saturating_since(now);
        let mut lines = self.lines.lock();
        let Some(line) = lines.get_mut(&grant.resource) else {
            return Err(grant);
        };
        let Some((asked, next)) = line.places.first_key_value() else {
            return Err(grant);
        };
        let next = Arc::clone(next);
        let heir = Heir {
            asked: *asked,
            lease: next.bid.lease,
            min_validity: next.bid.min_validity,
        };
        let mut inbox = next.lock();
        // Who is in the middle of an attempt of its own is not to be disturbed, and who
        // has not read that it has the lock may yet: two can't lie in one inbox.
        let engaged = matches!(inbox.news, Some(News::Begun(_) | News::Handed(_)));
        let waits = next.bid.hands_on && inbox.asleep && !engaged;
        if !waits || !line.passing.may(now) {
            return Err(grant);
        }
        let Some(token) = cohort.hand_on(heir, left, line.released) else {
            return Err(grant);
        };
        line.passing.note();
        let baton = Baton {
            inner: Arc::clone(self),
            held: Some((grant.handed_on(token), cohort)),
        };
        inbox.take(News::Handed(Box::new(baton)));
        drop(inbox);
        drop(lines);
        next.told.notify_one();
        Ok(())
    }
}

impl Lines {
    /// The number under which whoever stands in line from now on asks, or a higher one.
    pub(in crate::redlock) fn number(&self) -> u64 {
        self.numbers.load(Ordering::SeqCst)
    }

    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    /// The lock was let go, as far as anybody here can know.
    pub(super) fn note_release(&self, resource: &Resource) {
        if self.count.load(Ordering::SeqCst) > 0
            && let Some(line) = self.lock().get_mut(resource)
        {
            line.released = self.next_number();
        }
    }

    /// How many stand in the lock's line.
    pub(in crate::redlock) fn waiting(&self, resource: &Resource) -> usize {
        if self.count.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        self.lock()
            .get(resource)
            .map_or(0, |line| line.places.len())
    }
}
