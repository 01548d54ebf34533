//! Releasing: told to all nodes, judged by a quorum, settled on the rest.

use std::sync::Arc;
use std::time::Duration;

use super::leaving::Stay;
use super::proposal::patience;
use super::settling::Settling;
use super::{Holding, Inner, Redlock, fanout};
use crate::clock::Moment;
use crate::core::command::Command;
use crate::core::outcome::{Counts, ReleaseOutcome};
use crate::core::quorum::{Fault, FaultKind, Reply, Vote};
use crate::core::token::FencingToken;
use crate::error::Error;
use crate::node::{Ballot, BallotReader};
use crate::observer::{Event, Trace};

/// A node that holds a newer grant each time it is asked is asked this often.
const MAX_ASKS: u32 = 3;

impl Redlock {
    /// Releases the lock, as a grant or as a resource and its owner.
    ///
    /// `Ok` says that it was held here and cannot be held any longer.
    /// [`Error::NotHeld`] and [`Error::HeldByAnother`] say that there was nothing
    /// to release; [`Error::Unavailable`] that it may still be held until its
    /// lease ends. Nodes that did not answer are told in the background, also
    /// after the future was dropped. Under a grant it may be tried again.
    ///
    /// From the moment when the release is sent the grant, with all its clones, is valid no
    /// longer, however the release ends: on some nodes the lock may be another's by then.
    pub async fn release(&self, held: impl Into<Holding>) -> Result<(), Error> {
        self.release_timed(held).await.map(drop)
    }

    /// As [`Redlock::release`], and tells for how long the lock was held.
    pub async fn release_timed(&self, held: impl Into<Holding>) -> Result<Released, Error> {
        self.release_after(held.into(), None).await
    }

    /// The same, of a lock that was held for so long, where that is known.
    pub(super) async fn release_after(
        &self,
        held: Holding,
        age: Option<Duration>,
    ) -> Result<Released, Error> {
        if held.was_handed_on() {
            // It is another section's now, whom the nodes know by the same owner.
            let report = fanout::report(&self.inner.nodes, std::iter::empty());
            return Err(Error::NotHeld { report });
        }
        Release::new(&self.inner, held).run(age).await
    }
}

/// A lock that was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Released {
    /// For how long it was held, from the acquire that won it to the release, whichever clients
    /// made them; `None` if another client set the lock, which has no token. It follows from
    /// the token, which is made from the nodes' time: good for statistics, to some milliseconds,
    /// and nothing to rely on.
    pub held_for: Option<Duration>,
}

/// The token of the grant that ended.
fn ended<'a>(votes: impl Iterator<Item = Option<&'a Vote>>) -> Option<FencingToken> {
    votes
        .filter_map(|vote| match vote {
            Some(Vote::Released { token }) => *token,
            _ => None,
        })
        .max()
}

impl Inner {
    /// Releases in the background, on every node; for callers that are going away.
    pub(super) fn let_go(&self, held: &Holding) {
        let token = held.token.unwrap_or_else(|| self.propose(None));
        let place = self.leaving.take(&held.resource, &held.owner);
        // The chores take their time, and tell nobody; who waits must not wait for them.
        self.send_release(held, token, place, &Ballot::open());
        for node in 0..self.nodes.len() {
            self.settle(node, held, token, None);
            if let Some(place) = place {
                self.leave(node, &held.resource, place);
            }
        }
    }

    /// Tells all nodes, and whoever is next here. The place in line from which the lock was
    /// had is left by the way.
    fn send_release(
        &self,
        held: &Holding,
        token: FencingToken,
        place: Option<Stay>,
        ballot: &BallotReader,
    ) -> Moment {
        // From now on somebody else may have it, whatever becomes of the answers.
        held.give_up();
        let now = self.clock.now();
        let not_after = now + self.settings.node_timeout;
        let release = release_of(held, token);
        // From a line in strict order nothing is passed on silently: others count the releases.
        let pass = place.is_none() && self.lines.may_pass(&held.resource, &release, now);
        let command = if pass {
            Command::PassOn {
                resource: held.resource.clone(),
                owner: held.owner.clone(),
                token,
            }
        } else if let Some(Stay { call, ticket }) = place {
            Command::ReleaseInTurn {
                resource: held.resource.clone(),
                owner: held.owner.clone(),
                token,
                call,
                ticket,
            }
        } else {
            release
        };
        let is_news = !pass && self.turns.expect(&held.resource, token);
        fanout::send(&self.nodes, &command, not_after, ballot);
        if is_news {
            self.turns.let_go(&held.resource);
        }
        self.lines.let_go(&held.resource, pass);
        not_after
    }

    /// Releases once more what was let go silently, since nobody took it.
    pub(super) fn tell_all(&self, release: &Command) {
        let not_after = self.clock.now() + self.settings.node_timeout;
        fanout::send(&self.nodes, release, not_after, &Ballot::open());
    }

    pub(super) fn settle(
        &self,
        node: usize,
        held: &Holding,
        token: FencingToken,
        trace: Option<Arc<dyn Trace>>,
    ) {
        let command = Command::Settle {
            resource: held.resource.clone(),
            owner: held.owner.clone(),
            token,
        };
        let patience = patience(Duration::ZERO);
        self.chores.add(node, command, patience, trace);
    }
}

