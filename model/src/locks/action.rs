//! The steps that a state may go on by.

use super::state::Message;
use crate::node::Token;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client begins an attempt.
    Propose {
        /// Which.
        client: u8,
        /// Under which token.
        token: Token,
    },
    /// A message arrives.
    Deliver {
        /// Where.
        node: u8,
        /// Which.
        message: Message,
        /// And will arrive again.
        again: bool,
    },
    /// A client acts on the replies that it has.
    Decide {
        /// Which.
        client: u8,
    },
    /// A client gives its attempt, or its extension, up.
    TimeOut {
        /// Which.
        client: u8,
    },
    /// A holder's validity ends.
    EndValidity {
        /// Which.
        client: u8,
    },
    /// The holder's process hands the lock on, under the next token that it reserved.
    HandOn {
        /// Which.
        client: u8,
    },
    /// A client asks for a longer lease.
    Extend {
        /// Which.
        client: u8,
    },
    /// A client releases what it won.
    Release {
        /// Which.
        client: u8,
    },
    /// A node's answer to a release is given up.
    ReleaseUnanswered {
        /// Whose.
        node: u8,
        /// Of what.
        message: Message,
    },
    /// A lock's lease is over on a node.
    Expire {
        /// Which.
        node: u8,
    },
    /// A node loses its data.
    Lose {
        /// Which.
        node: u8,
    },
    /// Some time has passed since the loss: higher tokens may be granted.
    Later,
    /// A node's guard is over.
    EndGuard {
        /// Which.
        node: u8,
    },
}
