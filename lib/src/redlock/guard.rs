//! A held lock that looks after itself: renewed while it is held, signalled when
//! it is lost, released when it is dropped.
//!
//! Invariant: after the release, or the loss, nothing is renewed; and a loss is
//! told once, by the deadline that this process knows, not by the next renewal
//! that fails.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Grant, Holding, Inner, Redlock, renewer};
use crate::clock::Moment;
use crate::config::AcquireOptions;
use crate::core::cohort::Cohort;
use crate::core::outcome::ReleaseOutcome;
use crate::core::renewal::LossReason;
use crate::core::types::Resource;
use crate::error::Error;
use crate::observer::{Event, GuardEnd};

/// A lock that is held, as work done under it sees it: its token, its validity,
/// and whether it was lost. Clones see the same lock.
#[derive(Clone)]
pub struct Held {
    grant: Grant,
    pub(super) loss: Arc<Loss>,
}

impl Held {
    /// Completes when the lock is lost; never after it was released in time.
    pub async fn lost(&self) -> LossReason {
        self.loss.token.cancelled().await;
        self.loss.reason().unwrap_or(LossReason::Expired)
    }

    /// Cancelled when the lock is lost: for work that takes a token.
    #[must_use]
    pub fn lost_token(&self) -> CancellationToken {
        self.loss.token.clone()
    }

    /// Calls back once when the lock is lost, or at once if it was; not on release.
    /// By then [`Grant::is_valid`] is false. A panic of the handler harms nobody.
    pub fn on_lost(&self, handler: impl FnOnce(LossReason) + Send + 'static) {
        self.loss.call(Box::new(handler));
    }
}

impl Deref for Held {
    type Target = Grant;

    fn deref(&self) -> &Grant {
        &self.grant
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (grant, lost) = (&self.grant, self.loss.reason());
        f.debug_struct("Held")
            .field("grant", grant)
            .field("lost", &lost)
            .finish()
    }
}

type Handler = Box<dyn FnOnce(LossReason) + Send>;

/// Whether the lock was lost, and who wants to hear of it.
pub(super) struct Loss {
    /// Since when the lock is held under the guard.
    since: Moment,
    token: CancellationToken,
    state: Mutex<LossState>,
}

enum LossState {
    /// `Holding => (Lost | Released)`, and never back.
    Holding(Vec<Handler>),
    Lost(LossReason),
    Released,
}

impl Loss {
    fn new(since: Moment) -> Arc<Self> {
        let state = Mutex::new(LossState::Holding(Vec::new()));
        Arc::new(Self {
            since,
            token: CancellationToken::new(),
            state,
        })
    }

    fn lock(&self) -> MutexGuard<'_, LossState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reason(&self) -> Option<LossReason> {
        match *self.lock() {
            LossState::Lost(reason) => Some(reason),
            LossState::Holding(_) | LossState::Released => None,
        }
    }

    /// Holding => Lost. Whether this call told it.
    pub(super) fn tell(&self, reason: LossReason) -> bool {
        let mut state = self.lock();
        let LossState::Holding(handlers) = &mut *state else {
            return false;
        };
        let handlers = std::mem::take(handlers);
        *state = LossState::Lost(reason);
        drop(state);
        self.token.cancel();
        for handler in handlers {
            run(handler, reason);
        }
        true
    }

    /// Holding => Released. What else it was.
    fn end(&self) -> Result<(), LossReason> {
        let mut state = self.lock();
        match *state {
            LossState::Lost(reason) => Err(reason),
            LossState::Released => Ok(()),
            LossState::Holding(_) => {
                let holding = std::mem::replace(&mut *state, LossState::Released);
                drop(state);
                drop(holding);
                Ok(())
            }
        }
    }

    fn call(&self, handler: Handler) {
        let mut state = self.lock();
        match &mut *state {
            LossState::Holding(handlers) => handlers.push(handler),
            LossState::Lost(reason) => {
                let reason = *reason;
                drop(state);
                run(handler, reason);
            }
            LossState::Released => {}
        }
    }
}

/// Runs a handler; its panic is reported by the panic hook and goes no further.
fn run(handler: Handler, reason: LossReason) {
    let _ = catch_unwind(AssertUnwindSafe(|| handler(reason)));
}

