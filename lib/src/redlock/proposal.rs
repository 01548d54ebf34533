//! One proposal to all nodes, which undoes itself unless it is won.
//!
//! Invariant: from the moment it is sent until it is won under its own token, a
//! proposal is armed: whatever ends it, the caller's disappearance included,
//! undoes it on every node that granted or has not refused.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Inner, fanout};
use crate::clock::Moment;
use crate::core::attempt::{Attempt, Loss, Step, Terms, Won};
use crate::core::cohort::{MAX_RESERVE, Reserved};
use crate::core::command::{Command, Turn};
use crate::core::quorum::Vote;
use crate::core::safeguards::Safeguard;
use crate::core::token::FencingToken;
use crate::core::types::{CallId, OwnerId, Resource};
use crate::node::{Ballot, BallotReader};
use crate::observer::{AttemptOutcome, Event, Trace};

/// Answers of healthy nodes come this close to one another.
const STRAGGLING: Duration = Duration::from_millis(10);

/// What one acquire request asks for, in all its attempts.
pub(super) struct Bid {
    pub(super) inner: Arc<Inner>,
    pub(super) resource: Resource,
    pub(super) owner: OwnerId,
    pub(super) lease: Duration,
    pub(super) min_validity: Duration,
    pub(super) call: CallId,
    /// Whether the lock may be handed on from section to section: when each ends is known.
    pub(super) hands_on: bool,
    /// Proposals are counted, so that an undo can tell each from those before it.
    pub(super) proposals: AtomicU32,
    /// Follows the request, for whoever launches its proposals.
    pub(super) trace: Option<Arc<dyn Trace>>,
}

impl Bid {
    /// Sends a proposal to all nodes, under a token above `floor`.
    pub(super) fn launch(&self, floor: Option<FencingToken>) -> Flight {
        let waiting = self.inner.lines.waiting(&self.resource);
        self.launch_for(floor, waiting)
    }

    /// The same, where so many stand in this process's line, the asker as a rule.
    pub(super) fn launch_for(&self, floor: Option<FencingToken>, waiting: usize) -> Flight {
        let others = waiting.saturating_sub(1);
        let tokens = u32::try_from(others).unwrap_or(MAX_RESERVE);
        let tokens = if self.hands_on {
            tokens.min(MAX_RESERVE)
        } else {
            0
        };
        self.send(floor, None, tokens)
    }

    /// The same, from a place in line.
    pub(super) fn launch_in_turn(&self, floor: Option<FencingToken>, turn: Turn) -> Flight {
        self.send(floor, Some(turn), 0)
    }

    fn send(&self, floor: Option<FencingToken>, turn: Option<Turn>, tokens: u32) -> Flight {
        let inner = &self.inner;
        let releases = inner.lines.releases(&self.resource);
        let reserved = Reserved {
            tokens,
            before: inner.lines.number(),
        };
        let number = self.proposals.fetch_add(1, Ordering::Relaxed);
        let call = self.call.at_attempt(number.saturating_add(2));
        let started = inner.clock.now();
        let token = inner.propose_some(floor, tokens);
        let attempt = Attempt::new(Terms {
            nodes: inner.nodes.len(),
            lease: self.lease,
            started,
            token,
            drift: inner.settings.drift,
            max_lease: inner.max_lease(),
            min_validity: self.min_validity,
        })
        .with_baselines(inner.clocks.baselines());
        let not_after = (started + inner.settings.node_timeout).min(attempt.hopeless_from());
        let named = (&self.resource, &self.owner);
        let trace = self.trace.as_ref();
        let proposal = Proposal::new(inner, named, self.lease, (call, token, tokens), turn, trace);
        let armed = Armed::new(&proposal, attempt, started);
        let command = proposal.command();
        let ballot = Ballot::with_late(move |node, reply| proposal.late(node, &reply.vote));
        let ballot = ballot.followed(trace);
        fanout::send(&inner.nodes, &command, not_after, &ballot);
        Flight {
            releases,
            reserved,
            ballot,
            armed,
            not_after,
        }
    }
}

/// A proposal that is under way. Dropping it undoes it.
pub(super) struct Flight {
    /// The number of releases before it: see [`Lines::join`](super::line::Lines::join).
    pub(super) releases: u64,
    /// What was proposed for those who come after.
    pub(super) reserved: Reserved,
    ballot: BallotReader,
    armed: Armed,
    not_after: Moment,
}

impl Flight {
    /// Waits until it is decided, or its time is over.
    pub(super) async fn land(mut self) -> (Attempt, Result<Won, Loss>) {
        let inner = Arc::clone(&self.armed.proposal.inner);
        let (armed, ballot) = (&mut self.armed, &mut self.ballot);
        let mut step = Step::Wait;
        // A lost attempt may yet have won its place in line.
        let proposes = armed.proposal.turn.is_some_and(|turn| !turn.accepted);
        let decided = async {
            while step == Step::Wait || proposes && !armed.attempt.knows_whether_accepted() {
                let (node, reply) = ballot.next().await;
                step = armed.attempt.reply(node, reply, inner.clock.now());
            }
        };
        let time = inner.remaining(self.not_after);
        if tokio::time::timeout(time, decided).await.is_err() {
            step = armed.attempt.time_out(inner.clock.now());
        }
        if armed.proposal.turn.is_some() && matches!(step, Step::Lost(Loss::Contended { .. })) {
            // Who must wait anyhow hears the others out: what refused needs no undo.
            let rest = async {
                while armed.attempt.replies().iter().any(Option::is_none) {
                    let (node, reply) = ballot.next().await;
                    armed.attempt.reply(node, reply, inner.clock.now());
                }
            };
            let time = time.min(STRAGGLING);
            // Those that take longer are undone like any that have not answered.
            let _ = tokio::time::timeout(time, rest).await;
        }
        if let Some(median) = armed.attempt.median_time() {
            inner.align(median);
        }
        if armed.attempt.has_doubts() {
            inner.clocks.doubt();
        }
        armed.landed = true;
        let result = match step {
            Step::Won(won) => {
                armed.win(won.token);
                Ok(won)
            }
            Step::Lost(loss) => Err(loss),
            Step::Wait => Err(Loss::Unavailable),
        };
        armed.note_end(match result {
            Ok(_) => AttemptOutcome::Won,
            Err(Loss::Contended { .. }) => AttemptOutcome::Contended,
            Err(Loss::Unavailable) => AttemptOutcome::Unavailable,
            Err(Loss::Late) => AttemptOutcome::Late,
            Err(Loss::Propose { .. }) => AttemptOutcome::TokenTooLow,
        });
        (armed.attempt.clone(), result)
    }
}

