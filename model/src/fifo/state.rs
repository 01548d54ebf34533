//! What a state of the exploration is: lines, messages under way, what waiters know; and the steps
//! that it may go on by.

use super::place::{Place, Ticket};
use super::{NODES, PROPOSALS, WAITERS};

/// Messages to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Stand in line under a new ticket, and try; the waiter's first.
    Propose,
    /// And its second, in place of the first.
    ProposeAgain,
    /// Enter, or stay, under an accepted ticket, and try.
    Beat,
    /// The same, of an attempt that is over.
    OldBeat,
    /// Leave.
    Leave,
}

pub(super) const KINDS: [Kind; 5] = [
    Kind::Propose,
    Kind::ProposeAgain,
    Kind::Beat,
    Kind::OldBeat,
    Kind::Leave,
];

/// What a waiter is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has not asked.
    #[default]
    Away,
    /// Its ticket is not known to be accepted.
    Proposing,
    /// A quorum accepted its ticket.
    InLine,
    /// It won, and left the line.
    Won,
    /// It left.
    Left,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Waiter {
    pub(super) phase: Phase,
    pub(super) proposed: u8,
    pub(super) tickets: [Ticket; PROPOSALS],
    pub(super) attempts: u8,
    /// Whether an attempt is under way.
    pub(super) trying: bool,
    /// Who first asked when this one stood on a quorum, which it has done since.
    pub(super) behind: u8,
}

impl Waiter {
    pub(super) fn ticket(self) -> Ticket {
        self.tickets[usize::from(self.proposed.max(1)) - 1]
    }
}

/// A state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) places: [Place; NODES],
    pub(super) waiters: [Waiter; WAITERS],
    pub(super) expired: u8,
    pub(super) lost: bool,
    pub(super) later: bool,
    pub(super) overtaken: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for place in &self.places {
            let number = place.name.0;
            write!(f, "\n  node {number}: floor {}, line", place.floor)?;
            for (waiter, ticket) in place.line.iter().enumerate() {
                if *ticket > 0 {
                    write!(f, " {waiter}:{ticket}")?;
                }
            }
            for (waiter, kind) in messages(place.inbox) {
                write!(f, "; under way: {kind:?} of {waiter}")?;
            }
        }
        for (number, waiter) in self.waiters.iter().enumerate() {
            if waiter.phase == Phase::Away {
                continue;
            }
            let trying = if waiter.trying { ", trying" } else { "" };
            write!(
                f,
                "\n  waiter {number}: {:?} with ticket {}{trying}",
                waiter.phase,
                waiter.ticket()
            )?;
        }
        Ok(())
    }
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A waiter proposes a ticket: its first, or another one instead.
    Propose {
        /// Who.
        waiter: u8,
        /// Which.
        ticket: Ticket,
    },
    /// A message arrives.
    Deliver {
        /// Where.
        node: u8,
        /// Whose.
        waiter: u8,
        /// Which.
        kind: Kind,
    },
    /// A waiter learns that a quorum accepted its ticket.
    Accepted {
        /// Who.
        waiter: u8,
    },
    /// A waiter begins an attempt, which is a heartbeat.
    Try {
        /// Who.
        waiter: u8,
    },
    /// A waiter gives its attempt up, and stays in line.
    GiveUpAttempt {
        /// Who.
        waiter: u8,
    },
    /// A quorum granted: the waiter wins, and leaves the line.
    Win {
        /// Who.
        waiter: u8,
    },
    /// A waiter gives up.
    Leave {
        /// Who.
        waiter: u8,
    },
    /// A ticket's heartbeats have not come for too long.
    Expire {
        /// Where.
        node: u8,
        /// Whose.
        waiter: u8,
    },
    /// A node loses its data.
    Lose {
        /// Which.
        node: u8,
    },
    /// The longest lease has passed since the loss.
    Later,
}

pub(super) const fn bit(waiter: usize, kind: Kind) -> u16 {
    1 << (waiter * KINDS.len() + kind as usize)
}

pub(super) fn messages(inbox: u16) -> impl Iterator<Item = (usize, Kind)> {
    (0..WAITERS).flat_map(move |waiter| {
        KINDS
            .into_iter()
            .filter(move |kind| inbox & bit(waiter, *kind) != 0)
            .map(move |kind| (waiter, kind))
    })
}

pub(super) fn number(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}
