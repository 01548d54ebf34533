//! Extending: relative to the current expiry, confirmed by a quorum of the configured nodes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::release::free_in;
use super::{Holding, Inner, Redlock, fanout};
use crate::clock::{Clock, Moment};
use crate::core::answers::Answers;
use crate::core::command::Command;
use crate::core::outcome::{Counts, ExtendOutcome, Grantees};
use crate::core::quorum::{Fault, FaultKind, Reply, Vote};
use crate::core::safeguards::Safeguard;
use crate::core::token::FencingToken;
use crate::entropy;
use crate::error::{ConfigError, Error};
use crate::node::{Ballot, BallotReader};
use crate::observer::{Event, Trace};

/// A lease that was extended.
#[derive(Clone, Debug)]
pub struct Extension {
    valid_until: Moment,
    /// When the lease ends on a quorum of nodes at the earliest.
    expires: Moment,
    token: Option<FencingToken>,
    clock: Arc<dyn Clock>,
}

impl Extension {
    /// Until when the lock may be relied on now.
    #[must_use]
    pub const fn valid_until(&self) -> Moment {
        self.valid_until
    }

    pub(crate) const fn expires(&self) -> Moment {
        self.expires
    }

    /// For how long the lock may be relied on from now; zero once that is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.valid_until.saturating_since(self.clock.now())
    }

    /// The fencing token that a quorum of nodes confirmed; an extension does not
    /// change it. `None` if the nodes don't agree on one, as with a lock that
    /// another client set.
    #[must_use]
    pub const fn token(&self) -> Option<FencingToken> {
        self.token
    }
}

impl Redlock {
    /// Adds `by` to what remains of the lease, up to the cluster's maximum.
    ///
    /// A lock that has expired is not brought back: [`Error::Lost`] if that is known
    /// here, by the grant that was given, else [`Error::NotHeld`]. So it is with one that was
    /// released meanwhile. Nodes of a minority that lost
    /// the lock's key are given it again in the background. A failed extension
    /// releases nothing. Dropping the future lets the extension take its course.
    pub async fn extend(&self, held: impl Into<Holding>, by: Duration) -> Result<Extension, Error> {
        let inner = &self.inner;
        let max_lease = inner.max_lease();
        let shortest = Duration::from_millis(1);
        if !(shortest..=max_lease).contains(&by) {
            return Err(ConfigError::bounds("extension", by, shortest, max_lease).into());
        }
        let held = held.into();
        if held.is_over(inner.clock.now()) {
            return Err(Error::Lost);
        }
        Extend {
            inner,
            held,
            started: inner.clock.now(),
            confirmed: Arc::default(),
            trace: inner.observer.follow(),
        }
        .run(by)
        .await
    }
}

/// What a quorum has confirmed, for the nodes that lost the key.
#[derive(Clone, Copy)]
struct Confirmed {
    token: FencingToken,
    expires: Moment,
}

struct Extend<'a> {
    inner: &'a Arc<Inner>,
    held: Holding,
    started: Moment,
    confirmed: Arc<OnceLock<Confirmed>>,
    /// Follows it through the nodes.
    trace: Option<Arc<dyn Trace>>,
}

