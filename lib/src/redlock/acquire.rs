//! Acquiring: attempts in one round trip each, by the plan of `core::schedule`.
//!
//! What each proposal leaves, and undoes, is in `proposal.rs`.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::grant::Validity;
use super::inbox::News;
use super::line::{Baton, Standing, held_until};
use super::proposal::{Bid, Flight};
use super::{Grant, Inner, Redlock, fanout};
use crate::clock::Moment;
use crate::config::AcquireOptions;
use crate::core::attempt::{Attempt, Loss, Won};
use crate::core::cohort::{Cohort, Reserved};
use crate::core::safeguards::Safeguard;
use crate::core::schedule::{Next, Plan, Schedule};
use crate::core::token::FencingToken;
use crate::core::types::Resource;
use crate::entropy;
use crate::error::Error;
use crate::observer::{AcquireOutcome, Event};

/// Proposals again within one attempt, when a token was too low or too far ahead.
const MAX_PROPOSALS: u32 = 3;
/// What others were told is no answer when it is older, and older than two steps of a plan.
const OLD_NEWS: Duration = Duration::from_millis(100);
/// What is known of a lock for which others of this process wait already.
const BEHIND_OTHERS: Loss = Loss::Contended {
    free_in: None,
    split: false,
};

impl Redlock {
    /// Acquires the lock, trying again while others hold it, as the options say.
    ///
    /// Asked again under the owner id that holds the lock, it succeeds with the
    /// same token and a lease of at least what is asked for. On an error nothing
    /// is held, as far as a quorum of nodes could be told. Dropping the future
    /// undoes in the background what it had begun.
    pub async fn acquire<R>(&self, resource: R, options: AcquireOptions) -> Result<Grant, Error>
    where
        R: TryInto<Resource, Error: Into<Error>>,
    {
        let resource = resource.try_into().map_err(Into::into)?;
        let (grant, _) = self.acquire_for(resource, options, false).await?;
        Ok(grant)
    }

    /// Acquires the lock, for one who `hands_on`: with the right to do so, if there is one.
    pub(super) async fn acquire_for(
        &self,
        resource: Resource,
        options: AcquireOptions,
        hands_on: bool,
    ) -> Result<(Grant, Option<Cohort>), Error> {
        options.check(self.inner.max_lease())?;
        let mut request = Request::new(&self.inner, resource, options, hands_on);
        let result = request.run().await;
        request.end(match &result {
            Ok(_) => AcquireOutcome::Acquired,
            Err(Error::Contended { .. } | Error::QueueFull { .. }) => AcquireOutcome::Contended,
            Err(_) if request.was_late() => AcquireOutcome::Late,
            Err(_) => AcquireOutcome::Unavailable,
        });
        Ok((result?, request.cohort.take()))
    }

    /// Makes one attempt to acquire the lock: [`Redlock::acquire`] without retries.
    pub async fn try_acquire<R>(&self, resource: R, options: AcquireOptions) -> Result<Grant, Error>
    where
        R: TryInto<Resource, Error: Into<Error>>,
    {
        self.acquire(resource, options.retries(0)).await
    }
}

/// What comes of waiting.
enum Begun {
    Attempt(Flight),
    /// No attempt was needed.
    Handed(Grant),
}

/// One acquire request with all its attempts.
pub(super) struct Request {
    pub(super) bid: Arc<Bid>,
    options: AcquireOptions,
    started: Moment,
    pub(super) schedule: Schedule,
    /// Its place among this process's waiters for the lock, once it waits.
    standing: Option<Standing>,
    /// The number of releases before its last attempt.
    releases: u64,
    /// What its last proposal reserved.
    reserved: Reserved,
    /// The right to hand the lock on, once it has it.
    cohort: Option<Cohort>,
    /// How its last attempt ended.
    pub(super) last: Option<(Loss, Attempt)>,
    /// Whether it asked the nodes once more before it gives up.
    asked_at_last: bool,
    waited: bool,
    ended: bool,
}

