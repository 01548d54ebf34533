//! The work of a keeper: asking the backend, beginning and ending tenures.
//!
//! Invariant: whatever is asked is asked by a task that holds the turn, and what it
//! wins is either somebody's, or given back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Keeper;
use crate::clock::{Clock, Moment};
use crate::core::renewal::{LossReason, Renewed};
use crate::lease::LeaseError;
use crate::lease::backend::{Answer, Backend, Habits, Lasts, Won};
use crate::lease::ledger::{Ledger, Tenure};
use crate::lease::options::{LeaseOptions, Terms};
use crate::lease::subscription::Handlers;
use crate::renewing::{lock, until_lost};

pub(super) struct Core<B: Backend> {
    pub(super) backend: B,
    pub(super) options: LeaseOptions,
    pub(super) habits: Habits,
    pub(super) terms: Terms,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runtime: Handle,
    /// Held by whoever asks the backend.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) ledger: Mutex<Ledger<B::Hold>>,
    pub(super) handlers: Handlers,
}

pub(super) type Told<B> = Result<Option<Delivery<B>>, LeaseError>;

impl<B: Backend> Core<B> {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger<B::Hold>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left over can't stand at the backend any more then, whatever happens.
    pub(super) fn forget_after(&self) -> Moment {
        self.clock.now() + 2 * self.terms.ttl
    }

    pub(super) fn alive(&self) -> Option<Arc<Tenure<B::Hold>>> {
        let tenure = self.ledger().tenure()?;
        tenure.is_alive(self.clock.now()).then_some(tenure)
    }

    pub(super) async fn acquire(self: Arc<Self>, asked: u64, mut sender: oneshot::Sender<Told<B>>) {
        let _turn = self.turn.lock().await;
        if sender.is_closed() {
            return;
        }
        let told = self.ask(asked, &mut sender).await;
        // If nobody listens any more, the delivery is dropped, which gives up what was won.
        let _ = sender.send(told);
    }

    async fn ask(self: &Arc<Self>, asked: u64, sender: &mut oneshot::Sender<Told<B>>) -> Told<B> {
        let tenure = self.ledger().tenure();
        if let Some(tenure) = tenure
            && let Some(told) = self.again(&tenure).await
        {
            return told;
        }
        if self.ledger().is_overtaken(asked) {
            return Err(LeaseError::Superseded);
        }
        match self.attempts(asked, sender).await {
            Answer::Won(won) => self.begin(asked, won).map(Some),
            Answer::Held => {
                self.ledger().is_anothers();
                Ok(None)
            }
            Answer::Raced => Err(LeaseError::unavailable(
                "others acquire it at the same time, and nobody can say yet who has it",
            )),
            Answer::Unknown { error, maybe } => {
                if let Some(hold) = maybe {
                    self.give_back(hold);
                }
                Err(error)
            }
        }
    }

    /// Renews the tenure that there is. `None` if it is over.
    async fn again(self: &Arc<Self>, tenure: &Arc<Tenure<B::Hold>>) -> Option<Told<B>> {
        if !tenure.is_alive(self.clock.now()) {
            self.lose(tenure, LossReason::Expired);
            return None;
        }
        match self.renew(tenure).await {
            Ok(renewed) => {
                let now = self.clock.now();
                lock(&tenure.renewal).renewed(renewed, now);
                if renewed == Renewed::Gone {
                    self.lose(tenure, LossReason::Gone);
                } else if !tenure.is_alive(now) {
                    self.lose(tenure, LossReason::Expired);
                }
                Some(Ok(Some(Delivery::of(self, tenure)?)))
            }
            Err(error) if tenure.is_alive(self.clock.now()) => Some(Err(error)),
            Err(_) => {
                self.lose(tenure, LossReason::Expired);
                None
            }
        }
    }

    /// Attempts, as many as the options allow and as may help.
    async fn attempts(&self, asked: u64, sender: &mut oneshot::Sender<Told<B>>) -> Answer<B::Hold> {
        let mut releases = self.ledger().releases();
        let mut made = 0;
        loop {
            made += 1;
            let attempt = tokio::time::timeout(Keeper::<B>::MAX_CALL, self.backend.acquire());
            let answer = attempt.await.unwrap_or_else(|_| Answer::Unknown {
                error: LeaseError::unavailable("it takes too long"),
                maybe: None,
            });
            let again = match answer {
                Answer::Held => self.habits.retries_while_held,
                Answer::Raced => true,
                Answer::Won(_) | Answer::Unknown { .. } => false,
            };
            if !again || made >= self.terms.attempts {
                return answer;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(self.terms.delay) => {}
                // Who asked has gone, or has asked for the contrary.
                () = sender.closed() => return answer,
                _ = releases.wait_for(|releases| *releases != asked) => return answer,
            }
        }
    }

