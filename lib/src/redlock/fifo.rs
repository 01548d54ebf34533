//! Waiting in strict order: a place in line on the nodes, and attempts from there.
//!
//! `Proposing => InLine => (Won | Left)`. A proposed ticket that a quorum of nodes
//! accepted is kept to the end, and renewed on all nodes; before that, every
//! attempt proposes a higher one, which removes the last. The rules are proven in
//! `model/src/fifo.rs`.
//!
//! Invariant: a ticket that was proposed is left on every node, whatever ends the
//! request, the caller's disappearance included.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::acquire::Request;
use super::leaving::Stay;
use super::proposal::{Bid, Flight};
use super::spot::Spot;
use super::{Grant, Redlock, fanout};
use crate::clock::Moment;
use crate::core::attempt::{Attempt, Loss};
use crate::core::command::{Command, Turn};
use crate::core::quorum::{Reply, Vote};
use crate::core::safeguards::Safeguard;
use crate::core::schedule::Next;
use crate::core::token::FencingToken;
use crate::core::types::Resource;
use crate::entropy;
use crate::error::Error;
use crate::node::Ballot;
use crate::observer::Event;

/// A ticket is renewed this often, whatever the delay between attempts.
const BEAT: Duration = Duration::from_secs(1);
/// Who has others before it tries this often all the same, unless less was asked for:
/// a quorum that is gone is to be noticed by all.
const LOOK: Duration = Duration::from_secs(2);
/// Who may have missed its turn looks when nothing more was heard for so long: where the lock
/// goes from hand to hand quickly, the next release comes before, and the count was right.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// Rivals for a place in line are as rivals for the lock: they try again soon.
const NOT_IN_LINE: Loss = Loss::Contended {
    free_in: None,
    split: true,
};

impl Redlock {
    /// How many stand in line for the lock with [`fifo`](crate::AcquireOptions::fifo), those
    /// who died within the last seconds included.
    ///
    /// The highest count of a quorum of nodes; without one, [`Error::Unavailable`].
    /// Changes nothing, and may be dropped at any time.
    pub async fn queue<R>(&self, resource: R) -> Result<u32, Error>
    where
        R: TryInto<Resource, Error: Into<Error>>,
    {
        let resource = resource.try_into().map_err(Into::into)?;
        let replies = self.inner.ask_all(&Command::Queue { resource }).await;
        let lengths: Vec<_> = replies
            .iter()
            .filter_map(|reply| match reply.vote {
                Vote::Queue { length } => Some(length),
                _ => None,
            })
            .collect();
        if lengths.len() < self.inner.quorum() {
            let votes = replies.iter().map(|reply| Some(&reply.vote));
            return Err(Error::Unavailable {
                attempts: 0,
                report: fanout::report(&self.inner.nodes, votes),
            });
        }
        Ok(lengths.into_iter().max().unwrap_or_default())
    }
}

impl Request {
    /// Acquires the lock from a place in line.
    pub(super) async fn run_in_turn(&mut self) -> Result<Grant, Error> {
        let place = Place::new(&self.bid);
        let result = tokio::select! {
            biased;
            result = self.attempts_in_turn(&place) => result,
            never = place.beats() => match never {},
        };
        place.won.store(result.is_ok(), Ordering::Relaxed);
        result
    }

    async fn attempts_in_turn(&mut self, place: &Place) -> Result<Grant, Error> {
        let inner = Arc::clone(&self.bid.inner);
        let mut flight = place.launch(None);
        loop {
            let again = |attempt: &Attempt, floor| {
                place.note(attempt);
                place.launch(floor)
            };
            let mut loss = match self.attempt(flight, again).await {
                Ok(won) => return Ok(self.grant(won)),
                Err(loss) => loss,
            };
            if let Some((_, attempt)) = &self.last {
                place.note(attempt);
                if let Some(length) = place.is_shut_out(attempt) {
                    return Err(Error::QueueFull {
                        attempts: self.schedule.attempts(),
                        length,
                        report: fanout::report(&inner.nodes, attempt.counted()),
                    });
                }
            }
            if !place.is_accepted() && matches!(loss, Loss::Contended { .. }) {
                // It stands nowhere yet: the next ticket must not wait for the next step.
                loss = NOT_IN_LINE;
            }
            let roll = entropy::roll(&*inner.entropy);
            let now = inner.clock.now();
            let next = match self.schedule.after(loss, now, roll) {
                Next::At(next) => next,
                Next::GiveUp => return Err(self.error()),
            };
            self.note_waiting();
            inner.turns.listen(&inner, &self.bid.resource);
            let news = if matches!(loss, Loss::Contended { .. }) && place.is_behind_others() {
                // Most planned attempts would be in vain, and pass without being made.
                self.schedule.interrupted(next);
                let end = self.schedule.end(now, roll);
                let news = place.spot.news(end.min(next.max(now + LOOK))).await;
                self.schedule.skip(now, inner.clock.now(), roll);
                news
            } else {
                let news = place.spot.news(next).await;
                if news.is_some() {
                    self.schedule.interrupted(next);
                }
                news
            };
            flight = match news.flatten() {
                Some(begun) => *begun,
                None => place.launch(None),
            };
        }
    }
}

