//! Acquire, undo, extend, repair, release and settle, on nodes that may lose
//! their data, over a network that delivers what it likes when it likes.
//!
//! A message that was sent may arrive at any later step, or never; a reply that
//! is late is the same to a client as a request that is. Clients may be paused
//! between any two steps. Whether an attempt is won, and what a lost one undoes,
//! is asked of the library's own `Attempt`; how an extension ended, of `Counts`.
//!
//! A lease may end at any step at which the clocks' bound allows it: not while
//! an acquisition that counts on it is undecided or within its validity. With
//! [`Config::early`] it may end at any step at all.

mod action;
mod forgetting;
mod promises;
mod state;
mod steps;

use std::time::Duration;

use everlock::clock::Moment;
use everlock::protocol::{Attempt, Drift, Step as Judged, Terms};
use everlock::{FencingToken, Reply as RealReply, Vote as RealVote};
use stateright::{Model, Property};

use crate::node::{Call, Command, LONGEST, Node, Rules, Token};

pub use action::Action;
pub use promises::{NOTHING_LEFT, ONE_HOLDER, STAYS_OPEN, TOKENS_RISE};
use state::Client;
pub use state::{Kind, Message, Phase, Reply, State};
use steps::{message, named_places};

/// How many nodes there are.
pub const NODES: usize = 3;
/// The most clients.
pub const CLIENTS: usize = 3;
/// The most attempts of one client.
pub const ATTEMPTS: usize = 3;

/// What is explored.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and every combination means something"
)]
pub struct Config {
    /// How many clients, up to [`CLIENTS`].
    pub clients: u8,
    /// How many attempts each makes at most, all its acquisitions together.
    pub attempts: [u8; CLIENTS],
    /// Tokens from 1 to this one are proposed, in any order.
    pub tokens: Token,
    /// Tokens beyond what may be granted that are proposed as well.
    pub wild: Token,
    /// Whether leases may end at any moment, whatever was promised.
    pub early: bool,
    /// How often each acquisition is extended.
    pub extensions: u8,
    /// Tokens that each proposal reserves, for handing the lock on without the nodes.
    pub reserve: u8,
    /// Whether a node may lose all its data, once.
    pub loss: bool,
    /// Tokens that become possible when the lost node's guard is over.
    pub later_tokens: Token,
    /// Whether the first two clients are two calls of one owner.
    pub one_owner: bool,
    /// Whether delivered messages may be delivered again. P4 does not survive that,
    /// and is not asked for: a refusal is spent only if nothing sends a command twice.
    pub duplicates: bool,
    /// The mechanisms.
    pub rules: Rules,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clients: 2,
            attempts: [2; CLIENTS],
            tokens: 3,
            wild: 0,
            early: false,
            extensions: 0,
            reserve: 0,
            loss: false,
            later_tokens: 0,
            one_owner: false,
            duplicates: false,
            rules: Rules::default(),
        }
    }
}

impl Config {
    /// Each acquisition has an owner of its own, but for the calls of one owner.
    fn owner(&self, client: usize, call: u8) -> u8 {
        let person = match client {
            1 if self.one_owner => 0,
            client => client,
        };
        first_call(person) + (call - first_call(client)) + 1
    }

    fn limit(&self, state: &State) -> Token {
        self.tokens + if state.later { self.later_tokens } else { 0 }
    }

    /// An owner's tokens are never the same twice.
    fn may_propose(&self, state: &State, client: usize, token: Token) -> bool {
        !self.one_owner
            || client > 1
            || state.clients[..2]
                .iter()
                .all(|other| !other.tokens.contains(&token))
    }