impl Request {
    fn new(
        inner: &Arc<Inner>,
        resource: Resource,
        options: AcquireOptions,
        hands_on: bool,
    ) -> Self {
        let started = inner.clock.now();
        let owner = options
            .owner
            .clone()
            .unwrap_or_else(|| entropy::owner_id(&*inner.entropy, inner.clock.wall()));
        let schedule = Schedule::new(Plan {
            retries: options.retries,
            delay: options.delay,
            jitter: options.jitter,
            deadline: options.deadline.map(|after| started + after),
            patience: inner.settings.patience,
        });
        let bid = Arc::new(Bid {
            inner: Arc::clone(inner),
            resource,
            owner,
            lease: options.lease,
            min_validity: options.min_validity,
            call: entropy::call_id(&*inner.entropy),
            // Who named its owner id has a lock of its own, and a line goes its own way.
            hands_on: hands_on && options.owner.is_none() && !options.fifo,
            proposals: AtomicU32::new(0),
            trace: inner.observer.follow(),
        });
        Self {
            bid,
            options,
            started,
            schedule,
            standing: None,
            releases: 0,
            reserved: Reserved::NOTHING,
            cohort: None,
            last: None,
            asked_at_last: false,
            waited: false,
            ended: false,
        }
    }

    async fn run(&mut self) -> Result<Grant, Error> {
        if self.options.fifo {
            return self.run_in_turn().await;
        }
        let inner = Arc::clone(&self.bid.inner);
        // Who named its owner id may hold the lock already, and is told so at once.
        if self.options.owner.is_none() && self.options.retries > 0 {
            self.standing = inner.lines.join_behind(&self.bid);
        }
        let mut why = BEHIND_OTHERS;
        let mut flight = self.standing.is_none().then(|| self.bid.launch(None));
        loop {
            if let Some(flight) = flight.take() {
                let bid = Arc::clone(&self.bid);
                match self.attempt(flight, |_, floor| bid.launch(floor)).await {
                    Ok(won) => return Ok(self.win(won)),
                    Err(loss) => why = loss,
                }
            }
            flight = match self.wait(why).await {
                Some(Begun::Attempt(flight)) => Some(flight),
                Some(Begun::Handed(grant)) => return Ok(grant),
                // The plan is over, and nobody has asked for long.
                None if self.is_to_ask() => Some(self.bid.launch(None)),
                None => {
                    self.learn_from_others();
                    return Err(self.error());
                }
            };
        }
    }

    /// Waits for the next attempt to be due, and begins it. `None` when the plan is over.
    async fn wait(&mut self, mut loss: Loss) -> Option<Begun> {
        loop {
            let now = self.bid.inner.clock.now();
            let roll = entropy::roll(&*self.bid.inner.entropy);
            let is_head = self.standing.as_ref().is_none_or(Standing::is_head);
            let until = if is_head {
                match self.schedule.after(loss, now, roll) {
                    Next::At(next) => next,
                    Next::GiveUp => return None,
                }
            } else {
                self.schedule.end(now, roll)
            };
            if self.standing.is_none() {
                let standing = self.bid.inner.lines.join(&self.bid, self.releases);
                if let Some((loss, attempt)) = &self.last {
                    standing.note(*loss, attempt);
                }
                self.standing = Some(standing);
            }
            self.note_waiting();
            let standing = self.standing.as_ref()?;
            let news = standing.news(until).await;
            if is_head {
                if news.is_some() {
                    self.schedule.interrupted(until);
                }
            } else {
                let woken = self.bid.inner.clock.now();
                self.schedule.skip(now, woken, roll);
            }
            let flight = match news {
                Some(News::Handed(baton)) => match self.take(*baton) {
                    Some(grant) => return Some(Begun::Handed(grant)),
                    None => self.bid.launch(None),
                },
                Some(News::Begun(flight)) => *flight,
                Some(News::Try) => self.bid.launch(None),
                Some(News::Later(at)) => {
                    tokio::time::sleep(self.bid.inner.remaining(at)).await;
                    self.bid.launch(None)
                }
                Some(News::Head(until)) => {
                    loss = held_until(until, self.bid.inner.clock.now());
                    continue;
                }
                None if is_head => self.bid.launch(None),
                None => return None,
            };
            return Some(Begun::Attempt(flight));
        }
    }

    /// Takes a lock that was handed on, if enough is left of it; else it is let go.
    fn take(&mut self, baton: Baton) -> Option<Grant> {
        let inner = Arc::clone(&self.bid.inner);
        if !baton.is_worth(self.bid.min_validity) && Safeguard::HandedOnInTime.is_on() {
            return None;
        }
        let (mut grant, cohort) = baton.take()?;
        grant.attempts = self.schedule.attempts();
        self.cohort = Some(cohort);
        if let Some(standing) = self.standing.take() {
            standing.win(inner.clock.now() + self.bid.lease);
        }
        Some(grant)
    }