/// A request's place in line, which is left when this is dropped.
struct Place {
    bid: Arc<Bid>,
    asked: Moment,
    turn: Mutex<Option<Turn>>,
    spot: Arc<Spot>,
    won: AtomicBool,
}

impl Place {
    fn new(bid: &Arc<Bid>) -> Self {
        bid.inner.turns.enter(&bid.resource);
        Self {
            bid: Arc::clone(bid),
            asked: bid.inner.clock.now(),
            turn: Mutex::new(None),
            spot: Spot::new(bid),
            won: AtomicBool::new(false),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt: under the ticket that was accepted, or under a new one.
    fn launch(&self, floor: Option<FencingToken>) -> Flight {
        self.spot.launch(self.released());
        let mut turn = self.turn();
        let next = match *turn {
            Some(kept) if kept.accepted => kept,
            last => Turn {
                ticket: self
                    .bid
                    .inner
                    .propose(floor.max(last.map(|last| last.ticket))),
                accepted: false,
            },
        };
        // Before it is sent: from now on it is left.
        *turn = Some(next);
        drop(turn);
        self.bid.launch_in_turn(floor, next)
    }

    fn released(&self) -> u64 {
        self.bid.inner.turns.released(&self.bid.resource)
    }

    /// Takes note of how an attempt under the present ticket ended.
    fn note(&self, attempt: &Attempt) {
        let inner = &self.bid.inner;
        let mut accepted = None;
        if let Some(turn) = &mut *self.turn() {
            // Proposing => InLine
            let enough = if Safeguard::TicketQuorum.is_on() {
                inner.quorum()
            } else {
                1
            };
            if !turn.accepted && attempt.accepted() >= enough {
                turn.accepted = true;
                inner.turns.stand(&self.spot, *turn);
                let took = inner.clock.now().saturating_since(self.asked);
                inner.observer.event(&Event::InLine { took });
            }
            accepted = Some(*turn).filter(|turn| turn.accepted);
        }
        self.spot.note(attempt, accepted);
    }

    fn is_accepted(&self) -> bool {
        (*self.turn()).is_some_and(|turn| turn.accepted)
    }

    /// Whether it is in line, and others stand before it.
    fn is_behind_others(&self) -> bool {
        self.is_accepted() && self.spot.is_behind_others(self.released())
    }

    /// The length of the line, if it is so long that no quorum takes the ticket.
    fn is_shut_out(&self, attempt: &Attempt) -> Option<u32> {
        let full = attempt.replies().iter().flatten();
        let full: Vec<_> = full
            .filter_map(|reply| match reply.vote {
                Vote::QueueFull { length } => Some(length),
                _ => None,
            })
            .collect();
        let (nodes, quorum) = (attempt.replies().len(), self.bid.inner.quorum());
        let shut_out = !self.is_accepted() && nodes - full.len() < quorum;
        full.into_iter().max().filter(|_| shut_out)
    }

    /// Renews the ticket again and again.
    async fn beats(&self) -> Infallible {
        loop {
            // Of two reasons at once, one beat is made, and always for the same one.
            tokio::select! {
                biased;
                () = self.spot.look_now.notified() => {}
                () = self.is_in_doubt() => {}
                () = tokio::time::sleep(BEAT) => {}
            }
            self.beat();
        }
    }

    /// Completes when there is a reason to look where it stands.
    async fn is_in_doubt(&self) {
        loop {
            self.spot.look.notified().await;
            let more = || tokio::time::timeout(LOOK_AFTER, self.spot.look.notified());
            while more().await.is_ok() {}
            if self.spot.is_in_sight(self.released()) {
                return;
            }
        }
    }

    /// Renews the ticket on all nodes, if a quorum accepted it.
    fn beat(&self) {
        let Some(turn) = self.turn().filter(|turn| turn.accepted) else {
            return;
        };
        let command = Command::Stand {
            resource: self.bid.resource.clone(),
            call: self.bid.call,
            turn,
        };
        let (spot, released) = (Arc::clone(&self.spot), self.released());
        // Nobody waits for the answers: all of them are late ones.
        let late = move |node, reply: Reply| spot.beaten(node, &reply.vote, released);
        let (inner, trace) = (&self.bid.inner, self.bid.trace.as_ref());
        let ballot = Ballot::with_late(late);
        let not_after = inner.clock.now() + BEAT;
        fanout::send(&inner.nodes, &command, not_after, &ballot.followed(trace));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (turn, inner) = (*self.turn(), &self.bid.inner);
        let won = *self.won.get_mut();
        let stood = turn.filter(|turn| turn.accepted);
        inner.turns.exit(&self.spot, stood, won, inner.clock.now());
        let Some(Turn { ticket, .. }) = turn else {
            return;
        };
        let call = self.bid.call;
        let (resource, place) = (&self.bid.resource, Stay { call, ticket });
        if won {
            inner.leave_soon(resource, &self.bid.owner, place);
        } else {
            inner.leave_everywhere(resource, place);
        }
    }
}
