//! A lock that was acquired, as plain data.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::core::token::FencingToken;
use crate::core::types::{OwnerId, Resource};

/// A lock that was acquired: who holds what, under which token, until when.
///
/// It is plain data: dropping it releases nothing (see
/// [`Redlock::with_lock`](super::Redlock::with_lock) for what does). Whether it
/// is still valid is told without asking anybody.
#[derive(Clone)]
pub struct Grant {
    pub(super) resource: Resource,
    pub(super) owner: OwnerId,
    pub(super) token: FencingToken,
    /// The token under which the nodes know it: another one if it was handed on.
    pub(super) granted: FencingToken,
    pub(super) validity: Validity,
    pub(super) attempts: u32,
    pub(super) clock: Arc<dyn Clock>,
}

impl Grant {
    /// What is locked.
    #[must_use]
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Who holds it: needed to extend and release. Sections between which a lock is
    /// handed on share it, see [`Redlock::with_lock`](super::Redlock::with_lock).
    #[must_use]
    pub const fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// The fencing token: higher than that of every earlier holder of the resource.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.token
    }

    /// Until when the lock may be relied on; extensions made with this grant, or
    /// with a clone of it, count. Long past once it was released or lost.
    #[must_use]
    pub fn valid_until(&self) -> Moment {
        self.validity.until()
    }

    /// For how long the lock may be relied on from now; zero once that is over.
    /// Purely local, and counts time during which the machine was suspended.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.valid_until().saturating_since(self.clock.now())
    }

    /// The lock is lost: it may not be relied on any longer, whatever was granted.
    pub(super) fn expire(&self) {
        self.validity.end();
    }

    /// Whether it was given up before its validity was over.
    pub(super) fn was_given_up(&self) -> bool {
        nanos(self.validity.until()) == ENDED
    }

    /// The same lock, held by whoever has it next in this process: under a token of its
    /// own. This one, and all clones of it, are valid no longer.
    pub(super) fn handed_on(self, token: FencingToken) -> Self {
        let validity = self.validity.hand_on();
        Self {
            token,
            validity,
            ..self
        }
    }

    /// Whether the lock may still be relied on; no longer once its release was sent, by
    /// whichever clone, nor once a guard has told its loss.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.remaining().is_zero()
    }

    /// Attempts made, the successful one included; never more than 1 + retries. None may
    /// have been needed for a lock that was handed on.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("resource", &self.resource)
            .field("token", &self.token)
            .field("remaining", &self.remaining())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// Stands for a validity that was given up, for good: by a release, or a loss.
const ENDED: u64 = 0;

/// Until when a grant may be relied on: shared by its clones, moved by extensions.
///
/// Those between whom a lock is handed on share `until`, and each has its own end.
#[derive(Clone)]
pub(super) struct Validity {
    until: Arc<AtomicU64>,
    /// Whether the lock was handed on; `None` where that can't be.
    handed_on: Option<Arc<AtomicBool>>,
}

impl Validity {
    pub(super) fn new(until: Moment) -> Self {
        Self {
            until: Arc::new(AtomicU64::new(nanos(until))),
            handed_on: None,
        }
    }

    /// The same of a lock that may be handed on.
    pub(super) fn for_some(until: Moment) -> Self {
        Self {
            handed_on: Some(Arc::default()),
            ..Self::new(until)
        }
    }

    /// Ends this one, for the next.
    fn hand_on(&self) -> Self {
        if let Some(handed_on) = &self.handed_on {
            handed_on.store(true, Ordering::Release);
        }
        Self {
            until: Arc::clone(&self.until),
            handed_on: Some(Arc::default()),
        }
    }

    pub(super) fn was_handed_on(&self) -> bool {
        let handed_on = self.handed_on.as_ref();
        handed_on.is_some_and(|handed_on| handed_on.load(Ordering::Acquire))
    }

    fn until(&self) -> Moment {
        let until = if self.was_handed_on() {
            ENDED
        } else {
            self.until.load(Ordering::Acquire)
        };
        Moment::from_origin(Duration::from_nanos(until))
    }

    /// A quorum has confirmed the lease until then. Answers may overtake one
    /// another, and leases only grow: the latest moment counts.
    pub(super) fn extend(&self, until: Moment) {
        let longer = |now| (now != ENDED).then_some(nanos(until).max(now));
        // One that was given up stays so.
        let _ = self
            .until
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, longer);
    }

    fn end(&self) {
        self.until.store(ENDED, Ordering::Release);
    }
}

fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.since_origin().as_nanos()).unwrap_or(u64::MAX)
}

/// Names a held lock: what, by whom and, where it is known, under which token.
#[derive(Clone)]
pub struct Holding {
    pub(super) resource: Resource,
    pub(super) owner: OwnerId,
    pub(super) token: Option<FencingToken>,
    /// What its holder knows as its token.
    pub(super) shown: Option<FencingToken>,
    pub(super) validity: Option<Validity>,
}

impl Holding {
    /// The lock as `owner` holds it under this very token: a release under it leaves a newer grant
    /// alone, as one by [`Grant`] does.
    ///
    /// Not for sections of [`with_lock`](super::Redlock::with_lock) between which the lock is
    /// handed on: to the nodes they are one grant, under the first section's token. A release
    /// under the token of any of them takes the lock from whichever has it then; and an extension
    /// under the token of a later one lengthens the lease, but is answered with
    /// [`Error::HeldByAnother`](crate::Error::HeldByAnother). Name such a lock by its
    /// [`Held`](super::Held), as `Holding::from(&*held)`: that is refused once the lock was handed
    /// on, and extends it for the section that has it.
    #[must_use]
    pub fn under(resource: &Resource, owner: &OwnerId, token: FencingToken) -> Self {
        Self {
            resource: resource.clone(),
            owner: owner.clone(),
            token: Some(token),
            shown: Some(token),
            validity: None,
        }
    }

    /// It is being released.
    pub(super) fn give_up(&self) {
        if let Some(validity) = &self.validity {
            validity.end();
        }
    }

    /// Whether somebody else of this process has the lock by now, as the same owner.
    pub(super) fn was_handed_on(&self) -> bool {
        self.validity.as_ref().is_some_and(Validity::was_handed_on)
    }

    /// Whether this process knows that the lock may not be relied on any more.
    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.validity
            .as_ref()
            .is_some_and(|validity| validity.until() <= now)
    }
}

impl fmt::Debug for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = &self.token;
        f.debug_struct("Holding")
            .field("token", token)
            .finish_non_exhaustive()
    }
}

impl From<&Grant> for Holding {
    fn from(grant: &Grant) -> Self {
        Self {
            resource: grant.resource.clone(),
            owner: grant.owner.clone(),
            token: Some(grant.granted),
            shown: Some(grant.token),
            validity: Some(grant.validity.clone()),
        }
    }
}

impl From<(&Resource, &OwnerId)> for Holding {
    fn from((resource, owner): (&Resource, &OwnerId)) -> Self {
        Self {
            resource: resource.clone(),
            owner: owner.clone(),
            token: None,
            shown: None,
            validity: None,
        }
    }
}