    fn command(&self, state: &State, message: Message) -> Command {
        let index = usize::from(message.client);
        let client = &state.clients[index];
        let attempt = usize::from(message.attempt);
        let (call, token) = (client.calls[attempt], client.tokens[attempt]);
        let owner = self.owner(index, call.call());
        let held = match client.kept[attempt] {
            0 => token,
            kept => kept,
        };
        match message.kind {
            Kind::Acquire => Command::Acquire {
                owner,
                call,
                token,
                reserve: self.reserve,
                lease: 0,
                repair: false,
            },
            Kind::Undo => Command::Undo { owner, call, token },
            Kind::Release => Command::Release { owner, token: held },
            Kind::Settle => Command::Settle { owner, token: held },
            Kind::Extend | Kind::ExtendAgain => Command::Extend { owner },
            Kind::Repair => Command::Acquire {
                owner,
                call: Call::new(REPAIRS + message.client, message.attempt + 1),
                token: held,
                reserve: 0,
                lease: 1,
                repair: true,
            },
        }
    }

    /// Whether the clocks' bound keeps this node's lock from expiring now.
    fn is_promised(&self, state: &State, node: &Node) -> bool {
        (0..usize::from(self.clients)).any(|index| {
            let client = &state.clients[index];
            let rests = node.lock.shares.have(client.present_call());
            let owns = node.lock.owner == self.owner(index, client.call);
            let same = node.lock.token == client.token;
            let trying = client.phase == Phase::Trying && rests;
            let holding = client.phase == Phase::Holding
                && client.valid
                && match client.lease {
                    0 => rests,
                    lease => same && node.lock.lease >= lease,
                };
            let extending = client.extending && same && node.lock.lease > client.lease;
            owns && (trying || holding || extending)
        })
    }

    fn judge(state: &State, client: usize, time_out: bool) -> (Judged, Vec<usize>) {
        let now = Moment::from_origin(Duration::from_hours(1));
        let mut attempt = Attempt::new(Terms {
            nodes: NODES,
            lease: Duration::from_mins(1),
            started: now,
            token: FencingToken::new(
                state.clients[client].tokens[state.clients[client].current()].into(),
            ),
            drift: Drift::default(),
            max_lease: Duration::from_mins(1),
            min_validity: Duration::ZERO,
        });
        let mut step = Judged::Wait;
        for (node, place) in state.places.iter().enumerate() {
            let vote = match place.replies[client] {
                Reply::None => continue,
                Reply::Granted => RealVote::Granted,
                Reply::Again(token) => RealVote::Again {
                    token: FencingToken::new(token.into()),
                    remaining: Duration::from_mins(1),
                },
                _ => RealVote::Absent,
            };
            let reply = RealReply { time: None, vote };
            step = attempt.reply(node, reply, now);
        }
        if time_out {
            // Too late: what has not answered, failed; and a quorum is of no use any more.
            step = attempt.time_out(now + Duration::from_mins(2));
        }
        (step, attempt.to_undo().collect())
    }
}

/// Repairs are calls of their own.
const REPAIRS: u8 = 20;

/// Calls of different clients have different numbers.
const fn first_call(client: usize) -> u8 {
    // Never more than 12.
    #[allow(clippy::cast_possible_truncation, reason = "clients are few")]
    let first = (client * (ATTEMPTS + 1)) as u8;
    first
}