    /// Free => Held, and renewed from now on.
    fn begin(self: &Arc<Self>, asked: u64, won: Won<B::Hold>) -> Result<Delivery<B>, LeaseError> {
        let now = self.clock.now();
        if now >= won.lasts.valid_until {
            self.give_back(won.hold);
            return Err(LeaseError::unavailable(
                "its answer came when the lease was over",
            ));
        }
        let tenure = Arc::new(Tenure::new(won, &self.terms, now));
        let mut ledger = self.ledger();
        if ledger.is_overtaken(asked) {
            drop(ledger);
            self.give_back(tenure.hold.clone());
            return Err(LeaseError::Superseded);
        }
        ledger.begin(&tenure);
        drop(ledger);
        let keep = Arc::clone(self).keep(Arc::clone(&tenure));
        let stop = tenure.stop.clone();
        self.runtime.spawn(stop.run_until_cancelled_owned(keep));
        Delivery::of(self, &tenure).ok_or(LeaseError::Superseded)
    }

    /// Renews until the tenure is lost, and tells that.
    async fn keep(self: Arc<Self>, tenure: Arc<Tenure<B::Hold>>) {
        let renew = |_| async {
            // While an acquire is under way it renews as well.
            let _turn = self.turn.lock().await;
            self.renew(&tenure).await.unwrap_or(Renewed::Unknown)
        };
        let reason = until_lost(&*self.clock, &tenure.renewal, renew).await;
        self.lose(&tenure, reason);
    }

    async fn renew(&self, tenure: &Tenure<B::Hold>) -> Result<Renewed, LeaseError> {
        let missing = lock(&tenure.renewal).missing(self.clock.now());
        let renewing = self.backend.renew(&tenure.hold, missing);
        let renewed = tokio::time::timeout(Keeper::<B>::MAX_CALL, renewing).await;
        match renewed.map_err(|_| LeaseError::unavailable("it takes too long"))?? {
            Some(Lasts {
                valid_until,
                expires,
            }) => Ok(Renewed::Until {
                valid_until,
                expires,
            }),
            None => Ok(Renewed::Gone),
        }
    }

    /// Held => Lost, and told.
    fn lose(self: &Arc<Self>, tenure: &Arc<Tenure<B::Hold>>, reason: LossReason) {
        let mut ledger = self.ledger();
        if !ledger.lose(tenure, reason, self.forget_after()) {
            return;
        }
        let audience = self.handlers.present();
        drop(ledger);
        if reason != LossReason::Gone {
            // A renewal may have been done that was not heard of.
            self.runtime.spawn(Arc::clone(self).settle());
        }
        self.handlers.tell(audience, reason);
    }

    /// Gives back what was won and is not wanted, in the background.
    fn give_back(self: &Arc<Self>, hold: B::Hold) {
        let until = self.forget_after();
        self.ledger().leave(hold, until);
        self.runtime.spawn(Arc::clone(self).settle());
    }

    /// Tells the backend of everything that is left over. What it could not be told
    /// is kept for the next time.
    pub(super) async fn settle(self: Arc<Self>) -> Result<(), LeaseError> {
        let _turn = self.turn.lock().await;
        let leftovers = self.ledger().take_leftovers();
        let mut result = Ok(());
        let mut kept = Vec::new();
        for left in leftovers {
            if left.until <= self.clock.now() {
                continue;
            }
            let telling = self.backend.release(&left.hold);
            let told = tokio::time::timeout(Keeper::<B>::MAX_CALL, telling).await;
            let told = told.unwrap_or_else(|_| Err(LeaseError::unavailable("it takes too long")));
            if let Err(error) = told {
                result = Err(error);
                kept.push(left);
            }
        }
        self.ledger().put_back(kept);
        result
    }
}

/// A tenure on its way to an acquire. If it does not get there, and no other one
/// was or will be told of it, the tenure is given up.
pub(super) struct Delivery<B: Backend> {
    core: Arc<Core<B>>,
    tenure: Arc<Tenure<B::Hold>>,
}

impl<B: Backend> Delivery<B> {
    /// `None` if the tenure is over.
    fn of(core: &Arc<Core<B>>, tenure: &Arc<Tenure<B::Hold>>) -> Option<Self> {
        let mut ledger = core.ledger();
        let current = ledger.is_current(tenure);
        if current {
            ledger.offer();
        }
        current.then(|| Self {
            core: Arc::clone(core),
            tenure: Arc::clone(tenure),
        })
    }

    pub(super) fn accept(self) -> Arc<Tenure<B::Hold>> {
        self.core.ledger().claim(&self.tenure);
        Arc::clone(&self.tenure)
    }
}

impl<B: Backend> Drop for Delivery<B> {
    fn drop(&mut self) {
        let until = self.core.forget_after();
        if self.core.ledger().decline(&self.tenure, until) {
            let core = Arc::clone(&self.core);
            self.core.runtime.spawn(core.settle());
        }
    }
}

pub(super) fn interrupted() -> LeaseError {
    LeaseError::unavailable("the runtime that asks the backend has ended")
}