/// What was proposed. It outlives the caller, to hear late answers.
struct Proposal {
    inner: Arc<Inner>,
    resource: Resource,
    owner: OwnerId,
    lease: Duration,
    call: CallId,
    token: FencingToken,
    reserve: u32,
    turn: Option<Turn>,
    trace: Option<Arc<dyn Trace>>,
    /// The grant of another call that won in place of the proposed one.
    kept: OnceLock<FencingToken>,
}

impl Proposal {
    fn new(
        inner: &Arc<Inner>,
        (resource, owner): (&Resource, &OwnerId),
        lease: Duration,
        (call, token, reserve): (CallId, FencingToken, u32),
        turn: Option<Turn>,
        trace: Option<&Arc<dyn Trace>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            resource: resource.clone(),
            owner: owner.clone(),
            lease,
            call,
            token,
            reserve,
            turn,
            trace: trace.cloned(),
            kept: OnceLock::new(),
        })
    }

    fn command(&self) -> Command {
        if let Some(turn) = self.turn {
            return Command::AcquireInTurn {
                resource: self.resource.clone(),
                owner: self.owner.clone(),
                lease: self.lease,
                call: self.call,
                token: self.token,
                turn,
            };
        }
        Command::Acquire {
            resource: self.resource.clone(),
            owner: self.owner.clone(),
            lease: self.lease,
            call: self.call,
            token: self.token,
            reserve: self.reserve,
        }
    }

    /// An answer that nobody waits for: late grants of a won proposal are welcome,
    /// and a lost one is undone already. Only where another call's grant won, the
    /// proposal must go from nodes that granted it all the same.
    fn late(&self, node: usize, vote: &Vote) {
        let Some(kept) = self.kept.get() else { return };
        if Attempt::may_be_left(vote, Some(*kept)) {
            self.undo(node, false);
        }
    }

    fn undo(&self, node: usize, aloud: bool) {
        if Safeguard::Undo.is_on() {
            let patience = patience(self.lease);
            let trace = self.trace.clone();
            let chores = &self.inner.chores;
            chores.add(node, self.undoing(aloud), patience, trace);
        }
    }

    /// Undoes it ahead of whatever is sent next, if the node can be reached.
    fn undo_now(&self, node: usize, aloud: bool) {
        if Safeguard::Undo.is_on() {
            let not_after = self.inner.clock.now() + self.inner.settings.node_timeout;
            let slot = Ballot::open().slot(node).followed(self.trace.clone());
            self.inner.nodes[node].submit(self.undoing(aloud), not_after, slot);
        }
    }

    fn undoing(&self, aloud: bool) -> Command {
        Command::Undo {
            resource: self.resource.clone(),
            owner: self.owner.clone(),
            call: self.call,
            token: self.token,
            aloud,
        }
    }
}

/// A proposal that was sent, with the answers so far.
struct Armed {
    proposal: Arc<Proposal>,
    attempt: Attempt,
    started: Moment,
    /// Whether its end was waited for.
    landed: bool,
    won: bool,
}

impl Armed {
    fn new(proposal: &Arc<Proposal>, attempt: Attempt, started: Moment) -> Self {
        Self {
            proposal: Arc::clone(proposal),
            attempt,
            started,
            landed: false,
            won: false,
        }
    }

    fn note_end(&self, outcome: AttemptOutcome) {
        let inner = &self.proposal.inner;
        let took = inner.clock.now().saturating_since(self.started);
        inner.observer.event(&Event::Attempted { outcome, took });
    }

    /// It is won under this token, its own or that of another call of the owner.
    fn win(&mut self, token: FencingToken) {
        self.won = true;
        if token == self.proposal.token {
            return;
        }
        // Set before late answers are heard of, which are those not seen here.
        let _ = self.proposal.kept.set(token);
        for (node, reply) in self.attempt.replies().iter().enumerate() {
            if let Some(reply) = reply {
                self.proposal.late(node, &reply.vote);
            }
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if !self.landed {
            self.note_end(AttemptOutcome::Cancelled);
        }
        if !self.won {
            // Who goes away may have won without knowing, and others may have been told that it
            // holds the lock. Not so who tries again: its own attempts would wake it at once. A
            // place in line tells of its leaving.
            let aloud = !self.landed && self.proposal.turn.is_none();
            for node in self.attempt.to_undo() {
                if !self.landed {
                    // Chores take their time; who is next in line tries at once.
                    self.proposal.undo_now(node, aloud);
                }
                self.proposal.undo(node, aloud);
            }
        }
    }
}

/// For how long a node that does not answer is told to undo: the lease, and
/// longer, since a request that a stopped server has not read yet starts a
/// lease when the server goes on.
pub(super) fn patience(lease: Duration) -> Duration {
    const STOPPED_SERVER: Duration = Duration::from_mins(10);
    lease.saturating_add(STOPPED_SERVER)
}