impl Model for Config {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut clients = [Client::default(); CLIENTS];
        for (number, client) in clients.iter_mut().enumerate() {
            client.call = first_call(number);
        }
        vec![State {
            places: named_places(),
            clients,
            won: 0,
            won_by_pair: 0,
            disordered: false,
            lost: false,
            later: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for index in 0..usize::from(self.clients) {
            self.client_actions(state, index, actions);
        }
        for place in &state.places {
            let number = place.name.0;
            for message in place.inbox.messages() {
                for again in [false, true] {
                    if !again || self.duplicates {
                        actions.push(Action::Deliver {
                            node: number,
                            message,
                            again,
                        });
                    }
                }
                if message.kind == Kind::Release && self.rules.settle {
                    actions.push(Action::ReleaseUnanswered {
                        node: number,
                        message,
                    });
                }
            }
            let node = place.node;
            if node.lock.owner != 0 && (self.early || !self.is_promised(state, &node)) {
                actions.push(Action::Expire { node: number });
            }
            if self.loss && !state.lost {
                actions.push(Action::Lose { node: number });
            }
            let counts_on_it = |client: &Client| {
                let busy = client.phase == Phase::Trying || client.valid;
                (busy && client.before_loss) || (client.extending && client.extension_before_loss)
            };
            if node.guarded && !state.clients.iter().any(counts_on_it) {
                actions.push(Action::EndGuard { node: number });
            }
        }
        if state.lost && !state.later && self.later_tokens > 0 {
            actions.push(Action::Later);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        match action {
            Action::Propose { client, token } => state.propose(self, client.into(), token),
            Action::Deliver {
                node,
                message,
                again,
            } => state.deliver(self, node, message, again),
            Action::Decide { client } => {
                if !state.decide(self, client.into(), false) {
                    return None;
                }
            }
            Action::TimeOut { client } => {
                state.decide(self, client.into(), true);
            }
            Action::HandOn { client } => state.hand_on(self, client.into()),
            Action::EndValidity { client } => state.clients[usize::from(client)].valid = false,
            Action::Extend { client } => {
                let index = usize::from(client);
                let client = &mut state.clients[index];
                client.extending = true;
                client.extended += 1;
                client.extension_before_loss = false;
                let attempt = client.current();
                let kind = [Kind::Extend, Kind::ExtendAgain][usize::from(client.extended == 2)];
                state.forget_replies(index);
                state.send_all(message(kind, index, attempt));
            }
            Action::Release { client } => state.release(self, client.into()),
            Action::ReleaseUnanswered { node, message } => {
                // The release may still arrive, after the settlement: it finds nothing
                // then that the settlement would have left.
                let inbox = &mut state.place(node).inbox;
                inbox.take(message);
                inbox.put(Message {
                    kind: Kind::Settle,
                    ..message
                });
            }
            Action::Expire { node } => state.place(node).node.expire(),
            Action::Lose { node } => {
                state.lost = true;
                state.place(node).node.lose(&self.rules, self.tokens);
                for client in &mut state.clients {
                    client.before_loss = client.phase != Phase::Idle;
                    client.extension_before_loss = client.extending;
                }
            }
            Action::Later => state.later = true,
            Action::EndGuard { node } => {
                state.later = true;
                state.place(node).node.guarded = false;
            }
        }
        state.normalise(self);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::of(self)
    }
}

impl Config {
    /// A release by one call of an owner ends the lock of them all, also of those
    /// that have no answer yet. An owner that releases asks no more under that id.
    fn is_settled(&self, state: &State, other: usize) -> bool {
        let client = &state.clients[other];
        client.phase != Phase::Trying && client.begun == self.attempts[other]
    }

    fn client_actions(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let client = &state.clients[index];
        let number = u8::try_from(index).unwrap_or(u8::MAX);
        match client.phase {
            Phase::Idle if client.begun < self.attempts[index] => {
                for token in 1..=self.limit(state) + self.wild {
                    if self.may_propose(state, index, token) {
                        actions.push(Action::Propose {
                            client: number,
                            token,
                        });
                    }
                }
            }
            Phase::Idle => {}
            Phase::Trying => {
                actions.push(Action::Decide { client: number });
                actions.push(Action::TimeOut { client: number });
            }
            Phase::Holding => {
                if client.valid {
                    actions.push(Action::EndValidity { client: number });
                }
                if client.extending {
                    actions.push(Action::Decide { client: number });
                    actions.push(Action::TimeOut { client: number });
                } else if client.valid && client.extended < self.extensions.min(LONGEST) {
                    actions.push(Action::Extend { client: number });
                }
                // Also of a lock that is not valid any more: tokens need no clock.
                if client.handed < self.reserve {
                    actions.push(Action::HandOn { client: number });
                }
                if !self.one_owner || index > 1 || self.is_settled(state, 1 - index) {
                    actions.push(Action::Release { client: number });
                }
            }
        }
    }
}
