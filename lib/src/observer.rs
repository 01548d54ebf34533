//! Event hooks: what an application may want to count, log or trace.
//!
//! The library itself needs no metrics and no logging crate. Observers are
//! called on the hot path and must not block.

use std::time::Duration;

use crate::core::marker::Cause;
use crate::core::quorum::{Fault, Report, Vote};
use crate::core::renewal::LossReason;
use crate::core::types::NodeId;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An attempt to acquire was decided.
    Attempted {
        /// Whether it won.
        won: bool,
        /// How long it took.
        took: Duration,
    },
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
        /// How long it took, all waiting included.
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
    /// A node answered a clean-up command, or was given up.
    CleanedUp {
        /// The node.
        node: &'a NodeId,
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
    /// No quorum of nodes answered, or they answered too late.
    Unavailable,
    /// The caller went away.
    Cancelled,
}

/// Receives events. The default observes nothing.
pub trait Observer: Send + Sync {
    /// Called with each event, on the task that caused it; must not block.
    fn event(&self, event: &Event<'_>) {
        let _ = event;
    }
}

/// Observes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
