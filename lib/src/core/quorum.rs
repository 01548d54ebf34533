//! Votes, and what a majority is.
//!
//! A vote is three-valued in effect: for, against, and *unknown*. A node that
//! fails is never taken for one that says that the lock is held, or free.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::time::WallTime;
use super::token::FencingToken;
use super::types::NodeId;

/// The smallest number of nodes of which any two sets overlap.
#[must_use]
pub const fn majority(nodes: usize) -> usize {
    nodes / 2 + 1
}

/// What one node answered to one command, or why it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// The node holds the lock for the asker, under the proposed token.
    Granted,
    /// The asker's owner holds the lock already, by another call.
    Again {
        /// The token of that grant.
        token: FencingToken,
        /// What remains of the lease, after it was lengthened to what was asked.
        remaining: Duration,
    },
    /// Another owner holds the lock.
    Held {
        /// What remains of its lease; `None` if its key never expires.
        remaining: Option<Duration>,
        /// The token of its grant; `None` if another client wrote the key.
        token: Option<FencingToken>,
    },
    /// The proposed token is not above the node's floor.
    Stale {
        /// The floor.
        floor: FencingToken,
    },
    /// The proposed token lies further ahead of the node's clock than any lease may last.
    Ahead,
    /// The node may not vote: it may have lost what it granted, or let it go early.
    Guarded {
        /// For how long still; `None` while the node belongs to no cluster yet, or
        /// before the reason was noted.
        remaining: Option<Duration>,
    },
    /// The lease was lengthened.
    Extended {
        /// The token of the grant; `None` if another client wrote the key.
        token: Option<FencingToken>,
        /// What remains of the lease now.
        remaining: Duration,
    },
    /// The owner's lock was let go.
    Released {
        /// The token of the grant that ended; `None` if another client wrote the key.
        token: Option<FencingToken>,
    },
    /// The owner holds the lock under a higher grant than the one to be released.
    Newer {
        /// The token of that grant.
        token: FencingToken,
    },
    /// Nobody holds the lock.
    Absent,
    /// The attempt is taken back and can no longer arrive.
    Undone {
        /// Whether it held the lock here.
        deleted: bool,
    },
    /// The grant is over here and can no longer arrive.
    Settled {
        /// Whether it still held the lock here.
        deleted: bool,
    },
    /// Who holds the lock, asked for without touching it.
    Holder {
        /// The owner id.
        owner: Arc<str>,
        /// What remains of its lease; `None` if its key never expires.
        remaining: Option<Duration>,
        /// The token of its grant; `None` if another client wrote the key.
        token: Option<FencingToken>,
    },
    /// The asker stands in line, and was not granted the lock.
    Queued {
        /// How many stand before it.
        position: u32,
        /// How many stand in line altogether.
        length: u32,
    },
    /// The proposed ticket is not above the highest that ever stood in this line.
    TicketStale {
        /// That ticket.
        floor: FencingToken,
    },
    /// The line takes nobody any more.
    QueueFull {
        /// How many stand in it.
        length: u32,
    },
    /// The asker does not stand in line any more.
    LeftQueue {
        /// Whether it was the first in line for a lock that nobody holds.
        wakes: bool,
    },
    /// How many wait in line.
    Queue {
        /// How many.
        length: u32,
    },
    /// The node is there and may vote.
    Pong,
    /// No answer, or an error: the node may have done what it was asked, unless the fault says otherwise.
    Failed(Fault),
}

/// What a grant counts as where the node's clock does not agree with the others'.
pub(crate) static DOUBTED: Vote = Vote::Guarded { remaining: None };

/// What went wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// Nobody listens at the node's address.
    Refused,
    /// The node could not be connected to.
    Unreachable,
    /// No answer within the node's time.
    Timeout,
    /// The connection broke.
    Disconnected,
    /// The node still loads its data.
    Loading,
    /// The node takes no writes: it is a replica.
    ReadOnly,
    /// The node takes no writes: it can't persist them.
    Misconf,
    /// The node has no memory left for writes.
    OutOfMemory,
    /// The node wants other credentials.
    NotAuthenticated,
    /// The node's user may not run a command that is needed.
    NoPermission,
    /// Too many commands wait for the node already.
    Backlog,
    /// The node can't serve this cluster: the detail says why.
    Misconfigured,
    /// The node answered with another error, or with something that is no answer.
    Unexpected,
}

