//! What a node can be asked about one resource.
//!
//! Each command is one script on a node, one round trip. They carry everything
//! the node needs to decide alone; the node's rules are in `register.rs` and,
//! for Redis, in the scripts that mirror it.

use std::time::Duration;

use super::token::FencingToken;
use super::types::{CallId, OwnerId, Resource};

/// One step of the protocol on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Vote for this owner holding the resource for `lease` under `token`.
    Acquire {
        /// What is locked.
        resource: Resource,
        /// Who asks.
        owner: OwnerId,
        /// For how long.
        lease: Duration,
        /// The request that this attempt belongs to.
        call: CallId,
        /// The proposed fencing token.
        token: FencingToken,
        /// So many tokens above it are the owner's as well: nobody is granted the
        /// resource under one of them.
        reserve: u32,
    },
    /// Add `by` to what remains of the owner's lease; the cluster's maximum is the bound.
    Extend {
        /// What is locked.
        resource: Resource,
        /// Who holds it.
        owner: OwnerId,
        /// The time to add.
        by: Duration,
    },
    /// Let the resource go if the owner holds it under a grant not above `token`.
    Release {
        /// What is locked.
        resource: Resource,
        /// Who holds it.
        owner: OwnerId,
        /// The grant that is given up, or any token that is surely not below it.
        token: FencingToken,
    },
    /// Release, without a word to those who listen for it: somebody's acquire
    /// follows at once.
    PassOn {
        /// What is locked.
        resource: Resource,
        /// Who holds it.
        owner: OwnerId,
        /// The grant that is given up, or any token that is surely not below it.
        token: FencingToken,
    },
    /// Take back one attempt of one call, whether it has arrived yet or not.
    Undo {
        /// What was to be locked.
        resource: Resource,
        /// Who asked.
        owner: OwnerId,
        /// The request that the attempt belonged to.
        call: CallId,
        /// The token that the attempt proposed.
        token: FencingToken,
        /// Whether those who wait are told if the lock goes with it: it may have been won,
        /// and whoever asked for it has gone.
        aloud: bool,
    },
    /// After a release: let go as [`Command::Release`] does, and refuse what
    /// arrives late under a token not above `token`.
    Settle {
        /// What was locked.
        resource: Resource,
        /// Who held it.
        owner: OwnerId,
        /// The grant that was given up.
        token: FencingToken,
    },
    /// Say who holds the resource, and change nothing.
    Inspect {
        /// What may be locked.
        resource: Resource,
    },
    /// Stand in line, and vote as for [`Command::Acquire`] if nobody is before the asker.
    AcquireInTurn {
        /// What is locked.
        resource: Resource,
        /// Who asks.
        owner: OwnerId,
        /// For how long.
        lease: Duration,
        /// The request that this attempt belongs to; it has one place in line.
        call: CallId,
        /// The proposed fencing token.
        token: FencingToken,
        /// The place in line.
        turn: Turn,
    },
    /// Stand in line, or go on standing there, without an attempt.
    Stand {
        /// What is waited for.
        resource: Resource,
        /// The request that waits.
        call: CallId,
        /// The place in line.
        turn: Turn,
    },
    /// Stand in line no longer, and refuse the ticket if it arrives late.
    LeaveQueue {
        /// What was waited for.
        resource: Resource,
        /// The request that waited.
        call: CallId,
        /// Its last ticket.
        ticket: FencingToken,
    },
    /// [`Command::Release`] and [`Command::LeaveQueue`] in one: by somebody who had the lock
    /// from a place in line.
    ReleaseInTurn {
        /// What is locked.
        resource: Resource,
        /// Who holds it.
        owner: OwnerId,
        /// The grant that is given up, or any token that is surely not below it.
        token: FencingToken,
        /// The request that won.
        call: CallId,
        /// Its ticket.
        ticket: FencingToken,
    },
    /// Say how many wait in line.
    Queue {
        /// What may be waited for.
        resource: Resource,
    },
    /// Answer at all.
    Ping,
}

/// A place in line, as its owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The ticket: lower ones go first.
    pub ticket: FencingToken,
    /// Whether a quorum of nodes is known to have accepted this very ticket. Then it
    /// may enter where it is missing, whatever came there since.
    pub accepted: bool,
}

impl Command {
    /// The command's name in logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Acquire { .. } => "acquire",
            Self::Extend { .. } => "extend",
            Self::Release { .. } => "release",
            Self::PassOn { .. } => "pass-on",
            Self::Undo { .. } => "undo",
            Self::Settle { .. } => "settle",
            Self::Inspect { .. } => "inspect",
            Self::AcquireInTurn { .. } => "acquire in turn",
            Self::Stand { .. } => "stand",
            Self::LeaveQueue { .. } => "leave queue",
            Self::ReleaseInTurn { .. } => "release in turn",
            Self::Queue { .. } => "queue",
            Self::Ping => "ping",
        }
    }

    /// The resource that it is about; none if it asks for no more than an answer.
    #[must_use]
    pub const fn resource(&self) -> Option<&Resource> {
        match self {
            Self::Acquire { resource, .. }
            | Self::Extend { resource, .. }
            | Self::Release { resource, .. }
            | Self::PassOn { resource, .. }
            | Self::Undo { resource, .. }
            | Self::Settle { resource, .. }
            | Self::AcquireInTurn { resource, .. }
            | Self::Stand { resource, .. }
            | Self::LeaveQueue { resource, .. }
            | Self::ReleaseInTurn { resource, .. }
            | Self::Queue { resource }
            | Self::Inspect { resource } => Some(resource),
            Self::Ping => None,
        }
    }
}
