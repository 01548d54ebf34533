//! One acquisition attempt as a state machine: votes in, one verdict out.
//!
//! Labelled transitions: `Waiting => (Won | Lost)`, once. What arrives after the
//! verdict changes nothing here: late grants of a won attempt are welcome, those
//! of a lost one are undone by the caller.

use std::sync::Arc;
use std::time::Duration;

use super::clocks::{Agreement, Baselines, Span};
use super::quorum::{DOUBTED, Fault, FaultKind, Reply, Vote, majority};
use super::safeguards::Safeguard;
use super::time::{Moment, WallTime, median};
use super::token::FencingToken;
use super::validity::Drift;

/// What an attempt asks for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How many nodes there are.
    pub nodes: usize,
    /// The lease that is asked for.
    pub lease: Duration,
    /// When the attempt began: before anything was sent, queued or connected.
    pub started: Moment,
    /// The proposed token.
    pub token: FencingToken,
    /// What is taken off the lease.
    pub drift: Drift,
    /// The longest lease in the cluster, which no floor can lie further ahead than.
    pub max_lease: Duration,
    /// The validity that must be left at least; more than zero must always be left.
    pub min_validity: Duration,
}

/// What is known after a vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not decided.
    Wait,
    /// Acquired.
    Won(Won),
    /// Not acquired.
    Lost(Loss),
}

/// An acquired lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Won {
    /// The fencing token: the proposed one, or that of the call that won before.
    pub token: FencingToken,
    /// Until when the lock may be relied on.
    pub valid_until: Moment,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Tokens that were too low or too far ahead cost the quorum: propose again.
    Propose {
        /// The highest floor that lies within what the nodes may grant.
        floor: Option<FencingToken>,
    },
    /// Others hold the lock, or want it at the same moment.
    Contended {
        /// When the present holder's lease ends at the latest, from now; `None`
        /// if that is not known or if nobody holds the lock for sure.
        free_in: Option<Duration>,
        /// Whether no single holder is known to have a quorum.
        split: bool,
    },
    /// Too few nodes answered, or may vote.
    Unavailable,
    /// A quorum granted, but too late to rely on.
    Late,
}

/// The attempt's state.
#[derive(Clone, Debug)]
pub struct Attempt {
    terms: Terms,
    replies: Vec<Option<Reply>>,
    baselines: Arc<Baselines>,
    /// How far the clocks of the nodes that answered have shifted.
    shifts: Vec<Span>,
    verdict: Option<Step>,
}

