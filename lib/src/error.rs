//! The public errors. Callers act differently on each, so each is its own:
//! wait and retry when contended, alarm when unavailable, stop when lost.

use std::time::Duration;

use crate::core::quorum::Report;
use crate::core::types::InvalidName;

/// Why an operation did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Others held the lock until the retries ran out. Nothing is held.
    #[error("the lock is held by others{}", try_again(*.retry_after))]
    Contended {
        /// Attempts made.
        attempts: u32,
        /// When the present holder's lease ends, if that is known.
        retry_after: Option<Duration>,
        /// What each node said to the last attempt.
        report: Report,
    },
    /// So many stand in line for the lock already that it takes nobody more.
    #[error("the line for the lock is full: {length} wait already")]
    QueueFull {
        /// Attempts made.
        attempts: u32,
        /// How many stand in line.
        length: u32,
        /// What each node said.
        report: Report,
    },
    /// No quorum of nodes answered in time, or may vote. As far as a quorum
    /// could be told, nothing is held; what may be left is being undone.
    #[error("no quorum of nodes answers: {report}")]
    Unavailable {
        /// Attempts made; zero unless this is the answer to an acquire.
        attempts: u32,
        /// What each node said.
        report: Report,
    },
    /// The lock does not exist: it never did, has expired, or was released.
    #[error("the lock is not held: it never was, has expired, or was released")]
    NotHeld {
        /// What each node said.
        report: Report,
    },
    /// The lock is held under another owner id.
    #[error("the lock is held by another owner{}", try_again(*.retry_after))]
    HeldByAnother {
        /// When that holder's lease ends, if that is known.
        retry_after: Option<Duration>,
        /// What each node said.
        report: Report,
    },
    /// The lock was held and its validity has ended meanwhile.
    #[error("the lock was lost: its validity ended")]
    Lost,
    /// What was asked for is out of bounds, or the nodes can't serve it.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

fn try_again(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |after| {
        format!(": its lease ends in {} ms at the latest", after.as_millis())
    })
}

impl Error {
    /// What each node said, where nodes were asked.
    #[must_use]
    pub const fn report(&self) -> Option<&Report> {
        match self {
            Self::Contended { report, .. }
            | Self::QueueFull { report, .. }
            | Self::Unavailable { report, .. }
            | Self::NotHeld { report }
            | Self::HeldByAnother { report, .. } => Some(report),
            Self::Lost | Self::Config(_) => None,
        }
    }

    /// Attempts that an acquire request had made when it ended with this error.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        match self {
            Self::Contended { attempts, .. }
            | Self::QueueFull { attempts, .. }
            | Self::Unavailable { attempts, .. } => *attempts,
            _ => 0,
        }
    }
}

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Self::Config(error.into())
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// What is wrong with what was asked for. Names the field and its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name is empty, too long or reserved.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A value lies outside its bounds.
    #[error("{field} is {value}: it takes {bounds}")]
    OutOfBounds {
        /// Which value.
        field: &'static str,
        /// What was given.
        value: String,
        /// What may be given.
        bounds: String,
    },
    /// No nodes were given.
    #[error("no nodes: give the URL of at least one Redis server")]
    NoNodes,
    /// A node's URL can't be read.
    #[error("node {index}: {problem}")]
    BadUrl {
        /// Which node, counted from 1.
        index: usize,
        /// What is wrong with the URL; without the URL, which may hold a password.
        problem: String,
    },
    /// The certificates for nodes behind TLS can't be used.
    #[error("TLS to the nodes: {problem}")]
    BadTls {
        /// What is wrong with them.
        problem: &'static str,
    },
    /// A server can't be a node of this cluster.
    #[error("node {node} can't be used: {problem}")]
    BadNode {
        /// The node.
        node: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No node has a marker.
    #[error(
        "the nodes were never initialised: run `everlock cluster init` once, or build with \
         `initialise(max_lease)`"
    )]
    NotInitialised,
    /// A new set of nodes can only be opened while all of them answer.
    #[error("can't open a new set of nodes: {problem}")]
    CannotInitialise {
        /// What stands in the way.
        problem: String,
    },
}

impl ConfigError {
    pub(crate) fn bounds(
        field: &'static str,
        value: Duration,
        at_least: Duration,
        at_most: Duration,
    ) -> Self {
        Self::OutOfBounds {
            field,
            value: format!("{} ms", value.as_millis()),
            bounds: format!("{} to {} ms", at_least.as_millis(), at_most.as_millis()),
        }
    }
}
