//! Event hooks: what an application may want to count, log or trace.
//!
//! The library itself needs no metrics and no logging crate. Observers are
//! called on the hot path and must not block.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::core::marker::Cause;
use crate::core::outcome::{ExtendOutcome, ReleaseOutcome};
use crate::core::quorum::{Fault, Report, Vote};
use crate::core::renewal::LossReason;
use crate::core::types::NodeId;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A client is made of these nodes, and begins to connect to them.
    Opened {
        /// The nodes.
        nodes: &'a [&'a NodeId],
        /// How many of them must vote.
        quorum: usize,
    },
    /// A proposal of an attempt to acquire was decided, or given up with its caller.
    Attempted {
        /// How it ended.
        outcome: AttemptOutcome,
        /// How long it took.
        took: Duration,
    },
    /// An acquire request begins to wait for its next attempt; told once of each that
    /// does, before its end.
    Waiting,
    /// A request with [`fifo`](crate::AcquireOptions::fifo) stands in line on a quorum of
    /// nodes: who asks from now on comes after it. Told once at most, and not of a
    /// request that has the lock at once.
    InLine {
        /// How long that took.
        took: Duration,
    },
    /// An acquire request ended.
    Acquired {
        /// How it ended.
        outcome: AcquireOutcome,
        /// Attempts that it made.
        attempts: u32,
        /// Whether it waited: see [`Event::Waiting`].
        waited: bool,
        /// How long it took, all waiting included.
        took: Duration,
    },
    /// A release was decided, or a guard was dropped, which releases in the background.
    Released {
        /// How it ended; none where nobody waits to hear it.
        outcome: Option<ReleaseOutcome>,
        /// For how long the lock was held, whoever acquired it: where there was no guard,
        /// the age of the grant's token, which is a time. None where no grant ended.
        held: Option<Duration>,
        /// How long it took.
        took: Duration,
    },
    /// An extension was decided.
    Extended {
        /// How it ended.
        outcome: ExtendOutcome,
        /// How long it took.
        took: Duration,
    },
    /// A guard ended, once for each.
    GuardEnded {
        /// How it ended.
        end: GuardEnd,
        /// For how long the lock was held under it.
        held: Duration,
    },
    /// A release or an extension could not be told a quorum of nodes.
    Unavailable {
        /// What was asked of the nodes.
        operation: &'static str,
        /// What each node said.
        report: &'a Report,
    },
    /// A node answered a clean-up command, or was given up: an undo, a settlement, or a
    /// place in line that was left.
    CleanedUp {
        /// The node.
        node: &'a NodeId,
        /// The command's name.
        operation: &'static str,
        /// Its answer; a fault if it was given up.
        vote: &'a Vote,
    },
    /// A node became usable.
    NodeUp {
        /// The node.
        node: &'a NodeId,
        /// The server's version.
        version: &'a str,
        /// What an operator should know.
        warnings: &'a [String],
    },
    /// A node became unusable, or stayed so at another attempt to reach it.
    NodeDown {
        /// The node.
        node: &'a NodeId,
        /// Why.
        fault: &'a Fault,
    },
    /// A node may have lost what it granted, or let it go early, and waits before
    /// it votes again.
    NodeGuarded {
        /// The node.
        node: &'a NodeId,
        /// For how long, if that is known.
        remaining: Option<Duration>,
        /// Why, if that is known.
        cause: Option<Cause>,
    },
    /// A node answered a command, or failed to; told of each command that it is given.
    Answered {
        /// The node.
        node: &'a NodeId,
        /// The command's name.
        operation: &'static str,
        /// Its answer.
        vote: &'a Vote,
        /// How long it took, the wait to be sent included.
        took: Duration,
    },
    /// The nodes' clocks were looked at, as they are every few seconds.
    ClocksSeen {
        /// By how many microseconds each node's clock is ahead of the middle of all;
        /// none where it was not seen.
        offsets: &'a [(&'a NodeId, Option<i64>)],
        /// Whether so many jumped that no votes count together for a while.
        astray: bool,
    },
}

/// How a proposal of an attempt to acquire ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It won.
    Won,
    /// Others hold the lock, or wanted it at the same moment.
    Contended,
    /// Too few nodes answered, or may vote.
    Unavailable,
    /// A quorum granted too late to be of use.
    Late,
    /// Its token was too low, which mostly leads to another proposal within the same attempt.
    TokenTooLow,
    /// The caller went away.
    Cancelled,
}

/// How a [`Guard`](crate::Guard) ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardEnd {
    /// It was released or dropped while the lock was held. Whether the nodes
    /// could be told is another matter: see [`Event::Unavailable`].
    Released,
    /// The lock was lost.
    Lost(LossReason),
}

/// How an acquire request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireOutcome {
    /// The lock was acquired.
    Acquired,
    /// Others held it until the retries ran out.
    Contended,
    /// No quorum of nodes answered.
    Unavailable,
    /// A quorum of nodes granted it, but too late to be of use.
    Late,
    /// The caller went away.
    Cancelled,
}

/// Receives events. The default observes nothing.
pub trait Observer: Send + Sync {
    /// Called with each event, on the task that caused it; must not block, nor panic.
    fn event(&self, event: &Event<'_>) {
        let _ = event;
    }

    /// Called as a caller's operation begins, on the caller's task: an acquire, an extension
    /// or a release. What is returned hears of each command that is given to a node for it,
    /// whichever task gives it and however late. None where nobody wants to hear; then
    /// nothing is kept, and nothing more is asked.
    fn follow(&self) -> Option<Arc<dyn Trace>> {
        None
    }
}

/// Follows one operation through the nodes, for an application that traces its requests.
pub trait Trace: Send + Sync + fmt::Debug {
    /// A command is given to a node for this operation: called where that is done, which may
    /// be another caller's task. What is returned hears what becomes of it, if anything is.
    /// Commands that clean up are told of once, not of each time that they are repeated.
    fn command(&self, node: &NodeId, operation: &'static str) -> Option<Box<dyn CommandTrace>>;
}

/// Hears of one command, which is answered exactly once, or dropped with its node.
pub trait CommandTrace: Send {
    /// It is sent, in one call with so many commands, itself included. Told anew where it is
    /// sent again, and not of a node that is no server.
    fn sent(&mut self, together: usize) {
        let _ = together;
    }

    /// Its answer is here, or there will be none.
    fn answered(self: Box<Self>, vote: &Vote);
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