impl Extend<'_> {
    async fn run(self, by: Duration) -> Result<Extension, Error> {
        let inner = self.inner;
        let mut ballot = self.ballot();
        let command = Command::Extend {
            resource: self.held.resource.clone(),
            owner: self.held.owner.clone(),
            by,
        };
        let not_after = self.started + inner.settings.node_timeout;
        fanout::send(&inner.nodes, &command, not_after, &ballot);
        let baselines = inner.clocks.baselines();
        let mut answers = Answers::of(inner.nodes.len());
        let settled = tokio::time::timeout(inner.settings.node_timeout, async {
            loop {
                if let Some(outcome) = self.counts(&answers).extend() {
                    return outcome;
                }
                let (node, Reply { vote, time }) = ballot.next().await;
                let shift = baselines.shift(node, time, self.started, inner.clock.now());
                answers.take(node, vote, shift);
            }
        })
        .await;
        let outcome = settled.unwrap_or_else(|_| {
            answers.fill(&Fault::unknown(FaultKind::Timeout, ""));
            self.counts(&answers)
                .extend()
                .unwrap_or(ExtendOutcome::Unavailable)
        });
        if answers.has_doubts() {
            inner.clocks.doubt();
        }
        inner.observer.event(&Event::Extended {
            outcome,
            took: inner.clock.now().saturating_since(self.started),
        });
        if outcome == ExtendOutcome::Extended {
            self.extended(&answers)
        } else {
            Err(self.error(outcome, &answers))
        }
    }

    fn grantees(&self, answers: &Answers) -> Grantees {
        Grantees::of(self.held.token, answers.votes())
    }

    fn counts(&self, answers: &Answers) -> Counts {
        self.grantees(answers).counts(answers.votes())
    }

    fn extended(&self, answers: &Answers) -> Result<Extension, Error> {
        let inner = self.inner;
        let grantees = self.grantees(answers);
        let confirmed = grantees.confirmed_for(answers.votes(), inner.nodes.len());
        let confirmed = confirmed.unwrap_or_default();
        let token = grantees.token();
        if let Some(token) = token {
            let expires = self.started + confirmed;
            let _ = self.confirmed.set(Confirmed { token, expires });
            for (node, vote) in answers.votes().enumerate() {
                if vote == Some(&Vote::Absent) {
                    let confirmed = Confirmed { token, expires };
                    inner.repair(node, &self.held, confirmed, self.trace.as_ref());
                }
            }
        }
        let valid_until = inner.settings.drift.valid_until(self.started, confirmed);
        if inner.remaining(valid_until).is_zero() {
            return Err(Error::Lost);
        }
        if let Some(validity) = &self.held.validity {
            validity.extend(valid_until);
        }
        // Released meanwhile, or handed on.
        if self.held.is_over(inner.clock.now()) {
            return Err(Error::Lost);
        }
        Ok(Extension {
            valid_until,
            expires: self.started + confirmed,
            // Of a lock that was handed on the nodes know the first token alone.
            token: token.map(|token| self.held.shown.unwrap_or(token)),
            clock: Arc::clone(&inner.clock),
        })
    }

    /// A ballot that repairs nodes which answer after the outcome is known.
    fn ballot(&self) -> BallotReader {
        let (inner, held) = (Arc::clone(self.inner), self.held.clone());
        let (confirmed, trace) = (Arc::clone(&self.confirmed), self.trace.clone());
        let ballot = Ballot::with_late(move |node, reply| {
            if let (Vote::Absent, Some(confirmed)) = (reply.vote, confirmed.get()) {
                inner.repair(node, &held, *confirmed, trace.as_ref());
            }
        });
        ballot.followed(self.trace.as_ref())
    }

    fn error(&self, outcome: ExtendOutcome, answers: &Answers) -> Error {
        let report = fanout::report(&self.inner.nodes, answers.votes());
        match outcome {
            ExtendOutcome::HeldByAnother => Error::HeldByAnother {
                retry_after: free_in(answers.votes(), self.inner.quorum()),
                report,
            },
            ExtendOutcome::NotHeld => Error::NotHeld { report },
            ExtendOutcome::Extended | ExtendOutcome::Unavailable => {
                let event = Event::Unavailable {
                    operation: "extend",
                    report: &report,
                };
                self.inner.observer.event(&event);
                Error::Unavailable {
                    attempts: 0,
                    report,
                }
            }
        }
    }
}

impl Inner {
    /// Gives a node of the minority the lock again, under acquire's own tests:
    /// the node refuses it if the lock was released or acquired anew meanwhile.
    fn repair(
        &self,
        node: usize,
        held: &Holding,
        confirmed: Confirmed,
        trace: Option<&Arc<dyn Trace>>,
    ) {
        let lease = self.remaining(confirmed.expires);
        if lease.is_zero() {
            return;
        }
        // A floor that was lifted by a release refuses the confirmed token, and no fresh one.
        let token = if Safeguard::RepairFloorTest.is_on() {
            confirmed.token
        } else {
            self.propose(None)
        };
        let command = Command::Acquire {
            resource: held.resource.clone(),
            owner: held.owner.clone(),
            lease: lease.min(self.max_lease()),
            call: entropy::call_id(&*self.entropy),
            token,
            reserve: 0,
        };
        let not_after = self.clock.now() + self.settings.node_timeout;
        // Nobody waits: the next extension tries again if this one is lost.
        let slot = Ballot::open().followed(trace).slot(node);
        self.nodes[node].submit(command, not_after, slot);
    }
}
