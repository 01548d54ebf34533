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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::acquire::Request;
use super::hearing::Hearing;
use super::proposal::{Bid, Flight, patience};
use super::{Grant, Redlock, fanout};
use crate::clock::Moment;
use crate::core::attempt::{Attempt, Loss};
use crate::core::command::{Command, Turn};
use crate::core::queue::TICKET_LIFE;
use crate::core::quorum::Vote;
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
/// Who has no more than so many before it when the lock is let go looks where it
/// stands: by its own count it is not next, but that may be too high by now.
const IN_SIGHT: u32 = 2;

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
        tokio::select! {
            biased;
            result = self.attempts_in_turn(&place) => result,
            never = place.beats() => match never {},
        }
    }

    async fn attempts_in_turn(&mut self, place: &Place) -> Result<Grant, Error> {
        let inner = Arc::clone(&self.bid.inner);
        loop {
            let flight = place.launch(None);
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
            place.listen();
            if matches!(loss, Loss::Contended { .. }) && place.is_behind_others() {
                // Most planned attempts would be in vain, and pass without being made.
                self.schedule.interrupted(next);
                let end = self.schedule.end(now, roll);
                place.is_woken_before(end.min(next.max(now + LOOK))).await;
                self.schedule.skip(now, inner.clock.now(), roll);
            } else if place.is_woken_before(next).await {
                self.schedule.interrupted(next);
            }
        }
    }
}

/// A request's place in line, which is left when this is dropped.
struct Place {
    bid: Arc<Bid>,
    asked: Moment,
    turn: Mutex<Option<Turn>>,
    seen: Arc<Seen>,
    hearing: Mutex<Option<Hearing>>,
}

impl Place {
    fn new(bid: &Arc<Bid>) -> Self {
        let inner = &bid.inner;
        Self {
            bid: Arc::clone(bid),
            asked: inner.clock.now(),
            turn: Mutex::new(None),
            seen: Arc::new(Seen::new(inner.nodes.len(), inner.quorum())),
            hearing: Mutex::new(None),
        }
    }

    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt: under the ticket that was accepted, or under a new one.
    fn launch(&self, floor: Option<FencingToken>) -> Flight {
        self.seen.lock().woken = false;
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

    /// Takes note of how an attempt under the present ticket ended.
    fn note(&self, attempt: &Attempt) {
        if let Some(turn) = &mut *self.turn() {
            // Proposing => InLine
            let enough = if Safeguard::TicketQuorum.is_on() {
                self.bid.inner.quorum()
            } else {
                1
            };
            if !turn.accepted && attempt.accepted() >= enough {
                turn.accepted = true;
                let inner = &self.bid.inner;
                let took = inner.clock.now().saturating_since(self.asked);
                inner.observer.event(&Event::InLine { took });
            }
        }
        let mut seen = self.seen.lock();
        for (node, reply) in attempt.replies().iter().enumerate() {
            if let Some(reply) = reply {
                seen.note(node, &reply.vote);
            }
        }
        seen.was_first = seen.is_first(self.seen.quorum);
    }

    fn is_accepted(&self) -> bool {
        (*self.turn()).is_some_and(|turn| turn.accepted)
    }

    /// Whether it is in line, and somebody stands before it wherever that is known.
    fn is_behind_others(&self) -> bool {
        self.is_accepted()
            && self
                .seen
                .lock()
                .fewest_before()
                .is_some_and(|before| before > 0)
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

    /// Listens for the lock, once. It may have been let go before that could be heard.
    fn listen(&self) {
        let mut hearing = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        if hearing.is_none() {
            let seen = Arc::clone(&self.seen);
            let told = move || seen.heard();
            *hearing = Some(Hearing::begin(&self.bid.inner, &self.bid.resource, told));
            self.seen.may_be_free();
        }
    }

    /// Waits for a reason to try; whether there was one before this moment.
    async fn is_woken_before(&self, until: Moment) -> bool {
        let woken = async {
            while !std::mem::take(&mut self.seen.lock().woken) {
                self.seen.told.notified().await;
            }
        };
        let time = self.bid.inner.remaining(until);
        tokio::time::timeout(time, woken).await.is_ok()
    }

    /// Renews the ticket again and again.
    async fn beats(&self) -> Infallible {
        loop {
            // Of two reasons at once, one beat is made, and always for the same one.
            tokio::select! {
                biased;
                () = self.seen.look.notified() => {}
                () = tokio::time::sleep(BEAT) => {}
            }
            self.beat();
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
        let seen = Arc::clone(&self.seen);
        // Nobody waits for the answers: all of them are late ones.
        let ballot = Ballot::with_late(move |node, reply| seen.beaten(node, &reply.vote));
        let inner = &self.bid.inner;
        let not_after = inner.clock.now() + BEAT;
        fanout::send(&inner.nodes, &command, not_after, &ballot);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turn = *self.turn();
        let Some(Turn { ticket, .. }) = turn else {
            return;
        };
        let inner = &self.bid.inner;
        for node in 0..inner.nodes.len() {
            let command = Command::LeaveQueue {
                resource: self.bid.resource.clone(),
                call: self.bid.call,
                ticket,
            };
            inner.chores.add(node, command, patience(TICKET_LIFE));
        }
    }
}

/// What is known of where a request stands.
struct Seen {
    quorum: usize,
    state: Mutex<SeenState>,
    /// There is a reason to try.
    told: Notify,
    /// There is a reason to look where it stands.
    look: Notify,
}

struct SeenState {
    /// How many are before it, node by node, less one for each release heard since.
    positions: Vec<Option<u32>>,
    was_first: bool,
    woken: bool,
}

impl Seen {
    fn new(nodes: usize, quorum: usize) -> Self {
        let state = SeenState {
            positions: vec![None; nodes],
            was_first: false,
            woken: false,
        };
        Self {
            quorum,
            state: Mutex::new(state),
            told: Notify::new(),
            look: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, SeenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a heartbeat: who has become the first tries.
    fn beaten(&self, node: usize, vote: &Vote) {
        let mut state = self.lock();
        state.note(node, vote);
        let is_first = state.is_first(self.quorum);
        if is_first && !state.was_first {
            state.woken = true;
            self.told.notify_one();
        }
        state.was_first = is_first;
    }

    /// The lock was let go, or whoever was first for it has left: as a rule there is
    /// one less before it. Who has none tries; else all would, each time.
    fn heard(&self) {
        for before in self.lock().positions.iter_mut().flatten() {
            *before = before.saturating_sub(1);
        }
        self.may_be_free();
    }

    fn may_be_free(&self) {
        let mut state = self.lock();
        match state.fewest_before() {
            Some(before) if before > IN_SIGHT => {}
            Some(before) if before > 0 => self.look.notify_one(),
            _ => {
                state.woken = true;
                self.told.notify_one();
            }
        }
    }
}

impl SeenState {
    fn note(&mut self, node: usize, vote: &Vote) {
        let before = match vote {
            Vote::Queued { position, .. } => *position,
            // What the first in line is told.
            Vote::Granted | Vote::Held { .. } | Vote::Again { .. } | Vote::Stale { .. } => 0,
            _ => return,
        };
        if let Some(position) = self.positions.get_mut(node) {
            *position = Some(before);
        }
    }

    fn fewest_before(&self) -> Option<u32> {
        self.positions.iter().flatten().min().copied()
    }

    fn is_first(&self, quorum: usize) -> bool {
        let first = self.positions.iter().filter(|before| **before == Some(0));
        first.count() >= quorum
    }
}
