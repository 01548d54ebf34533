//! What a backend is asked, so that a [`Keeper`](super::Keeper) can keep the contract on it.
//!
//! A backend answers one question at a time for one lease and one owner, and keeps
//! no plan: deadlines, renewals, retries, losses and handlers are the keeper's. It
//! sees to it that each call ends, and says honestly when it does not know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::LeaseError;
use super::token::LeaseToken;
use crate::clock::{Clock, Moment};

/// Where leases of one name are kept, as one owner reaches it.
///
/// The keeper makes one call at a time. A call to [`Backend::renew`] may be dropped
/// at any await point, when the lease is released: it may not take effect after the
/// [`Backend::release`] that follows. The others are always waited for, for
/// [`MAX_CALL`](super::Keeper::MAX_CALL) at most.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// What names one tenure at the backend.
    type Hold: Clone + Send + Sync + 'static;

    /// What is taken where the options say nothing.
    fn habits(&self) -> Habits {
        Habits::PLAIN
    }

    /// Whether [`Won::token`] is given.
    fn supports_tokens(&self) -> bool {
        true
    }

    /// The clock of this process, which all moments below are of. It counts the time
    /// during which the machine was suspended, as [`SystemClock`](crate::clock::SystemClock) does.
    fn clock(&self) -> Arc<dyn Clock>;

    /// One attempt to begin a tenure.
    fn acquire(&self) -> impl Future<Output = Answer<Self::Hold>> + Send;

    /// Restores the full lease of this tenure, of which `missing` is over. `None` if
    /// the backend says that the tenure is over; an error if that is not known. A
    /// lease that has run out is not brought back.
    fn renew(
        &self,
        hold: &Self::Hold,
        missing: Duration,
    ) -> impl Future<Output = Result<Option<Lasts>, LeaseError>> + Send;

    /// Ends this tenure, and no other one. `Ok` also if it was over before.
    fn release(&self, hold: &Self::Hold) -> impl Future<Output = Result<(), LeaseError>> + Send;
}

/// How an attempt to acquire ended.
#[derive(Clone, Debug)]
pub enum Answer<H> {
    /// The lease is ours.
    Won(Won<H>),
    /// Another holds it, definitely.
    Held,
    /// Somebody else was at it in the same moment: who has it is not known yet.
    Raced,
    /// It is not known.
    Unknown {
        /// Why.
        error: LeaseError,
        /// The tenure that may have been won: released before anything else.
        maybe: Option<H>,
    },
}

/// A tenure that was won.
#[derive(Clone, Debug)]
pub struct Won<H> {
    /// What names it at the backend.
    pub hold: H,
    /// Its fencing token, where the backend has them.
    pub token: Option<LeaseToken>,
    /// How long it lasts.
    pub lasts: Lasts,
}

/// How long a tenure lasts unless it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasts {
    /// Until when it may be relied on: measured from the *start* of the request,
    /// with what clocks may drift taken off.
    pub valid_until: Moment,
    /// When the backend may give it to another at the earliest; not before that.
    pub expires: Moment,
}

/// What a backend takes where the options say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// The interval of renewals is a third of the ttl, and not below this.
    pub shortest_interval: Duration,
    /// Attempts of one acquire in all.
    pub attempts: u32,
    /// The time between them.
    pub retry_delay: Duration,
    /// Whether an acquire tries again while another holds the lease, or only after a lost race.
    pub retries_while_held: bool,
}

impl Habits {
    /// Those of a backend without peculiarities.
    pub const PLAIN: Self = Self {
        // More often would be a burden, and the loss is told by the deadline anyway.
        shortest_interval: Duration::from_millis(100),
        attempts: 1,
        // A few round trips.
        retry_delay: Duration::from_millis(50),
        retries_while_held: true,
    };
}
