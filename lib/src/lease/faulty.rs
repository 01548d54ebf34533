//! A backend whose calls fail, get lost or come late: by a plan, for tests.
//!
//! It wraps any backend and meddles with what is asked and answered, never with the
//! backend's own state. What it delays runs on tokio's timers, so that under a
//! paused clock a fault costs no time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::LeaseError;
use super::backend::{Answer, Backend, Habits, Lasts};
use crate::clock::Clock;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Backend::acquire`].
    Acquire,
    /// [`Backend::renew`].
    Renew,
    /// [`Backend::release`].
    Release,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It never arrives, which shows after this time.
    RequestLost(Duration),
    /// It is done, and the answer never comes, which shows after this time.
    ReplyLost(Duration),
    /// It arrives this much later.
    RequestDelayed(Duration),
    /// It is done at once, and the answer comes this much later.
    ReplyDelayed(Duration),
}

type Plan = dyn FnMut(Call) -> Option<Mishap> + Send;

/// Decides what happens to each call; clones share it.
#[derive(Clone)]
pub struct Faults(Arc<Mutex<Box<Plan>>>);

impl Faults {
    /// No mishaps, until a plan is made.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new(Mutex::new(Box::new(|_| None))))
    }

    /// From now on this decides.
    pub fn plan(&self, plan: impl FnMut(Call) -> Option<Mishap> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(plan);
    }

    fn draw(&self, call: Call) -> Option<Mishap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)(call)
    }

    /// Runs a call under its mishap. `None` if nothing is heard of it; what it was
    /// answered is then handed to `unheard`.
    async fn meet<T>(
        &self,
        call: Call,
        asking: impl Future<Output = T>,
        unheard: impl FnOnce(T),
    ) -> Option<T> {
        match self.draw(call) {
            None => Some(asking.await),
            Some(Mishap::RequestLost(after)) => {
                tokio::time::sleep(after).await;
                None
            }
            Some(Mishap::ReplyLost(after)) => {
                unheard(asking.await);
                tokio::time::sleep(after).await;
                None
            }
            Some(Mishap::RequestDelayed(late)) => {
                tokio::time::sleep(late).await;
                Some(asking.await)
            }
            Some(Mishap::ReplyDelayed(late)) => {
                let answer = asking.await;
                tokio::time::sleep(late).await;
                Some(answer)
            }
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

/// A backend with faults.
#[derive(Debug)]
pub struct FaultyBackend<B> {
    inner: B,
    faults: Faults,
}

impl<B: Backend> FaultyBackend<B> {
    /// This backend, under these faults.
    pub const fn new(inner: B, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

fn silent() -> LeaseError {
    LeaseError::unavailable("injected")
}

impl<B: Backend> Backend for FaultyBackend<B> {
    type Hold = B::Hold;

    fn habits(&self) -> Habits {
        self.inner.habits()
    }

    fn supports_tokens(&self) -> bool {
        self.inner.supports_tokens()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }

    async fn acquire(&self) -> Answer<B::Hold> {
        let mut maybe = None;
        let unheard = |answer| {
            if let Answer::Won(won) = answer {
                maybe = Some(won.hold);
            }
        };
        let asking = self.inner.acquire();
        let answer = self.faults.meet(Call::Acquire, asking, unheard).await;
        answer.unwrap_or_else(|| Answer::Unknown {
            error: silent(),
            maybe,
        })
    }

    async fn renew(&self, hold: &B::Hold, missing: Duration) -> Result<Option<Lasts>, LeaseError> {
        let asking = self.inner.renew(hold, missing);
        let answer = self.faults.meet(Call::Renew, asking, drop).await;
        answer.unwrap_or_else(|| Err(silent()))
    }

    async fn release(&self, hold: &B::Hold) -> Result<(), LeaseError> {
        let asking = self.inner.release(hold);
        let answer = self.faults.meet(Call::Release, asking, drop).await;
        answer.unwrap_or_else(|| Err(silent()))
    }
}
