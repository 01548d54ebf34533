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
    /// Answer at all.
    Ping,
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
            | Self::Inspect { resource } => Some(resource),
            Self::Ping => None,
        }
    }
}