/// A held lock that is renewed in the background until it is released or dropped.
///
/// Dropping it releases the lock in the background; [`Guard::release`] is the
/// honest way, which says whether that worked. Either way all clones of its [`Held`] are
/// valid no longer.
#[must_use = "a guard that is dropped releases its lock"]
pub struct Guard {
    redlock: Redlock,
    held: Held,
    /// The right to hand the lock on.
    cohort: Option<Cohort>,
    /// Ends the renewal when it is dropped.
    renewal: Option<DropGuard>,
}

impl Guard {
    /// The lock, for work that is done under it.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// Ends the renewal and releases the lock.
    ///
    /// [`Error::Lost`] if it was lost before. Dropping the future lets the
    /// release take its course. What [`Guard::held`] gave is valid no longer, however
    /// it ends.
    pub async fn release(mut self) -> Result<(), Error> {
        self.renewal = None;
        if self.held.loss.end().is_err() {
            return Err(Error::Lost);
        }
        self.redlock.inner.note_end(&self.held, GuardEnd::Released);
        if self.hand_on() {
            self.note_released(Some(ReleaseOutcome::Released));
            return Ok(());
        }
        let (grant, age) = (&self.held.grant, self.age());
        let released = self.redlock.release_after(grant.into(), Some(age)).await;
        released.map(drop)
    }

    fn age(&self) -> Duration {
        let now = self.redlock.inner.clock.now();
        now.saturating_since(self.held.loss.since)
    }

    /// Tells of a release that the nodes are not asked about, or not waited for.
    fn note_released(&self, outcome: Option<ReleaseOutcome>) {
        let event = Event::Released {
            outcome,
            held: Some(self.age()),
            took: Duration::ZERO,
        };
        self.redlock.inner.observer.event(&event);
    }

    /// Gives the guard the right to hand the lock on when it ends.
    pub(super) fn with_cohort(mut self, cohort: Option<Cohort>) -> Self {
        self.cohort = cohort;
        self
    }

    /// Hands the lock on, if there is somebody who may have it.
    fn hand_on(&mut self) -> bool {
        let grant = &self.held.grant;
        let inner = &self.redlock.inner;
        let cohort = self.cohort.take();
        cohort.is_some_and(|cohort| inner.hand_on(grant.clone(), cohort).is_ok())
    }
}

impl Deref for Guard {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // After a release, or a loss, there is nothing left to do.
        let unreleased = self.renewal.take().is_some();
        if unreleased && self.held.loss.end().is_ok() {
            self.redlock.inner.note_end(&self.held, GuardEnd::Released);
            self.note_released(None);
            if !self.hand_on() {
                let held = Holding::from(&self.held.grant);
                self.redlock.inner.let_go(&held);
            }
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Tells the observer. The caller has made the guard's one transition.
    pub(super) fn note_end(&self, held: &Held, end: GuardEnd) {
        let held = self.clock.now().saturating_since(held.loss.since);
        self.observer.event(&Event::GuardEnded { end, held });
    }
}

impl Redlock {
    /// Acquires the lock as [`Redlock::acquire`] does, and keeps it renewed until
    /// the guard is released or dropped, for `max_hold` at most.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let redlock = everlock::Redlock::builder().memory_nodes(5).connect().await?;
    /// let guard = redlock.lock("reports:daily", everlock::AcquireOptions::new()).await?;
    /// tokio::select! {
    ///     () = async { /* the work, with guard.token() for the storage */ } => {}
    ///     reason = guard.lost() => eprintln!("stopped: the lock is lost ({reason:?})"),
    /// }
    /// guard.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lock<R>(&self, resource: R, options: AcquireOptions) -> Result<Guard, Error>
    where
        R: TryInto<Resource, Error: Into<Error>>,
    {
        let (lease, max_hold) = (options.lease, options.max_hold);
        let grant = self.acquire(resource, options).await?;
        Ok(self.guard(grant, lease, max_hold))
    }

    /// Has a grant renewed from now on.
    pub(super) fn guard(&self, grant: Grant, lease: Duration, max_hold: Option<Duration>) -> Guard {
        let held = Held {
            grant,
            loss: Loss::new(self.inner.clock.now()),
        };
        let stop = CancellationToken::new();
        let renewal = Some(stop.clone().drop_guard());
        let guard = Guard {
            redlock: self.clone(),
            held: held.clone(),
            cohort: None,
            renewal,
        };
        let renewing = renewer::renew(self.clone(), held, lease, max_hold);
        self.inner
            .runtime
            .spawn(stop.run_until_cancelled_owned(renewing));
        guard
    }
}
