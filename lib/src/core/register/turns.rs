//! A node's rules of waiting in line; proven in `model/src/fifo.rs`.

use super::Register;
use crate::core::command::{Command, Turn};
use crate::core::marker::Bar;
use crate::core::queue::{MAX_QUEUE, Place};
use crate::core::quorum::Vote;
use crate::core::safeguards::Safeguard;
use crate::core::time::WallTime;
use crate::core::token::FencingToken;
use crate::core::types::{CallId, Resource};

impl Register {
    /// One of the commands about lines.
    pub(super) fn in_line(
        &mut self,
        now: WallTime,
        barred: Option<Vote>,
        bar: Option<Bar>,
        command: &Command,
    ) -> Vote {
        match command {
            Command::AcquireInTurn {
                resource,
                owner,
                lease,
                call,
                token,
                turn,
            } => match self.stand(now, (barred.as_ref(), bar), resource, *call, *turn) {
                Err(refusal) => refusal,
                Ok(place) => {
                    // Who holds the lock already takes nothing out of turn.
                    let holds = self
                        .grant_of(resource, owner)
                        .is_some_and(|grant| !grant.shares.is_only(*call));
                    let is_first = place.position == 0 || !Safeguard::LowestTicketFirst.is_on();
                    if !is_first && !holds {
                        return queued(place);
                    }
                    let vote = barred.unwrap_or_else(|| {
                        self.acquire(now, resource, owner, *lease, (*call, (*token, *token)))
                    });
                    if vote == Vote::Granted && !Safeguard::GrantKeepsTicket.is_on() {
                        self.queues.leave(resource, *call);
                    }
                    vote
                }
            },
            Command::Stand {
                resource,
                call,
                turn,
            } => match self.stand(now, (barred.as_ref(), bar), resource, *call, *turn) {
                Err(refusal) => refusal,
                Ok(place) => queued(place),
            },
            Command::LeaveQueue {
                resource,
                call,
                ticket,
            } => {
                let first = self.leave_line(now, resource, *call, *ticket);
                let free = !self.shelf.locks.contains_key(resource);
                Vote::LeftQueue {
                    wakes: first && free,
                }
            }
            Command::ReleaseInTurn {
                resource,
                owner,
                token,
                call,
                ticket,
            } => {
                self.leave_line(now, resource, *call, *ticket);
                self.release(now, resource, owner, *token)
            }
            Command::Queue { resource } => Vote::Queue {
                length: self.queues.length(resource),
            },
            _ => Vote::Absent,
        }
    }

    /// Lets a call stand in line, or stay there; else why not.
    fn stand(
        &mut self,
        now: WallTime,
        (barred, bar): (Option<&Vote>, Option<Bar>),
        key: &Resource,
        call: CallId,
        turn: Turn,
    ) -> Result<Place, Vote> {
        // What a node may have forgotten it can tell once its loss is noted, not before.
        let guarded = barred.filter(|_| !matches!(bar, Some(Bar::Guarded(_))));
        if let Some(vote) = guarded {
            return Err(vote.clone());
        }
        let ticket = turn.ticket;
        let stood = self.queues.ticket(key, call);
        if !turn.accepted && stood != Some(ticket) {
            let floor = self.ticket_floor(key, now);
            if stood.is_none_or(|stood| stood < ticket) {
                // The earlier ticket goes, also if this one is refused.
                self.queues.leave(key, call);
            }
            if ticket <= floor && Safeguard::TicketFloorTest.is_on() {
                return Err(barred.cloned().unwrap_or(Vote::TicketStale { floor }));
            }
            if ticket.as_u64() > now.plus(self.max_lease()).as_micros() {
                return Err(Vote::Ahead);
            }
            let length = self.queues.length(key);
            if length as usize >= MAX_QUEUE {
                return Err(Vote::QueueFull { length });
            }
        }
        self.queues.enter(now, key, call, ticket);
        let nowhere = Place {
            position: 0,
            length: 0,
        };
        Ok(self.queues.place(key, call).unwrap_or(nowhere))
    }

    /// The call stands in line no longer, and its ticket is refused from now on. Whether it
    /// was the first.
    fn leave_line(
        &mut self,
        now: WallTime,
        key: &Resource,
        call: CallId,
        ticket: FencingToken,
    ) -> bool {
        let first = self.queues.leave(key, call);
        let possible = now.plus(self.max_lease()).as_micros();
        if self.marker.is_some() && ticket.as_u64() <= possible {
            // A proposal that arrives later is refused.
            if ticket > self.ticket_floor(key, now) {
                self.queues.lift_floor(key, ticket);
            }
        }
        first
    }

    fn ticket_floor(&self, key: &Resource, now: WallTime) -> FencingToken {
        self.floor_or_absent(self.queues.floor(key), now)
    }
}

const fn queued(place: Place) -> Vote {
    Vote::Queued {
        position: place.position,
        length: place.length,
    }
}