    /// One attempt, with the proposals again that cost nothing.
    pub(super) async fn attempt(
        &mut self,
        mut flight: Flight,
        again: impl Fn(&Attempt, Option<FencingToken>) -> Flight,
    ) -> Result<Won, Loss> {
        self.schedule.begin();
        if let Some(counter) = &self.options.counter {
            counter.set(self.schedule.attempts());
        }
        let mut proposals = 1;
        let (attempt, result) = loop {
            self.releases = flight.releases;
            self.reserved = flight.reserved;
            match flight.land().await {
                (attempt, Err(Loss::Propose { floor })) if proposals < MAX_PROPOSALS => {
                    proposals += 1;
                    flight = again(&attempt, floor);
                }
                // The floors outran every proposal: others acquire at the same time.
                (attempt, Err(Loss::Propose { .. })) => {
                    let loss = Loss::Contended {
                        free_in: None,
                        split: true,
                    };
                    break (attempt, Err(loss));
                }
                landed => break landed,
            }
        };
        let loss = result.err();
        if let (Some(standing), Some(loss)) = (&self.standing, loss) {
            standing.note(loss, &attempt);
        }
        self.last = loss.map(|loss| (loss, attempt)).or(self.last.take());
        result
    }

    /// Whether an answer is to be had before this request gives up: what it or the head of
    /// its line was told last is so old that attempts of its own would have been made since.
    fn is_to_ask(&mut self) -> bool {
        let first_time = self.standing.as_ref().filter(|_| !self.asked_at_last);
        let Some(standing) = first_time.filter(|at| !at.is_head() || self.last.is_none()) else {
            return false;
        };
        let old = self.schedule.step(1.0).saturating_mul(2).max(OLD_NEWS);
        self.asked_at_last = standing.is_to_ask(old, self.bid.inner.clock.now());
        self.asked_at_last
    }

    /// Takes what the head of the line was told last for an answer.
    fn learn_from_others(&mut self) {
        let refusal = self.standing.as_ref().and_then(Standing::last);
        let Some(refusal) = refusal.filter(|_| self.last.is_none()) else {
            return;
        };
        let age = self.bid.inner.clock.now().saturating_since(refusal.at);
        let loss = match refusal.loss {
            Loss::Contended { free_in, split } => Loss::Contended {
                free_in: free_in.map(|left| left.saturating_sub(age)),
                split,
            },
            loss => loss,
        };
        self.last = Some((loss, refusal.attempt.clone()));
    }

    fn win(&mut self, won: Won) -> Grant {
        if let Some(standing) = self.standing.take() {
            let lease = self.bid.lease;
            standing.win(self.bid.inner.clock.now() + lease);
        }
        self.grant(won)
    }

    pub(super) fn grant(&mut self, won: Won) -> Grant {
        let (lease, drift) = (self.bid.lease, self.bid.inner.settings.drift);
        self.cohort = Cohort::of(won.token, self.reserved, lease, drift);
        let validity = if self.cohort.is_some() {
            Validity::for_some(won.valid_until)
        } else {
            Validity::new(won.valid_until)
        };
        Grant {
            resource: self.bid.resource.clone(),
            owner: self.bid.owner.clone(),
            token: won.token,
            granted: won.token,
            validity,
            attempts: self.schedule.attempts(),
            clock: Arc::clone(&self.bid.inner.clock),
        }
    }

    pub(super) fn error(&self) -> Error {
        let attempts = self.schedule.attempts();
        let nodes = &self.bid.inner.nodes;
        let Some((loss, attempt)) = &self.last else {
            let report = fanout::report(nodes, std::iter::empty());
            return Error::Unavailable { attempts, report };
        };
        let report = fanout::report(nodes, attempt.counted());
        match *loss {
            Loss::Contended { free_in, .. } => Error::Contended {
                attempts,
                retry_after: free_in,
                report,
            },
            Loss::Propose { .. } | Loss::Unavailable | Loss::Late => {
                Error::Unavailable { attempts, report }
            }
        }
    }

    /// Tells the observer that this request waits, once.
    pub(super) fn note_waiting(&mut self) {
        if !std::mem::replace(&mut self.waited, true) {
            self.bid.inner.observer.event(&Event::Waiting);
        }
    }

    fn was_late(&self) -> bool {
        matches!(self.last, Some((Loss::Late, _)))
    }

    fn end(&mut self, outcome: AcquireOutcome) {
        if !std::mem::replace(&mut self.ended, true) {
            let took = self.bid.inner.clock.now().saturating_since(self.started);
            let attempts = self.schedule.attempts();
            self.bid.inner.observer.event(&Event::Acquired {
                outcome,
                attempts,
                waited: self.waited,
                took,
            });
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end(AcquireOutcome::Cancelled);
    }
}
