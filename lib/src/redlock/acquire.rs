//! Acquiring: attempts in one round trip each, by the plan of `core::schedule`.
//!
//! What each proposal leaves, and undoes, is in `proposal.rs`.

use std::sync::Arc;

use super::grant::Validity;
use super::proposal::{Armed, Proposal};
use super::{Grant, Inner, Redlock, fanout};
use crate::clock::Moment;
use crate::config::AcquireOptions;
use crate::core::attempt::{Attempt, Loss, Step, Terms, Won};
use crate::core::schedule::{Next, Plan, Schedule};
use crate::core::token::FencingToken;
use crate::core::types::{CallId, OwnerId, Resource};
use crate::entropy;
use crate::error::Error;
use crate::node::Ballot;
use crate::observer::{AcquireOutcome, Event};

/// Proposals again within one attempt, when a token was too low or too far ahead.
const MAX_PROPOSALS: u32 = 3;

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
        options.check(self.inner.max_lease())?;
        let mut request = Request::new(&self.inner, resource, options);
        let result = request.run().await;
        request.end(match &result {
            Ok(_) => AcquireOutcome::Acquired,
            Err(Error::Contended { .. }) => AcquireOutcome::Contended,
            Err(_) => AcquireOutcome::Unavailable,
        });
        result
    }

    /// Makes one attempt to acquire the lock: [`Redlock::acquire`] without retries.
    pub async fn try_acquire<R>(&self, resource: R, options: AcquireOptions) -> Result<Grant, Error>
    where
        R: TryInto<Resource, Error: Into<Error>>,
    {
        self.acquire(resource, options.retries(0)).await
    }
}

/// One acquire request with all its attempts.
struct Request<'a> {
    inner: &'a Arc<Inner>,
    resource: Resource,
    owner: OwnerId,
    /// The call; each proposal is an attempt of its own.
    call: CallId,
    options: AcquireOptions,
    started: Moment,
    schedule: Schedule,
    ended: bool,
}

impl<'a> Request<'a> {
    fn new(inner: &'a Arc<Inner>, resource: Resource, options: AcquireOptions) -> Self {
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
        let call = entropy::call_id(&*inner.entropy);
        Self {
            inner,
            resource,
            owner,
            call,
            options,
            started,
            schedule,
            ended: false,
        }
    }

    async fn run(&mut self) -> Result<Grant, Error> {
        loop {
            self.schedule.begin();
            if let Some(counter) = &self.options.counter {
                counter.set(self.schedule.attempts());
            }
            let (attempt, result) = self.attempt().await;
            let loss = match result {
                Ok(won) => return Ok(self.grant(won)),
                Err(loss) => loss,
            };
            let now = self.inner.clock.now();
            let roll = entropy::roll(&*self.inner.entropy);
            match self.schedule.after(loss, now, roll) {
                Next::At(next) => tokio::time::sleep(next.saturating_since(now)).await,
                Next::GiveUp => return Err(self.error(loss, &attempt)),
            }
        }
    }

    /// One attempt, with the proposals again that cost nothing.
    async fn attempt(&mut self) -> (Attempt, Result<Won, Loss>) {
        let mut floor = None;
        let mut proposals = 1;
        loop {
            let (attempt, result) = self.propose(floor).await;
            match result {
                Err(Loss::Propose { floor: above }) if proposals < MAX_PROPOSALS => {
                    proposals += 1;
                    floor = above;
                }
                // The floors outran every proposal: others acquire at the same time.
                Err(Loss::Propose { .. }) => {
                    return (
                        attempt,
                        Err(Loss::Contended {
                            free_in: None,
                            split: true,
                        }),
                    );
                }
                decided => return (attempt, decided),
            }
        }
    }

    /// One proposal to all nodes: one round trip.
    async fn propose(&mut self, floor: Option<FencingToken>) -> (Attempt, Result<Won, Loss>) {
        let inner = self.inner;
        // Counted, so that an undo can tell this proposal from those before it.
        self.call = self.call.at_attempt(self.call.attempt().saturating_add(1));
        let started = inner.clock.now();
        let token = inner.propose(floor);
        let attempt = Attempt::new(Terms {
            nodes: inner.nodes.len(),
            lease: self.options.lease,
            started,
            token,
            drift: inner.settings.drift,
            max_lease: inner.max_lease(),
            min_validity: self.options.min_validity,
        });
        let not_after = (started + inner.settings.node_timeout).min(attempt.hopeless_from());
        let named = (&self.resource, &self.owner);
        let proposal = Proposal::new(inner, named, self.options.lease, (self.call, token));
        let mut armed = Armed::new(&proposal, attempt);
        let command = proposal.command();
        let mut ballot = Ballot::with_late(move |node, reply| proposal.late(node, &reply.vote));
        fanout::send(&inner.nodes, &command, not_after, &ballot);
        let mut step = Step::Wait;
        let decided = async {
            while step == Step::Wait {
                let (node, reply) = ballot.next().await;
                step = armed.attempt.reply(node, reply, inner.clock.now());
            }
        };
        if tokio::time::timeout(not_after.saturating_since(started), decided)
            .await
            .is_err()
        {
            step = armed.attempt.time_out(inner.clock.now());
        }
        if let Some(median) = armed.attempt.median_time() {
            inner.align(median);
        }
        let took = inner.clock.now().saturating_since(started);
        let result = match step {
            Step::Won(won) => {
                armed.win(won.token);
                Ok(won)
            }
            Step::Lost(loss) => Err(loss),
            Step::Wait => Err(Loss::Unavailable),
        };
        inner.observer.event(&Event::Attempted {
            won: result.is_ok(),
            took,
        });
        (armed.attempt.clone(), result)
    }

    fn grant(&self, won: Won) -> Grant {
        Grant {
            resource: self.resource.clone(),
            owner: self.owner.clone(),
            token: won.token,
            validity: Validity::new(won.valid_until),
            attempts: self.schedule.attempts(),
            clock: Arc::clone(&self.inner.clock),
        }
    }

    fn error(&self, loss: Loss, attempt: &Attempt) -> Error {
        let votes = attempt
            .replies()
            .iter()
            .map(|reply| reply.as_ref().map(|reply| &reply.vote));
        let report = fanout::report(&self.inner.nodes, votes);
        let attempts = self.schedule.attempts();
        match loss {
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

    fn end(&mut self, outcome: AcquireOutcome) {
        if !std::mem::replace(&mut self.ended, true) {
            let took = self.inner.clock.now().saturating_since(self.started);
            let attempts = self.schedule.attempts();
            self.inner.observer.event(&Event::Acquired {
                outcome,
                attempts,
                took,
            });
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        self.end(AcquireOutcome::Cancelled);
    }
}
