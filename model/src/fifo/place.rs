//! One node's line: the rules of `lib/src/core/register/turns.rs` without a clock.

use super::WAITERS;
use crate::Name;

/// A place in line; zero is none.
pub type Ticket = u8;

/// Which rules are on. All are, except where a test wants to see what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and every combination means something"
)]
pub struct Rules {
    /// A proposed ticket at or below the ticket floor is refused.
    pub floor_test: bool,
    /// The floor outlives the last ticket in line.
    pub floor_outlives_line: bool,
    /// A node that lost its data refuses what it may have forgotten.
    pub floor_outlives_loss: bool,
    /// Only the lowest ticket is granted.
    pub first_only: bool,
    /// A ticket stays when its owner is granted the lock.
    pub grant_keeps_ticket: bool,
    /// Only a ticket that a quorum accepted may enter where the floor has passed it.
    pub quorum_accepts: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            floor_test: true,
            floor_outlives_line: true,
            floor_outlives_loss: true,
            first_only: true,
            grant_keeps_ticket: true,
            quorum_accepts: true,
        }
    }
}

/// What a waiter knows of a node's answer in its present attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reply {
    /// None.
    #[default]
    None,
    /// The ticket was refused.
    Refused,
    /// In line, and not first.
    InLine,
    /// Granted.
    Granted,
}

/// What a node is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stand in line under a new ticket, and try.
    Propose(Ticket),
    /// Enter, or stay, under an accepted ticket, and try.
    Beat(Ticket),
    /// Leave, and refuse this ticket.
    Leave(Ticket),
}

/// A node: its line, what is under way to it, what each waiter heard of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub(super) name: Name,
    pub(super) line: [Ticket; WAITERS],
    pub(super) floor: Ticket,
    pub(super) inbox: u16,
    pub(super) replies: [Reply; WAITERS],
    /// Who stands here under its present ticket by the rules: what the rules that
    /// are switched off take away still counts.
    pub(super) stands: u8,
    /// Who has stood here ever since this waiter's attempt began.
    pub(super) stood: [u8; WAITERS],
}

impl Place {
    /// Who stands in line, and under which ticket; zero is not there.
    pub const fn line(&self) -> [Ticket; WAITERS] {
        self.line
    }

    /// Does as it is told, by these rules; [`Reply::None`] says that it left the line.
    pub fn obey(&mut self, rules: Rules, waiter: usize, order: Order) -> Reply {
        let ticket = match order {
            Order::Propose(ticket) => {
                if !self.propose(rules, waiter, ticket) {
                    return Reply::Refused;
                }
                ticket
            }
            Order::Beat(ticket) => {
                self.enter(waiter, ticket);
                ticket
            }
            Order::Leave(ticket) => {
                // A proposal that arrives later is refused.
                self.floor = self.floor.max(ticket);
                self.remove(rules, waiter);
                return Reply::None;
            }
        };
        if self.grants(rules, waiter, ticket) {
            Reply::Granted
        } else {
            Reply::InLine
        }
    }

    /// A ticket's heartbeats have not come for too long.
    pub fn expire(&mut self, rules: Rules, waiter: usize) {
        self.remove(rules, waiter);
    }

    /// All data is lost; tickets up to this one may have been accepted.
    pub fn lose(&mut self, rules: Rules, tickets: Ticket) {
        self.line = [0; WAITERS];
        self.floor = if rules.floor_outlives_loss {
            tickets
        } else {
            0
        };
    }

    /// A ticket is proposed, instead of any that the waiter had here. Whether it is accepted.
    pub(super) fn propose(&mut self, rules: Rules, waiter: usize, ticket: Ticket) -> bool {
        if self.line[waiter] >= ticket {
            return self.line[waiter] == ticket;
        }
        self.line[waiter] = 0;
        if rules.floor_test && ticket <= self.floor {
            return false;
        }
        self.enter(waiter, ticket);
        true
    }

    pub(super) fn enter(&mut self, waiter: usize, ticket: Ticket) {
        self.line[waiter] = ticket;
        self.floor = self.floor.max(ticket);
    }

    pub(super) fn remove(&mut self, rules: Rules, waiter: usize) {
        self.line[waiter] = 0;
        if !rules.floor_outlives_line && self.line == [0; WAITERS] {
            self.floor = 0;
        }
    }

    /// Whether this very ticket is first in line, and so is granted.
    pub(super) fn grants(&mut self, rules: Rules, waiter: usize, ticket: Ticket) -> bool {
        let first = (0..WAITERS)
            .filter(|other| self.line[*other] > 0)
            .min_by_key(|other| (self.line[*other], *other));
        let granted = first == Some(waiter) && self.line[waiter] == ticket || !rules.first_only;
        if granted && !rules.grant_keeps_ticket {
            self.remove(rules, waiter);
        }
        granted
    }
}
