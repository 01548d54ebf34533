//! Waiting in line: tickets on nodes that may forget, over a network that
//! delivers what it likes when it likes. This comes before the code: what the
//! rules below keep, the library will be built to.
//!
//! The locks themselves are left out: a node grants to whoever is first in its
//! line, each time it is asked. Everything for which a real node refuses, a
//! holder, a floor, a guard, a lock that was taken out of turn, is to the line the
//! same as a request that was lost, so nothing that can happen is missing.
//! The node's rules are held to the library's `Register` by `tests/queue.rs`.
//!
//! **P5.** A waiter who stood in line on a quorum of nodes when another one first
//! asked is not overtaken by it, as long as it stands on some quorum at each
//! moment, and on one and the same quorum throughout the attempt that would
//! overtake it.

mod place;
mod state;
mod steps;

use everlock::majority;
use stateright::{Model, Property};

pub use place::{Order, Place, Reply, Rules, Ticket};
pub use state::{Action, Kind, Phase, State};
use state::{Waiter, messages, number};
use steps::named_places;

/// How many nodes there are.
pub const NODES: usize = 3;
/// The most waiters.
pub const WAITERS: usize = 3;
/// The most tickets that one waiter proposes.
pub const PROPOSALS: usize = 2;

/// What is explored.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many waiters, up to [`WAITERS`].
    pub waiters: usize,
    /// How many tickets each proposes at most, up to [`PROPOSALS`].
    pub proposals: [u8; WAITERS],
    /// Tickets from 1 to this one are proposed, whatever the time.
    pub tickets: Ticket,
    /// How many attempts each waiter makes after that of its proposal.
    pub attempts: u8,
    /// How many tickets expire at most, dead or not.
    pub expiries: u8,
    /// Whether a node may lose all its data, once.
    pub loss: bool,
    /// Tickets that become possible when the longest lease after the loss is over.
    pub later_tickets: Ticket,
    /// Whether waiters may give up.
    pub leaving: bool,
    /// Whether standing on some quorum at each moment is called enough. It is not:
    /// a waiter whose tickets expire on one node and come on another, both while a
    /// rival's attempt is under way, is passed on the one before and the other after.
    pub moving: bool,
    /// The rules.
    pub rules: Rules,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            waiters: 2,
            proposals: [1; WAITERS],
            tickets: 2,
            attempts: 1,
            expiries: 1,
            loss: false,
            later_tickets: 0,
            leaving: false,
            moving: false,
            rules: Rules::default(),
        }
    }
}

/// P5, as the tests name it.
pub const IN_TURN: &str = "P5: who stood in line before is not overtaken";

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            places: named_places(),
            waiters: [Waiter::default(); WAITERS],
            expired: 0,
            lost: false,
            later: false,
            overtaken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for index in 0..self.waiters {
            self.waiter_actions(state, index, actions);
        }
        for place in &state.places {
            let node = place.name.0;
            for (waiter, kind) in messages(place.inbox) {
                let waiter = number(waiter);
                actions.push(Action::Deliver { node, waiter, kind });
            }
            for waiter in 0..self.waiters {
                if place.line[waiter] > 0 && state.expired < self.expiries {
                    let waiter = number(waiter);
                    actions.push(Action::Expire { node, waiter });
                }
            }
            if self.loss && !state.lost {
                actions.push(Action::Lose { node });
            }
        }
        if state.lost && !state.later && self.later_tickets > 0 {
            actions.push(Action::Later);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Propose { waiter, ticket } => state.propose(waiter.into(), ticket),
            Action::Deliver { node, waiter, kind } => {
                state.deliver(self.rules, node, waiter.into(), kind);
            }
            Action::Accepted { waiter } => {
                state.waiters[usize::from(waiter)].phase = Phase::InLine;
            }
            Action::Try { waiter } => {
                let waiter = usize::from(waiter);
                state.waiters[waiter].attempts += 1;
                state.end(waiter);
                state.begin(waiter);
                state.send(waiter, Kind::Beat);
            }
            Action::GiveUpAttempt { waiter } => state.end(waiter.into()),
            Action::Win { waiter } => state.win(self, waiter.into()),
            Action::Leave { waiter } => state.leave(waiter.into(), Phase::Left),
            Action::Expire { node, waiter } => {
                let place = state.place(node);
                place.stands &= !(1 << waiter);
                place.expire(self.rules, waiter.into());
                state.expired += 1;
            }
            Action::Lose { node } => {
                let place = state.place(node);
                place.stands = 0;
                place.lose(self.rules, self.tickets);
                state.lost = true;
            }
            Action::Later => state.later = true,
        }
        state.normalise(self);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(IN_TURN, |_, state: &State| !state.overtaken),
            Property::sometimes("everybody wins", |config: &Self, state: &State| {
                let waiters = &state.waiters[..config.waiters];
                waiters.iter().all(|waiter| waiter.phase == Phase::Won)
            }),
            Property::sometimes(
                "the second to ask waits behind the first",
                |_, state: &State| {
                    let behind =
                        |waiter: &Waiter| waiter.behind != 0 && waiter.phase == Phase::InLine;
                    let second =
                        |waiter: &Waiter| waiter.behind == 0 && waiter.phase == Phase::InLine;
                    state.waiters.iter().any(behind) && state.waiters.iter().any(second)
                },
            ),
            Property::sometimes(
                "one wins while another waits",
                |config: &Self, state: &State| {
                    let [first, second, _] = &state.waiters;
                    config.waiters > 1 && first.phase == Phase::Won && second.phase == Phase::InLine
                },
            ),
        ];
        if self.proposals.iter().any(|most| *most > 1) {
            properties.push(Property::sometimes(
                "a second ticket wins",
                |_, state: &State| {
                    let again =
                        |waiter: &Waiter| waiter.proposed == 2 && waiter.phase == Phase::Won;
                    state.waiters.iter().any(again)
                },
            ));
        }
        if self.later_tickets > 0 {
            properties.push(Property::sometimes(
                "after the loss all nodes take new tickets",
                |config: &Self, state: &State| {
                    let new = |place: &Place| place.line.iter().any(|one| *one > config.tickets);
                    state.places.iter().all(new)
                },
            ));
        }
        properties
    }
}

impl Config {
    fn waiter_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let one = &state.waiters[index];
        let waiter = number(index);
        let waits = matches!(one.phase, Phase::Proposing | Phase::InLine);
        // A ticket that was accepted is kept; another one is higher.
        let proposes = matches!(one.phase, Phase::Away | Phase::Proposing);
        if proposes && one.proposed < self.proposals[index] {
            let lowest = if one.proposed > 0 {
                one.ticket() + 1
            } else {
                1
            };
            let highest = self.tickets + if state.later { self.later_tickets } else { 0 };
            for ticket in lowest..=highest {
                actions.push(Action::Propose { waiter, ticket });
            }
        }
        let in_line = |reply| matches!(reply, Reply::InLine | Reply::Granted);
        let needed = if self.rules.quorum_accepts {
            majority(NODES)
        } else {
            1
        };
        if one.phase == Phase::Proposing && state.count(index, in_line) >= needed {
            actions.push(Action::Accepted { waiter });
        }
        if one.phase == Phase::InLine && one.attempts < self.attempts {
            actions.push(Action::Try { waiter });
        }
        if one.trying && one.phase == Phase::InLine {
            actions.push(Action::GiveUpAttempt { waiter });
        }
        if waits && state.count(index, |reply| reply == Reply::Granted) >= majority(NODES) {
            actions.push(Action::Win { waiter });
        }
        if waits && self.leaving {
            actions.push(Action::Leave { waiter });
        }
    }
}
