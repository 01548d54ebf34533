//! Who stands in line where, by the rules: what the simulation knows and no client does.
//!
//! It sees every command as a client sends it and as a node answers it, and keeps
//! its own account of tickets. What a rule that is switched off takes out of a
//! node's line stands here all the same; what the rules take out (a ticket that is
//! not renewed, a node that forgets) is out.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use everlock::clock::WallTime;
use everlock::protocol::{CallId, Command, TICKET_LIFE, Turn};
use everlock::{FencingToken, Resource, Vote};
use everlock_testkit::history::{self, Order, Stood, Waiter, judge_order};

/// Never, so far.
const OPEN: u64 = u64::MAX;

/// All lines of a schedule.
#[derive(Default)]
pub(crate) struct Lines(Mutex<State>);

#[derive(Default)]
struct State {
    /// Everything that happens is numbered, so that nothing happens at once.
    moment: u64,
    waiters: BTreeMap<CallId, Asking>,
    /// Until when tickets stand, by the node's clock.
    deadlines: BTreeMap<(usize, CallId), WallTime>,
}

struct Asking {
    waiter: Waiter,
    ticket: FencingToken,
    attempts: Vec<Attempt>,
}

struct Attempt {
    token: FencingToken,
    sent: u64,
    /// The nodes that granted it.
    granted: BTreeSet<usize>,
}

impl Asking {
    fn leaves(&mut self, node: usize, moment: u64) {
        let here = |stood: &&mut Stood| stood.node == node && stood.until == OPEN;
        if let Some(stood) = self.waiter.stood.iter_mut().find(here) {
            stood.until = moment;
        }
    }
}

/// A request, whichever attempt of it.
fn request(call: CallId) -> CallId {
    call.at_attempt(0)
}

fn number(resource: &Resource) -> usize {
    resource.as_str()[1..].parse().unwrap()
}

fn turn(command: &Command) -> Option<(CallId, Turn)> {
    match command {
        Command::AcquireInTurn { call, turn, .. } | Command::Stand { call, turn, .. } => {
            Some((request(*call), *turn))
        }
        _ => None,
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// The call's ticket is out of this node's line.
    fn out(&mut self, node: usize, call: CallId) {
        let moment = self.next();
        self.deadlines.remove(&(node, call));
        if let Some(asking) = self.waiters.get_mut(&call) {
            asking.leaves(node, moment);
        }
    }

    fn expire(&mut self, node: usize, now: WallTime) {
        let of_node =
            (node, CallId::new(0).at_attempt(0))..(node + 1, CallId::new(0).at_attempt(0));
        let over = self.deadlines.range(of_node).filter(|(_, at)| **at <= now);
        let over: Vec<_> = over.map(|((_, call), _)| *call).collect();
        for call in over {
            self.out(node, call);
        }
    }
}

impl Lines {
    /// A client sends this to some node.
    pub(crate) fn sent(&self, client: usize, command: &Command) {
        let mut state = self.0.lock().unwrap();
        let moment = state.next();
        match command {
            Command::AcquireInTurn {
                resource,
                call,
                token,
                turn,
                ..
            } => {
                let call = request(*call);
                let asking = state.waiters.entry(call).or_insert_with(|| Asking {
                    waiter: Waiter {
                        client,
                        resource: number(resource),
                        asked: moment,
                        stood: Vec::new(),
                        won: None,
                        ended: OPEN,
                    },
                    ticket: turn.ticket,
                    attempts: Vec::new(),
                });
                if asking.attempts.iter().all(|of| of.token != *token) {
                    asking.attempts.push(Attempt {
                        token: *token,
                        sent: moment,
                        granted: BTreeSet::new(),
                    });
                }
                if asking.ticket != turn.ticket {
                    // Who takes another ticket goes to the end, everywhere at once.
                    asking.ticket = turn.ticket;
                    for node in 0..9 {
                        asking.leaves(node, moment);
                    }
                    state.deadlines.retain(|(_, of), _| *of != call);
                }
            }
            Command::LeaveQueue { call, .. } | Command::ReleaseInTurn { call, .. } => {
                if let Some(asking) = state.waiters.get_mut(&request(*call)) {
                    asking.waiter.ended = asking.waiter.ended.min(moment);
                }
            }
            _ => {}
        }
    }

    /// A node whose clock says `now` answered; `stands` looks into its line.
    pub(crate) fn answered(
        &self,
        (node, now): (usize, WallTime),
        command: &Command,
        vote: &Vote,
        stands: impl Fn(&Resource, CallId) -> Option<FencingToken>,
    ) {
        let mut state = self.0.lock().unwrap();
        state.expire(node, now);
        if let Command::LeaveQueue { call, .. } | Command::ReleaseInTurn { call, .. } = command {
            state.out(node, request(*call));
        }
        let Some((call, turn)) = turn(command) else {
            return;
        };
        let accepted = match vote {
            Vote::Queued { .. }
            | Vote::Granted
            | Vote::Again { .. }
            | Vote::Held { .. }
            | Vote::Stale { .. } => true,
            // A node whose loss was not noted yet lets nobody in, and renews nothing.
            Vote::Guarded { remaining: None } => false,
            // These may be of the ticket, or of the lock only.
            Vote::Guarded { .. } | Vote::Ahead => {
                stands(command.resource().unwrap(), call) == Some(turn.ticket)
            }
            _ => false,
        };
        let moment = state.next();
        let State {
            waiters, deadlines, ..
        } = &mut *state;
        let Some(asking) = waiters.get_mut(&call) else {
            return;
        };
        if let (Command::AcquireInTurn { token, .. }, Vote::Granted) = (command, vote)
            && let Some(attempt) = asking.attempts.iter_mut().find(|of| of.token == *token)
        {
            attempt.granted.insert(node);
        }
        if !accepted || asking.ticket != turn.ticket {
            return;
        }
        let before = deadlines.insert((node, call), now.plus(TICKET_LIFE));
        if before.is_none() {
            asking.waiter.stood.push(Stood {
                node,
                from: moment,
                until: OPEN,
            });
        }
    }

    /// The node's clock was set to this.
    pub(crate) fn clock_set(&self, node: usize, now: WallTime) {
        self.0.lock().unwrap().expire(node, now);
    }

    /// The node forgot who stood in its lines, or some of it.
    pub(crate) fn forgotten(&self, node: usize) {
        self.clock_set(node, WallTime::from_micros(u64::MAX));
    }

    /// A client was told that it holds the lock under this token.
    pub(crate) fn won(&self, resource: usize, token: FencingToken, quorum: usize) {
        let mut state = self.0.lock().unwrap();
        let won = state.next();
        for asking in state.waiters.values_mut() {
            // The grant of another call is nothing that was taken from the line, and
            // that call's token may have been proposed here, too.
            let own = |of: &&Attempt| of.token == token && of.granted.len() >= quorum;
            if let Some(Attempt { sent: began, .. }) = asking.attempts.iter().find(own)
                && asking.waiter.resource == resource
                && asking.waiter.won.is_none()
            {
                asking.waiter.won = Some(history::Turn { began: *began, won });
                asking.waiter.ended = asking.waiter.ended.min(won);
            }
        }
    }

    /// In which order the lock was granted.
    pub(crate) fn judged(&self, quorum: usize) -> Order {
        let state = self.0.lock().unwrap();
        let waiters: Vec<_> = state.waiters.values().map(|of| of.waiter.clone()).collect();
        judge_order(&waiters, quorum)
    }
}