struct Release<'a> {
    inner: &'a Arc<Inner>,
    held: Holding,
    asked: FencingToken,
    place: Option<Stay>,
    settling: Arc<Settling>,
    /// Follows it through the nodes.
    trace: Option<Arc<dyn Trace>>,
}

impl<'a> Release<'a> {
    fn new(inner: &'a Arc<Inner>, held: Holding) -> Self {
        let asked = held.token.unwrap_or_else(|| inner.propose(None));
        let place = inner.leaving.take(&held.resource, &held.owner);
        let trace = inner.observer.follow();
        let settling = Settling::new(inner, held.clone(), asked, place, trace.clone());
        Self {
            inner,
            held,
            asked,
            place,
            settling,
            trace,
        }
    }

    async fn run(&self, age: Option<Duration>) -> Result<Released, Error> {
        let inner = self.inner;
        let started = inner.clock.now();
        let settling = Arc::clone(&self.settling);
        let ballot = Ballot::with_late(move |node, reply| settling.note(node, &reply.vote));
        let mut ballot = ballot.followed(self.trace.as_ref());
        let not_after = inner.send_release(&self.held, self.asked, self.place, &ballot);
        let mut votes: Vec<Option<Vote>> = vec![None; inner.nodes.len()];
        let judged = tokio::time::timeout(
            inner.settings.node_timeout,
            self.judge(&mut ballot, &mut votes, not_after),
        )
        .await;
        let outcome = judged.unwrap_or_else(|_| {
            for vote in votes.iter_mut().filter(|vote| vote.is_none()) {
                *vote = Some(Vote::Failed(Fault::unknown(FaultKind::Timeout, "")));
            }
            Counts::of(votes.iter().map(Option::as_ref)).release()
        });
        // Nobody is pending after the time-out, so the outcome is settled.
        let outcome = outcome.unwrap_or(ReleaseOutcome::Unavailable);
        let token = ended(votes.iter().map(Option::as_ref));
        let held_for = token.map(|token| age.unwrap_or_else(|| inner.age(token)));
        inner.observer.event(&Event::Released {
            outcome: Some(outcome),
            held: held_for,
            took: inner.clock.now().saturating_since(started),
        });
        self.answer(outcome, &votes)?;
        Ok(Released { held_for })
    }

    /// Collects answers until the outcome is settled.
    async fn judge(
        &self,
        ballot: &mut BallotReader,
        votes: &mut [Option<Vote>],
        not_after: Moment,
    ) -> Option<ReleaseOutcome> {
        let mut asks = vec![1; votes.len()];
        loop {
            if let Some(outcome) = Counts::of(votes.iter().map(Option::as_ref)).release() {
                return Some(outcome);
            }
            let (node, Reply { vote, .. }) = ballot.next().await;
            match vote {
                // Where the grant is known, a newer one is none of ours to release.
                Vote::Newer { token } if self.held.token.is_none() && asks[node] < MAX_ASKS => {
                    asks[node] += 1;
                    // Whatever becomes of the second request, this is what must end.
                    self.settling.learn(token);
                    let again = release_of(&self.held, token);
                    self.inner.nodes[node].submit(again, not_after, ballot.slot(node));
                }
                vote => {
                    self.settling.note(node, &vote);
                    votes[node] = Some(vote);
                }
            }
        }
    }

    fn answer(&self, outcome: ReleaseOutcome, votes: &[Option<Vote>]) -> Result<(), Error> {
        let report = || fanout::report(&self.inner.nodes, votes.iter().map(Option::as_ref));
        match outcome {
            ReleaseOutcome::Released => Ok(()),
            ReleaseOutcome::NotHeld => Err(Error::NotHeld { report: report() }),
            ReleaseOutcome::HeldByAnother => {
                let retry_after = free_in(votes.iter().map(Option::as_ref), self.inner.quorum());
                Err(Error::HeldByAnother {
                    retry_after,
                    report: report(),
                })
            }
            ReleaseOutcome::Unavailable => {
                let report = report();
                let event = Event::Unavailable {
                    operation: "release",
                    report: &report,
                };
                self.inner.observer.event(&event);
                Err(Error::Unavailable {
                    attempts: 0,
                    report,
                })
            }
        }
    }
}

fn release_of(held: &Holding, token: FencingToken) -> Command {
    Command::Release {
        resource: held.resource.clone(),
        owner: held.owner.clone(),
        token,
    }
}

/// When a quorum of nodes will be free of the other holder, if they said so.
pub(super) fn free_in<'a>(
    votes: impl Iterator<Item = Option<&'a Vote>>,
    quorum: usize,
) -> Option<Duration> {
    let mut left: Vec<_> = votes
        .filter_map(|vote| match vote {
            Some(Vote::Held { remaining, .. }) => *remaining,
            _ => None,
        })
        .collect();
    left.sort_unstable();
    left.get(quorum - 1).or(left.last()).copied()
}
