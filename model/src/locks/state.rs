//! What a state of the exploration is: nodes, messages under way, and what clients know.

use super::{ATTEMPTS, CLIENTS, NODES};
use crate::Name;
use crate::node::{Call, Node, Token};

/// The kinds of messages to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Acquire.
    Acquire,
    /// Undo the attempt.
    Undo,
    /// Release what the attempt won.
    Release,
    /// Settle what it won.
    Settle,
    /// Extend what it won, for the first time.
    Extend,
    /// And once more.
    ExtendAgain,
    /// Repair what it won.
    Repair,
}

const KINDS: [Kind; 7] = [
    Kind::Acquire,
    Kind::Undo,
    Kind::Release,
    Kind::Settle,
    Kind::Extend,
    Kind::ExtendAgain,
    Kind::Repair,
];

/// A message: what, of which client's which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// What.
    pub kind: Kind,
    /// Whose.
    pub client: u8,
    /// Of which attempt, counted from 0 over all its acquisitions.
    pub attempt: u8,
}

/// A set of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Inbox(u64);

impl Inbox {
    const fn bit(message: Message) -> u64 {
        let attempt = message.client as usize * ATTEMPTS + message.attempt as usize;
        1 << (attempt * KINDS.len() + message.kind as usize)
    }

    pub(super) fn put(&mut self, message: Message) {
        self.0 |= Self::bit(message);
    }

    pub(super) fn take(&mut self, message: Message) {
        self.0 &= !Self::bit(message);
    }

    /// Whether anything of this attempt is under way.
    pub(super) const fn has_any(self, client: usize, attempt: usize) -> bool {
        let of_one = (1 << KINDS.len()) - 1;
        self.0 >> ((client * ATTEMPTS + attempt) * KINDS.len()) & of_one != 0
    }

    pub(super) fn messages(self) -> impl Iterator<Item = Message> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let place = left.trailing_zeros() as usize;
            left &= left - 1;
            let (attempt, kind) = (place / KINDS.len(), place % KINDS.len());
            Some(Message {
                kind: KINDS[kind],
                client: u8::try_from(attempt / ATTEMPTS).unwrap_or(u8::MAX),
                attempt: u8::try_from(attempt % ATTEMPTS).unwrap_or(u8::MAX),
            })
        })
    }
}

/// What a client knows of a node's answer to what it asks at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    /// None yet.
    #[default]
    None,
    /// Granted.
    Granted,
    /// Granted before, under this token.
    Again(Token),
    /// Not granted, and nothing left there.
    Refused,
    /// Extended, under the grant that the client holds.
    Extended(u8),
    /// No lock there.
    Absent,
}

/// A node, what is under way to it, and what each client heard of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) name: Name,
    pub(super) node: Node,
    pub(super) inbox: Inbox,
    pub(super) replies: [Reply; CLIENTS],
}

/// What a client is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing, or between attempts.
    #[default]
    Idle,
    /// Its attempt is not decided.
    Trying,
    /// It has won, and not released.
    Holding,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and every combination means something"
)]
pub(super) struct Client {
    pub(super) phase: Phase,
    /// Attempts begun, all acquisitions together.
    pub(super) begun: u8,
    /// The present call, and its attempt.
    pub(super) call: u8,
    pub(super) attempt: u8,
    /// The calls and tokens of attempts of which something is under way.
    pub(super) calls: [Call; ATTEMPTS],
    pub(super) tokens: [Token; ATTEMPTS],
    /// The grant of another call that the attempt won by, in place of its own.
    pub(super) kept: [Token; ATTEMPTS],
    /// Of which attempts an extension was confirmed.
    pub(super) confirmed: [bool; ATTEMPTS],
    /// The token that is held.
    pub(super) token: Token,
    /// How long it is held: confirmed extensions.
    pub(super) lease: u8,
    pub(super) valid: bool,
    /// How often it was handed on: sections under tokens above `token`.
    pub(super) handed: u8,
    pub(super) extending: bool,
    pub(super) extended: u8,
    /// The highest token that had been won when the attempt began.
    pub(super) seen: Token,
    /// What it counts on began before a node lost its data.
    pub(super) before_loss: bool,
    /// And so did its extension.
    pub(super) extension_before_loss: bool,
}

impl Client {
    pub(super) fn current(&self) -> usize {
        usize::from(self.begun).saturating_sub(1)
    }

    pub(super) fn present_call(&self) -> Call {
        Call::new(self.call, self.attempt)
    }
}

/// A state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) places: [Place; NODES],
    pub(super) clients: [Client; CLIENTS],
    /// The tokens that were won, a bit each.
    pub(super) won: u32,
    /// Those of them that the two calls of one owner won.
    pub(super) won_by_pair: u32,
    /// Some token was won out of order, or twice.
    pub(super) disordered: bool,
    pub(super) lost: bool,
    pub(super) later: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for place in &self.places {
            let number = place.name.0;
            let Node {
                lock,
                floor,
                guarded,
            } = place.node;
            write!(f, "\n  node {number}: floor {floor}")?;
            if guarded {
                write!(f, ", guarded")?;
            }
            if lock.owner != 0 {
                write!(f, ", held by owner {} under {}", lock.owner, lock.token)?;
            }
            for Message {
                kind,
                client,
                attempt,
            } in place.inbox.messages()
            {
                write!(f, "; under way: {kind:?} of {client}.{attempt}")?;
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            if client.begun > 0 {
                write!(f, "\n  client {number}: {:?}", client.phase)?;
            }
            if client.phase == Phase::Holding {
                let valid = if client.valid { "valid" } else { "over" };
                write!(
                    f,
                    " token {}, handed on {}, {valid}",
                    client.token, client.handed
                )?;
            }
        }
        Ok(())
    }
}