impl FaultKind {
    /// The kind's name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Loading => "loading",
            Self::ReadOnly => "read-only",
            Self::Misconf => "misconf",
            Self::OutOfMemory => "out of memory",
            Self::NotAuthenticated => "not authenticated",
            Self::NoPermission => "no permission",
            Self::Backlog => "backlog",
            Self::Misconfigured => "misconfigured",
            Self::Unexpected => "unexpected answer",
        }
    }
}

/// A node's failure to answer one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// Whether the command may have reached the node, now or later.
    pub maybe_done: bool,
    /// For people; without secrets.
    pub detail: Arc<str>,
}

impl Fault {
    /// A failure after which the command may still take effect.
    #[must_use]
    pub fn unknown(kind: FaultKind, detail: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            maybe_done: true,
            detail: detail.into(),
        }
    }

    /// A failure before the command was sent: it has no effect, ever.
    #[must_use]
    pub fn unsent(kind: FaultKind, detail: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            maybe_done: false,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted => f.write_str("granted"),
            Self::Again { token, .. } => write!(f, "granted before under token {token}"),
            Self::Held {
                remaining: Some(left),
                ..
            } => {
                write!(f, "held for {} ms more", left.as_millis())
            }
            Self::Held {
                remaining: None, ..
            } => f.write_str("held without an expiry"),
            Self::Stale { floor } => write!(f, "token not above the floor {floor}"),
            Self::Ahead => f.write_str("token too far ahead of the node's clock"),
            Self::Guarded {
                remaining: Some(left),
            } => {
                write!(f, "guarded: may not vote for {} ms more", left.as_millis())
            }
            Self::Guarded { remaining: None } => f.write_str(
                "guarded: not initialised, or its loss or its clock's jump is about to be noted",
            ),
            Self::Extended { remaining, .. } => {
                write!(f, "extended: {} ms remain", remaining.as_millis())
            }
            Self::Released { .. } => f.write_str("released"),
            Self::Newer { token } => write!(f, "holds a newer grant, token {token}"),
            Self::Absent => f.write_str("not held"),
            Self::Undone { .. } => f.write_str("undone"),
            Self::Settled { .. } => f.write_str("settled"),
            Self::Holder { .. } => f.write_str("held"),
            Self::Queued { position, length } => {
                write!(f, "waits in line: {position} of {length} stand before it")
            }
            Self::TicketStale { floor } => write!(f, "ticket not above the floor {floor}"),
            Self::QueueFull { length } => write!(f, "the line is full: {length} wait"),
            Self::LeftQueue { .. } => f.write_str("left the line"),
            Self::Queue { length } => write!(f, "{length} wait in line"),
            Self::Pong => f.write_str("up"),
            Self::Failed(fault) => fault.fmt(f),
        }
    }
}

/// A vote, and what the node's own clock said when it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The node's clock; `None` if the node did not answer.
    pub time: Option<WallTime>,
    /// The vote.
    pub vote: Vote,
}

impl Reply {
    /// An answer that the node gave when its clock said `time`.
    #[must_use]
    pub const fn at(time: WallTime, vote: Vote) -> Self {
        Self {
            time: Some(time),
            vote,
        }
    }

    /// No answer.
    #[must_use]
    pub const fn failed(fault: Fault) -> Self {
        Self {
            time: None,
            vote: Vote::Failed(fault),
        }
    }
}

/// Every node's outcome in one operation, for errors and events.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Report {
    /// The nodes in the order of the configuration; `None` where the outcome
    /// was settled before the node had answered.
    pub nodes: Vec<(NodeId, Option<Vote>)>,
}

impl Report {
    /// How many stood before a waiter in line, as the node says where they were most;
    /// `None` where no node had anybody before it.
    #[must_use]
    pub fn position(&self) -> Option<u32> {
        let votes = self.nodes.iter().filter_map(|(_, vote)| vote.as_ref());
        votes
            .filter_map(|vote| match vote {
                Vote::Queued { position, .. } => Some(*position),
                _ => None,
            })
            .max()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (node, vote)) in self.nodes.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            match vote {
                Some(vote) => write!(f, "{node}: {vote}")?,
                None => write!(f, "{node}: not waited for")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::majority;

    #[test]
    fn any_two_majorities_share_a_node_and_no_smaller_sets_need_to() {
        for nodes in 1..=9usize {
            let quorum = majority(nodes);
            assert!(
                2 * quorum > nodes,
                "{nodes}: two quorums of {quorum} must overlap"
            );
            assert!(
                2 * (quorum - 1) <= nodes,
                "{nodes}: {quorum} is larger than it needs to be"
            );
        }
    }
}
