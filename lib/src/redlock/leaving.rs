//! Places in line of those who have won: left with the release, or soon after the win.
//!
//! A ticket is not in the way of others while its owner holds the lock, so leaving can
//! wait for the release, and travel with it. A longer hold is not waited for: whoever
//! holds the lock may go away without a word.
//!
//! Invariant: a place that is put here is left on every node, by a release that takes
//! it or when its time is over.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Inner;
use super::proposal::patience;
use crate::clock::Moment;
use crate::core::command::Command;
use crate::core::queue::TICKET_LIFE;
use crate::core::token::FencingToken;
use crate::core::types::{CallId, OwnerId, Resource};

/// A winner's ticket stays for so long at most. Longer than a short section takes on a busy
/// machine, and short beside what a ticket lives.
const STAY: Duration = Duration::from_millis(50);

/// A place in line that is to be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stay {
    pub(super) call: CallId,
    pub(super) ticket: FencingToken,
}

/// Whose place it is, and until when it may stay.
struct Winner {
    resource: Resource,
    owner: OwnerId,
    place: Stay,
    until: Moment,
}

/// The places of winners, in the order in which they won.
#[derive(Default)]
pub(super) struct Leaving(Mutex<State>);

#[derive(Default)]
struct State {
    winners: VecDeque<Winner>,
    /// Whether a task looks after them.
    watched: bool,
}

impl Leaving {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place from which this owner had the lock, if it is not left yet. Whoever takes
    /// it has it left.
    pub(super) fn take(&self, resource: &Resource, owner: &OwnerId) -> Option<Stay> {
        let mut state = self.lock();
        let of = |winner: &Winner| winner.owner == *owner && winner.resource == *resource;
        // Those who won last are released first, as a rule.
        let at = state.winners.iter().rposition(of)?;
        Some(state.winners.remove(at)?.place)
    }

    /// Takes those whose time is over; until when the next one may stay. Without one,
    /// nobody looks after them any longer.
    fn due(&self, now: Moment) -> (Vec<Winner>, Option<Moment>) {
        let mut state = self.lock();
        let due = state
            .winners
            .iter()
            .take_while(|winner| winner.until <= now);
        let count = due.count();
        let due = state.winners.drain(..count).collect();
        let next = state.winners.front().map(|winner| winner.until);
        state.watched = next.is_some();
        (due, next)
    }
}

impl Inner {
    /// This owner has won from this place, which is left with its release or soon.
    pub(super) fn leave_soon(self: &Arc<Self>, resource: &Resource, owner: &OwnerId, place: Stay) {
        let mut state = self.leaving.lock();
        state.winners.push_back(Winner {
            resource: resource.clone(),
            owner: owner.clone(),
            place,
            until: self.clock.now() + STAY,
        });
        let watched = std::mem::replace(&mut state.watched, true);
        drop(state);
        if !watched {
            self.runtime.spawn(Arc::clone(self).see_winners_off());
        }
    }

    async fn see_winners_off(self: Arc<Self>) {
        loop {
            let (due, next) = self.leaving.due(self.clock.now());
            for winner in due {
                self.leave_everywhere(&winner.resource, winner.place);
            }
            let Some(next) = next else { return };
            tokio::time::sleep(self.remaining(next)).await;
        }
    }

    /// Has every place left now.
    pub(super) fn leave_all(&self) {
        let winners = std::mem::take(&mut self.leaving.lock().winners);
        for winner in winners {
            self.leave_everywhere(&winner.resource, winner.place);
        }
    }

    pub(super) fn leave_everywhere(&self, resource: &Resource, place: Stay) {
        for node in 0..self.nodes.len() {
            self.leave(node, resource, place);
        }
    }

    /// Has a place left in the background, until the node answers.
    pub(super) fn leave(&self, node: usize, resource: &Resource, place: Stay) {
        let command = Command::LeaveQueue {
            resource: resource.clone(),
            call: place.call,
            ticket: place.ticket,
        };
        self.chores.add(node, command, patience(TICKET_LIFE), None);
    }
}
