//! The contract, kept on any backend: tenures, deadlines, renewals, losses, releases.
//!
//! Invariants: the backend is asked one thing at a time (a renewal and an acquire
//! can't race into a false loss); a tenure that ended is not alive before anything
//! is sent or told; every task ends with the tenure, or after a bounded number of
//! bounded calls.

mod core;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::core::{Core, Delivery, interrupted};
use super::backend::Backend;
use super::ledger::{Ledger, Tenure};
use super::options::LeaseOptions;
use super::subscription::{Handlers, LostHandler, Subscription, call};
use super::token::LeaseToken;
use super::{Lease, LeaseError, LeaseFuture};

/// A [`Lease`] on a backend.
pub struct Keeper<B: Backend> {
    core: Arc<Core<B>>,
}

impl<B: Backend> Keeper<B> {
    /// A backend's call that takes longer has failed. Backends that answer at all
    /// have bounds of their own below this.
    pub const MAX_CALL: Duration = Duration::from_secs(30);

    /// A lease on this backend.
    ///
    /// # Panics
    ///
    /// Must be called within a tokio runtime, which then runs the renewals.
    #[must_use]
    pub fn new(backend: B, options: LeaseOptions) -> Self {
        let habits = backend.habits();
        let core = Core {
            terms: options.terms(habits),
            clock: backend.clock(),
            backend,
            options,
            habits,
            runtime: Handle::current(),
            turn: tokio::sync::Mutex::new(()),
            ledger: Mutex::new(Ledger::new()),
            handlers: Handlers::default(),
        };
        Self {
            core: Arc::new(core),
        }
    }

    /// The backend; for tests that meddle with it.
    pub fn backend(&self) -> &B {
        &self.core.backend
    }

    /// The tenure, once it is won or renewed; `None` if another holds the lease.
    async fn take(&self) -> Result<Option<Arc<Tenure<B::Hold>>>, LeaseError> {
        let core = &self.core;
        let asked = *core.ledger().releases().borrow();
        let (sender, told) = oneshot::channel();
        // A task of its own, so that a caller who goes away leaves nothing half done.
        core.runtime.spawn(Arc::clone(core).acquire(asked, sender));
        let told = told.await.map_err(|_| interrupted())?;
        Ok(told?.map(Delivery::accept))
    }
}

impl<B: Backend> Lease for Keeper<B> {
    fn options(&self) -> &LeaseOptions {
        &self.core.options
    }

    fn acquire(&self) -> LeaseFuture<'_, bool> {
        Box::pin(async { Ok(self.take().await?.is_some()) })
    }

    fn supports_tokens(&self) -> bool {
        self.core.backend.supports_tokens()
    }

    fn acquire_with_token(&self) -> LeaseFuture<'_, Option<LeaseToken>> {
        Box::pin(async {
            if !self.supports_tokens() {
                return Err(LeaseError::NoTokens);
            }
            Ok(self.take().await?.and_then(|tenure| tenure.token.clone()))
        })
    }

    fn release(&self) -> LeaseFuture<'_, ()> {
        Box::pin(async {
            let core = &self.core;
            let until = core.forget_after();
            core.ledger().release(until);
            let settling = core.runtime.spawn(Arc::clone(core).settle());
            settling.await.map_err(|_| interrupted())?
        })
    }

    fn check_alive(&self) -> bool {
        self.core.alive().is_some()
    }

    fn token(&self) -> Option<LeaseToken> {
        self.core.alive()?.token.clone()
    }

    fn on_lost(&self, handler: LostHandler) -> Subscription {
        let handler = Arc::new(handler);
        // Under the ledger's lock, so that a loss is told either by whoever notes
        // it, or here.
        let ledger = self.core.ledger();
        let subscription = self.core.handlers.add(Arc::clone(&handler));
        let lost = ledger.loss();
        drop(ledger);
        if let Some(reason) = lost {
            call(&handler, reason);
        }
        subscription
    }
}

impl<B: Backend> Drop for Keeper<B> {
    fn drop(&mut self) {
        let core = &self.core;
        core.handlers.clear();
        let held = core.ledger().tenure().is_some();
        core.ledger().release(core.forget_after());
        if held {
            core.runtime.spawn(Arc::clone(core).settle());
        }
    }
}

impl<B: Backend> fmt::Debug for Keeper<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("backend", &self.core.backend)
            .field("options", &self.core.options)
            .field("alive", &self.check_alive())
            .finish_non_exhaustive()
    }
}
