//! One proposal to all nodes, which undoes itself unless it is won.
//!
//! Invariant: from the moment it is sent until it is won under its own token, a
//! proposal is armed: whatever ends it, the caller's disappearance included,
//! undoes it on every node that granted or has not refused.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Inner;
use crate::core::attempt::Attempt;
use crate::core::command::Command;
use crate::core::quorum::Vote;
use crate::core::token::FencingToken;
use crate::core::types::{CallId, OwnerId, Resource};

/// What was proposed. It outlives the caller, to hear late answers.
pub(super) struct Proposal {
    pub(super) inner: Arc<Inner>,
    pub(super) resource: Resource,
    pub(super) owner: OwnerId,
    pub(super) lease: Duration,
    pub(super) call: CallId,
    pub(super) token: FencingToken,
    /// The grant of another call that won in place of the proposed one.
    kept: OnceLock<FencingToken>,
}

impl Proposal {
    pub(super) fn new(
        inner: &Arc<Inner>,
        (resource, owner): (&Resource, &OwnerId),
        lease: Duration,
        (call, token): (CallId, FencingToken),
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            resource: resource.clone(),
            owner: owner.clone(),
            lease,
            call,
            token,
            kept: OnceLock::new(),
        })
    }

    pub(super) fn command(&self) -> Command {
        Command::Acquire {
            resource: self.resource.clone(),
            owner: self.owner.clone(),
            lease: self.lease,
            call: self.call,
            token: self.token,
        }
    }

    /// An answer that nobody waits for: late grants of a won proposal are welcome,
    /// and a lost one is undone already. Only where another call's grant won, the
    /// proposal must go from nodes that granted it all the same.
    pub(super) fn late(&self, node: usize, vote: &Vote) {
        let Some(kept) = self.kept.get() else { return };
        if Attempt::may_be_left(vote, Some(*kept)) {
            self.undo(node);
        }
    }

    fn undo(&self, node: usize) {
        let command = Command::Undo {
            resource: self.resource.clone(),
            owner: self.owner.clone(),
            call: self.call,
            token: self.token,
        };
        self.inner.chores.add(node, command, patience(self.lease));
    }
}

/// A proposal that was sent, with the answers so far.
pub(super) struct Armed {
    proposal: Arc<Proposal>,
    pub(super) attempt: Attempt,
    won: bool,
}

impl Armed {
    pub(super) fn new(proposal: &Arc<Proposal>, attempt: Attempt) -> Self {
        Self {
            proposal: Arc::clone(proposal),
            attempt,
            won: false,
        }
    }

    /// It is won under this token, its own or that of another call of the owner.
    pub(super) fn win(&mut self, token: FencingToken) {
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
        if !self.won {
            for node in self.attempt.to_undo() {
                self.proposal.undo(node);
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
