//! What one lease knows about itself: its tenure, its losses, what it has still to give back.
//!
//! Labelled transitions: `Free => Held => (Lost | Free)`. Invariant: a tenure ends
//! once, and who ends it is the one who tells; what ends by anything but the
//! backend's word is noted as left over, until the backend was told or it has run out.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backend::Won;
use super::options::Terms;
use super::token::LeaseToken;
use crate::clock::Moment;
use crate::core::renewal::{LossReason, Renewal, RenewalPlan};
use crate::renewing::lock;

/// A backend that is away for long is told of the latest ones only: the earlier ones
/// run out first.
const MAX_LEFTOVERS: usize = 64;

/// The time from an acquire that won to the loss or the release.
pub(super) struct Tenure<H> {
    pub(super) hold: H,
    pub(super) token: Option<LeaseToken>,
    pub(super) renewal: Mutex<Renewal>,
    /// Ends the renewal.
    pub(super) stop: CancellationToken,
}

impl<H> Tenure<H> {
    pub(super) fn new(won: Won<H>, terms: &Terms, now: Moment) -> Self {
        let plan = RenewalPlan {
            lease: terms.ttl,
            interval: Some(terms.interval),
            valid_until: won.lasts.valid_until,
            expires: won.lasts.expires,
            not_after: None,
        };
        Self {
            hold: won.hold,
            token: won.token,
            renewal: Mutex::new(Renewal::new(plan, now)),
            stop: CancellationToken::new(),
        }
    }

    pub(super) fn is_alive(&self, now: Moment) -> bool {
        lock(&self.renewal).is_valid(now)
    }
}

/// A tenure that was won and is not relied on, with the moment from which it can't stand any more.
pub(super) struct Leftover<H> {
    pub(super) hold: H,
    pub(super) until: Moment,
}

pub(super) struct Ledger<H> {
    tenure: Option<Arc<Tenure<H>>>,
    /// Acquires that were told of the tenure, and those that are about to be.
    claimed: bool,
    claims: usize,
    /// How the latest tenure was lost, unless something came after that.
    lost: Option<LossReason>,
    /// Counts the releases: what was asked before one is overtaken by it.
    releases: watch::Sender<u64>,
    leftovers: Vec<Leftover<H>>,
}

impl<H: Clone> Ledger<H> {
    pub(super) fn new() -> Self {
        Self {
            tenure: None,
            claimed: false,
            claims: 0,
            lost: None,
            releases: watch::Sender::new(0),
            leftovers: Vec::new(),
        }
    }

    pub(super) fn tenure(&self) -> Option<Arc<Tenure<H>>> {
        self.tenure.clone()
    }

    pub(super) fn is_current(&self, tenure: &Arc<Tenure<H>>) -> bool {
        let current = self.tenure.as_ref();
        current.is_some_and(|current| Arc::ptr_eq(current, tenure))
    }

    pub(super) fn loss(&self) -> Option<LossReason> {
        self.lost
    }

    pub(super) fn releases(&self) -> watch::Receiver<u64> {
        self.releases.subscribe()
    }

    pub(super) fn is_overtaken(&self, asked: u64) -> bool {
        *self.releases.borrow() != asked
    }

    /// Free => Held.
    pub(super) fn begin(&mut self, tenure: &Arc<Tenure<H>>) {
        self.tenure = Some(Arc::clone(tenure));
        self.claimed = false;
        self.claims = 0;
        self.lost = None;
        // Whatever was left over is over, since this was granted.
        self.leftovers.clear();
    }

    /// One more acquire is about to be told of the present tenure.
    pub(super) fn offer(&mut self) {
        self.claims += 1;
    }

    /// An acquire was told of this tenure.
    pub(super) fn claim(&mut self, tenure: &Arc<Tenure<H>>) {
        if self.is_current(tenure) {
            self.claimed = true;
        }
    }

    /// Held => Free, if nobody was or will be told. Whether that was so.
    pub(super) fn decline(&mut self, tenure: &Arc<Tenure<H>>, until: Moment) -> bool {
        if !self.is_current(tenure) {
            return false;
        }
        self.claims -= 1;
        let unwanted = self.claims == 0 && !self.claimed;
        if unwanted {
            self.end(until);
        }
        unwanted
    }

    /// Held => Lost. Whether it was this call that lost it.
    pub(super) fn lose(
        &mut self,
        tenure: &Arc<Tenure<H>>,
        reason: LossReason,
        until: Moment,
    ) -> bool {
        let current = self.is_current(tenure);
        if current {
            self.end(until);
            if reason == LossReason::Gone {
                // The backend knows.
                self.leftovers.clear();
            }
            self.lost = Some(reason);
        }
        current
    }

    /// (Held | Lost | Free) => Free.
    pub(super) fn release(&mut self, until: Moment) {
        self.releases.send_modify(|releases| *releases += 1);
        self.lost = None;
        self.end(until);
    }

    /// Another holds the lease, which the caller is about to hear.
    pub(super) fn is_anothers(&mut self) {
        self.lost = None;
    }

    pub(super) fn leave(&mut self, hold: H, until: Moment) {
        self.put_back([Leftover { hold, until }]);
    }

    pub(super) fn take_leftovers(&mut self) -> Vec<Leftover<H>> {
        std::mem::take(&mut self.leftovers)
    }

    pub(super) fn put_back(&mut self, leftovers: impl IntoIterator<Item = Leftover<H>>) {
        self.leftovers.extend(leftovers);
        let surplus = self.leftovers.len().saturating_sub(MAX_LEFTOVERS);
        self.leftovers.drain(..surplus);
    }

    fn end(&mut self, until: Moment) {
        if let Some(tenure) = self.tenure.take() {
            tenure.stop.cancel();
            self.leave(tenure.hold.clone(), until);
        }
    }
}