impl Attempt {
    /// An attempt of which no node has answered yet.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            replies: vec![None; terms.nodes],
            baselines: Arc::default(),
            shifts: vec![Span::ANY; terms.nodes],
            verdict: None,
        }
    }

    /// Judges the nodes' clocks by these; without any, no clock is doubted.
    #[must_use]
    pub fn with_baselines(mut self, baselines: Arc<Baselines>) -> Self {
        self.baselines = baselines;
        self
    }

    /// Takes a node's reply that was received at `now`.
    pub fn reply(&mut self, node: usize, reply: Reply, now: Moment) -> Step {
        if let Some(slot @ None) = self.replies.get_mut(node) {
            let (time, sent) = (reply.time, self.terms.started);
            self.shifts[node] = self.baselines.shift(node, time, sent, now);
            *slot = Some(reply);
        }
        if self.verdict.is_none() {
            match self.judge(now) {
                Step::Wait => return Step::Wait,
                // Waiting => Won | Lost
                decided => self.verdict = Some(decided),
            }
        }
        self.verdict.clone().unwrap_or(Step::Wait)
    }

    /// The time for answers is over: who has not answered, failed.
    pub fn time_out(&mut self, now: Moment) -> Step {
        if self.verdict.is_none() {
            for slot in self.replies.iter_mut().filter(|slot| slot.is_none()) {
                *slot = Some(Reply::failed(Fault::unknown(FaultKind::Timeout, "")));
            }
            // Waiting => Won | Lost
            self.verdict = Some(self.judge(now));
        }
        self.verdict.clone().unwrap_or(Step::Wait)
    }

    /// When nothing can be won any more, whoever answers.
    #[must_use]
    pub fn hopeless_from(&self) -> Moment {
        self.valid_until() - self.terms.min_validity
    }

    /// The answers so far, by node.
    #[must_use]
    pub fn replies(&self) -> &[Option<Reply>] {
        &self.replies
    }

    /// The nodes on which this attempt may have left, or may yet leave, a grant
    /// or a share of one.
    pub fn to_undo(&self) -> impl Iterator<Item = usize> {
        self.replies.iter().enumerate().filter_map(|(node, reply)| {
            let refused = |reply: &Reply| !Self::may_be_left(&reply.vote, None);
            (!reply.as_ref().is_some_and(refused)).then_some(node)
        })
    }

    /// Whether a node with this answer may have something left of the attempt,
    /// other than a share of the grant `kept`. A definite refusal is spent.
    #[must_use]
    pub fn may_be_left(vote: &Vote, kept: Option<FencingToken>) -> bool {
        match vote {
            Vote::Granted => true,
            Vote::Again { token, .. } => Some(*token) != kept,
            Vote::Failed(fault) => fault.maybe_done,
            _ => false,
        }
    }

    /// How many nodes are known to have the attempt's ticket in line. One that only
    /// says that it may not vote, or that a token is too far ahead, does not count.
    #[must_use]
    pub fn accepted(&self) -> usize {
        let in_line = |vote: &&Vote| {
            matches!(
                vote,
                Vote::Queued { .. }
                    | Vote::Granted
                    | Vote::Again { .. }
                    | Vote::Held { .. }
                    | Vote::Stale { .. }
            )
        };
        self.votes().filter(in_line).count()
    }

    /// Whether the attempt is won, or what has not answered yet can't change
    /// whether a quorum accepted its ticket.
    #[must_use]
    pub fn knows_whether_accepted(&self) -> bool {
        let (quorum, accepted) = (majority(self.terms.nodes), self.accepted());
        let pending = self.replies.iter().filter(|reply| reply.is_none()).count();
        let won = matches!(self.verdict, Some(Step::Won(_)));
        won || accepted >= quorum || accepted + pending < quorum
    }

    /// What the nodes' clocks say it is, if a majority answered that agrees: the
    /// median of what each would say had it never been set apart from the others.
    #[must_use]
    pub fn median_time(&self) -> Option<WallTime> {
        let told = self.replies.iter().zip(&self.shifts).enumerate();
        let told = told.filter_map(|(node, (reply, shift))| {
            let time = reply.as_ref()?.time?;
            Some((self.baselines.common_time(node, time), *shift))
        });
        let agreed = Agreement::among(told.clone().map(|(_, shift)| shift));
        if agreed.count < majority(self.terms.nodes) {
            return None;
        }
        let told = told.filter(|(_, shift)| agreed.includes(*shift));
        median(told.map(|(time, _)| time).collect())
    }

    fn valid_until(&self) -> Moment {
        self.terms
            .drift
            .valid_until(self.terms.started, self.terms.lease)
    }

    fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.replies.iter().flatten().map(|reply| &reply.vote)
    }

    /// The clocks of the nodes that answered like this, as far as they agree.
    fn agreeing(&self, vote: impl Fn(&Vote) -> bool + Copy) -> Agreement {
        let answers = self.replies.iter().zip(&self.shifts);
        Agreement::among(answers.filter_map(move |(reply, shift)| {
            let answered = reply.as_ref().is_some_and(|reply| vote(&reply.vote));
            answered.then_some(*shift)
        }))
    }

    /// The answers as they count: grants only of clocks that agree.
    pub fn counted(&self) -> impl Iterator<Item = Option<&Vote>> {
        let agreed = self.agreeing(granted);
        let answers = self.replies.iter().zip(&self.shifts);
        answers.map(move |(reply, shift)| {
            let vote = &reply.as_ref()?.vote;
            Some(if granted(vote) && !agreed.includes(*shift) {
                &DOUBTED
            } else {
                vote
            })
        })
    }

    /// Whether the clock of any node that answered has shifted against the others',
    /// or a grant does not count since nothing is known of the node's clock.
    #[must_use]
    pub fn has_doubts(&self) -> bool {
        let answers = self.replies.iter().flatten().zip(&self.shifts);
        let expected = answers.filter(|(reply, shift)| granted(&reply.vote) || !shift.is_unknown());
        self.agreeing(|_| true).count < expected.count()
    }

    fn judge(&self, now: Moment) -> Step {
        let quorum = majority(self.terms.nodes);
        let pending = self.replies.iter().filter(|reply| reply.is_none()).count();
        // Votes of clocks that don't agree don't count together.
        let granted = self.agreeing(|vote| matches!(vote, Vote::Granted)).count;
        let again_token = self.most_shared_grant();
        let same =
            |vote: &Vote| matches!(vote, Vote::Again { token, .. } if Some(*token) == again_token);
        let again = self.agreeing(same).count;
        let won = if granted >= quorum {
            Some(self.terms.token)
        } else {
            again_token.filter(|_| again >= quorum)
        };
        if let Some(token) = won {
            let valid_until = self.valid_until();
            let left = valid_until.saturating_since(now);
            return if left > self.terms.min_validity || !Safeguard::ValidityCheck.is_on() {
                Step::Won(Won { token, valid_until })
            } else {
                Step::Lost(Loss::Late)
            };
        }
        if granted.max(again) + pending >= quorum {
            return Step::Wait;
        }
        Step::Lost(self.why_lost(granted.max(again), pending))
    }

    fn why_lost(&self, mine: usize, pending: usize) -> Loss {
        let quorum = majority(self.terms.nodes);
        let count = |wanted: fn(&Vote) -> bool| self.votes().filter(|vote| wanted(vote)).count();
        let mistaken = count(|vote| {
            matches!(
                vote,
                Vote::Stale { .. } | Vote::TicketStale { .. } | Vote::Ahead
            )
        });
        if mistaken > 0 && mine + pending + mistaken >= quorum {
            return Loss::Propose {
                floor: self.highest_floor(),
            };
        }
        // Grants that don't count say as little as a node that may not vote.
        let agreeing = self.agreeing(granted).count;
        let silent = count(|vote| matches!(vote, Vote::Failed(_) | Vote::Guarded { .. }))
            + self.votes().filter(|vote| granted(vote)).count()
            - agreeing;
        if self.terms.nodes - silent < quorum {
            return Loss::Unavailable;
        }
        // Where others stand before the asker, it is as if they held the lock.
        let (held, _) = self.largest_rival();
        let held = held + count(|vote| matches!(vote, Vote::Queued { .. }));
        // What has not answered, or failed, may hold for the rival too.
        let split = held + pending + silent < quorum;
        Loss::Contended {
            free_in: if split { None } else { self.free_in() },
            split,
        }
    }

    /// The token of the grant by another call of this owner that most nodes share.
    fn most_shared_grant(&self) -> Option<FencingToken> {
        self.most_frequent(|vote| match vote {
            Vote::Again { token, .. } => Some(*token),
            _ => None,
        })
        .map(|(_, token)| token)
    }

    /// On how many nodes the most widespread other holder was seen.
    fn largest_rival(&self) -> (usize, Option<FencingToken>) {
        self.most_frequent(|vote| match vote {
            Vote::Held { token, .. } => Some(*token),
            _ => None,
        })
        .unwrap_or((0, None))
    }

    fn most_frequent<T: PartialEq + Copy>(
        &self,
        pick: impl Fn(&Vote) -> Option<T>,
    ) -> Option<(usize, T)> {
        let picked: Vec<T> = self.votes().filter_map(pick).collect();
        let count = |of: &T| picked.iter().filter(|one| *one == of).count();
        picked
            .iter()
            .map(|one| (count(one), *one))
            .max_by_key(|(count, _)| *count)
    }

    /// The highest floor, those left out that no proposal could pass.
    fn highest_floor(&self) -> Option<FencingToken> {
        let reach = self
            .median_time()
            .map(|time| time.plus(self.terms.max_lease));
        self.votes()
            .filter_map(|vote| match vote {
                Vote::Stale { floor } | Vote::TicketStale { floor } => Some(*floor),
                _ => None,
            })
            .filter(|floor| reach.is_none_or(|reach| floor.as_u64() <= reach.as_micros()))
            .max()
    }

    /// When a quorum of nodes will be free, going by what the holders have left.
    fn free_in(&self) -> Option<Duration> {
        let mut free: Vec<Duration> = self
            .votes()
            .filter_map(|vote| match vote {
                Vote::Held { remaining, .. } => *remaining,
                Vote::Granted | Vote::Again { .. } => Some(Duration::ZERO),
                _ => None,
            })
            .collect();
        free.sort_unstable();
        let quorum = majority(self.terms.nodes);
        free.get(quorum - 1)
            .or(free.last())
            .copied()
            .filter(|left| !left.is_zero())
    }
}

/// Whether a node says that it holds the lock for whom it was asked for.
const fn granted(vote: &Vote) -> bool {
    matches!(vote, Vote::Granted | Vote::Again { .. })
}
