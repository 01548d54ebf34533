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

use std::time::Duration;

use everlock::clock::Moment;
use everlock::protocol::{Attempt, Counts, Drift, ExtendOutcome, Step as Judged, Terms};
use everlock::{FencingToken, Reply as RealReply, Vote as RealVote, majority};
use stateright::{Model, Property};

use crate::Name;
use crate::node::{Call, Command, LONGEST, Node, Rules, Token, Vote};

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
            loss: false,
            later_tokens: 0,
            one_owner: false,
            duplicates: false,
            rules: Rules::default(),
        }
    }
}

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
struct Inbox(u64);

impl Inbox {
    const fn bit(message: Message) -> u64 {
        let attempt = message.client as usize * ATTEMPTS + message.attempt as usize;
        1 << (attempt * KINDS.len() + message.kind as usize)
    }

    fn put(&mut self, message: Message) {
        self.0 |= Self::bit(message);
    }

    fn take(&mut self, message: Message) {
        self.0 &= !Self::bit(message);
    }

    /// Whether anything of this attempt is under way.
    const fn has_any(self, client: usize, attempt: usize) -> bool {
        let of_one = (1 << KINDS.len()) - 1;
        self.0 >> ((client * ATTEMPTS + attempt) * KINDS.len()) & of_one != 0
    }

    fn messages(self) -> impl Iterator<Item = Message> {
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
struct Place {
    name: Name,
    node: Node,
    inbox: Inbox,
    replies: [Reply; CLIENTS],
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
struct Client {
    phase: Phase,
    /// Attempts begun, all acquisitions together.
    begun: u8,
    /// The present call, and its attempt.
    call: u8,
    attempt: u8,
    /// The calls and tokens of attempts of which something is under way.
    calls: [Call; ATTEMPTS],
    tokens: [Token; ATTEMPTS],
    /// The grant of another call that the attempt won by, in place of its own.
    kept: [Token; ATTEMPTS],
    /// Of which attempts an extension was confirmed.
    confirmed: [bool; ATTEMPTS],
    /// The token that is held.
    token: Token,
    /// How long it is held: confirmed extensions.
    lease: u8,
    valid: bool,
    extending: bool,
    extended: u8,
    /// The highest token that had been won when the attempt began.
    seen: Token,
    /// What it counts on began before a node lost its data.
    before_loss: bool,
    /// And so did its extension.
    extension_before_loss: bool,
}

impl Client {
    fn current(&self) -> usize {
        usize::from(self.begun).saturating_sub(1)
    }

    fn present_call(&self) -> Call {
        Call::new(self.call, self.attempt)
    }
}

/// A state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    places: [Place; NODES],
    clients: [Client; CLIENTS],
    /// The tokens that were won, a bit each.
    won: u32,
    /// Those of them that the two calls of one owner won.
    won_by_pair: u32,
    /// Some token was won out of order, or twice.
    disordered: bool,
    lost: bool,
    later: bool,
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
                write!(f, " token {}, {valid}", client.token)?;
            }
        }
        Ok(())
    }
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client begins an attempt.
    Propose {
        /// Which.
        client: u8,
        /// Under which token.
        token: Token,
    },
    /// A message arrives.
    Deliver {
        /// Where.
        node: u8,
        /// Which.
        message: Message,
        /// And will arrive again.
        again: bool,
    },
    /// A client acts on the replies that it has.
    Decide {
        /// Which.
        client: u8,
    },
    /// A client gives its attempt, or its extension, up.
    TimeOut {
        /// Which.
        client: u8,
    },
    /// A holder's validity ends.
    EndValidity {
        /// Which.
        client: u8,
    },
    /// A client asks for a longer lease.
    Extend {
        /// Which.
        client: u8,
    },
    /// A client releases what it won.
    Release {
        /// Which.
        client: u8,
    },
    /// A node's answer to a release is given up.
    ReleaseUnanswered {
        /// Whose.
        node: u8,
        /// Of what.
        message: Message,
    },
    /// A lock's lease is over on a node.
    Expire {
        /// Which.
        node: u8,
    },
    /// A node loses its data.
    Lose {
        /// Which.
        node: u8,
    },
    /// Some time has passed since the loss: higher tokens may be granted.
    Later,
    /// A node's guard is over.
    EndGuard {
        /// Which.
        node: u8,
    },
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

impl State {
    fn highest_won(&self) -> Token {
        u8::try_from(31_u32.saturating_sub(self.won.leading_zeros())).unwrap_or(0)
    }

    fn place(&mut self, name: u8) -> &mut Place {
        let found = self.places.iter().position(|place| place.name.0 == name);
        &mut self.places[found.unwrap_or_default()]
    }

    fn send_all(&mut self, message: Message) {
        for place in &mut self.places {
            place.inbox.put(message);
        }
    }

    fn forget_replies(&mut self, client: usize) {
        for place in &mut self.places {
            place.replies[client] = Reply::None;
        }
    }

    /// Whether a message can change nothing any more, whenever it arrives, and
    /// nobody listens to the answer. Floors never fall: what is refused stays refused.
    fn is_spent(&self, config: &Config, place: &Place, message: Message) -> bool {
        let index = usize::from(message.client);
        let client = &self.clients[index];
        let attempt = usize::from(message.attempt);
        let current = client.phase != Phase::Idle && client.current() == attempt;
        let call = client.calls[attempt];
        let owner = config.owner(index, call.call());
        let held = match client.kept[attempt] {
            0 => client.tokens[attempt],
            kept => kept,
        };
        let holds = place.node.lock.owner == owner;
        let comes = |other: Message| {
            other.kind == Kind::Acquire
                && config.owner(
                    other.client.into(),
                    self.clients[usize::from(other.client)].calls[usize::from(other.attempt)]
                        .call(),
                ) == owner
        };
        let may_come = place.inbox.messages().any(comes)
            || (0..usize::from(config.clients)).any(|other| {
                let client = &self.clients[other];
                client.begun < config.attempts[other] && config.owner(other, client.call) == owner
            });
        let passed = place.node.floor >= held;
        match message.kind {
            Kind::Acquire => {
                let heard = current && client.phase == Phase::Trying;
                !heard && place.node.floor >= client.tokens[attempt]
            }
            Kind::Undo => place.node.floor >= client.tokens[attempt] && !holds && !may_come,
            Kind::Settle => passed && !(holds && place.node.lock.token <= held),
            Kind::Extend | Kind::ExtendAgain => {
                let heard = current && client.extending;
                passed && !(heard || holds || may_come)
            }
            Kind::Repair => passed,
            Kind::Release => false,
        }
    }

    /// Forgets what nothing that may still happen depends on.
    fn normalise(&mut self, config: &Config) {
        // Where floors may fall, or are not asked, what is refused may yet be granted.
        let rules = &config.rules;
        if rules.floor_test && rules.repair_floor_test && rules.guard {
            for number in 0..NODES {
                for message in self.places[number].inbox.messages() {
                    if self.is_spent(config, &self.places[number], message) {
                        self.places[number].inbox.take(message);
                    }
                }
            }
        }
        for index in 0..usize::from(config.clients) {
            let client = &self.clients[index];
            if client.phase != Phase::Trying && !client.extending {
                self.forget_replies(index);
            }
            for attempt in 0..ATTEMPTS {
                let busy = self
                    .places
                    .iter()
                    .any(|place| place.inbox.has_any(index, attempt));
                let client = &mut self.clients[index];
                let current = client.phase != Phase::Idle && client.current() == attempt;
                // One owner's tokens are remembered: they are never the same twice.
                if busy || current || (config.one_owner && index < 2) {
                    continue;
                }
                client.calls[attempt] = Call::default();
                client.tokens[attempt] = 0;
                client.kept[attempt] = 0;
                client.confirmed[attempt] = false;
            }
        }
        // States that differ in the nodes' order only are one.
        self.places.sort_unstable();
    }

    fn propose(&mut self, config: &Config, index: usize, token: Token) {
        self.clients[index].seen = self.highest_won();
        let client = &mut self.clients[index];
        let attempt = usize::from(client.begun);
        client.begun += 1;
        client.attempt += 1;
        client.phase = Phase::Trying;
        client.before_loss = false;
        client.calls[attempt] = client.present_call();
        client.tokens[attempt] = token;
        client.kept[attempt] = 0;
        debug_assert!(client.begun <= config.attempts[index]);
        self.forget_replies(index);
        self.send_all(message(Kind::Acquire, index, attempt));
    }

    fn deliver(&mut self, config: &Config, node: u8, message: Message, again: bool) {
        let command = config.command(self, message);
        let limit = config.limit(self);
        let clients = self.clients;
        let place = self.place(node);
        let vote = place.node.apply(&config.rules, limit, command);
        if !again {
            place.inbox.take(message);
        }
        let index = usize::from(message.client);
        let client = &clients[index];
        let attempt = usize::from(message.attempt);
        let current = client.current() == attempt;
        let follow_up = |kind| Message { kind, ..message };
        match message.kind {
            Kind::Acquire if client.phase == Phase::Trying && current => {
                let reply = &mut place.replies[index];
                if *reply == Reply::None {
                    *reply = match vote {
                        Vote::Granted => Reply::Granted,
                        Vote::Again(token) => Reply::Again(token),
                        _ => Reply::Refused,
                    };
                }
            }
            // Another call's grant won: what its own proposal left goes.
            Kind::Acquire if client.kept[attempt] != 0 => {
                let left = match vote {
                    Vote::Granted => true,
                    Vote::Again(token) => token != client.kept[attempt],
                    _ => false,
                };
                if left {
                    place.inbox.put(follow_up(Kind::Undo));
                }
            }
            Kind::Extend | Kind::ExtendAgain => {
                let asked = [Kind::Extend, Kind::ExtendAgain][usize::from(client.extended == 2)];
                if client.extending && current && message.kind == asked {
                    place.replies[index] = match vote {
                        Vote::Extended(token, lease) if token == client.token => {
                            Reply::Extended(lease)
                        }
                        Vote::Absent => Reply::Absent,
                        _ => Reply::Refused,
                    };
                } else if client.confirmed[attempt] && vote == Vote::Absent {
                    place.inbox.put(follow_up(Kind::Repair));
                }
            }
            Kind::Release => {
                let Command::Release { token, .. } = command else {
                    return;
                };
                let over = matches!(vote, Vote::Released(ended) if ended >= token);
                if config.rules.settle && !over {
                    place.inbox.put(follow_up(Kind::Settle));
                }
            }
            _ => {}
        }
    }

    fn decide(&mut self, config: &Config, index: usize, time_out: bool) -> bool {
        if self.clients[index].extending {
            return self.decide_extension(index, time_out);
        }
        let attempt = self.clients[index].current();
        let (step, to_undo) = Config::judge(self, index, time_out);
        let won = match step {
            Judged::Wait => return false,
            Judged::Won(won) => Some(u8::try_from(won.token.as_u64()).unwrap_or(u8::MAX)),
            Judged::Lost(_) => None,
        };
        let Some(token) = won else {
            self.clients[index].phase = Phase::Idle;
            for node in to_undo {
                self.places[node]
                    .inbox
                    .put(message(Kind::Undo, index, attempt));
            }
            return true;
        };
        let own = self.clients[index].tokens[attempt] == token;
        let (seen, bit) = (self.clients[index].seen, 1 << token);
        // Asking twice for one acquisition is one acquisition.
        let pair = config.one_owner && index < 2;
        let shared = pair && self.won_by_pair & bit != 0;
        self.disordered |= token < seen || (self.won & bit != 0 && !shared);
        self.disordered |= !own && !pair;
        self.won |= bit;
        if pair {
            self.won_by_pair |= bit;
        }
        let client = &mut self.clients[index];
        client.phase = Phase::Holding;
        client.valid = true;
        client.token = token;
        client.lease = 0;
        client.extended = 0;
        if !own {
            client.kept[attempt] = token;
            for place in &mut self.places {
                let left = match place.replies[index] {
                    Reply::Granted => true,
                    Reply::Again(other) => other != token,
                    _ => false,
                };
                if left {
                    place.inbox.put(message(Kind::Undo, index, attempt));
                }
            }
        }
        true
    }

    fn decide_extension(&mut self, index: usize, time_out: bool) -> bool {
        let attempt = self.clients[index].current();
        let replies = self.places.map(|place| place.replies[index]);
        let count = |wanted: fn(&Reply) -> bool| replies.iter().filter(|one| wanted(one)).count();
        let silent = count(|reply| *reply == Reply::None);
        let counts = Counts {
            done: count(|reply| matches!(reply, Reply::Extended(_))),
            other: count(|reply| *reply == Reply::Refused),
            absent: count(|reply| *reply == Reply::Absent),
            unknown: if time_out { silent } else { 0 },
            pending: if time_out { 0 } else { silent },
        };
        let Some(outcome) = counts.extend() else {
            return false;
        };
        let client = &mut self.clients[index];
        client.extending = false;
        if outcome != ExtendOutcome::Extended {
            return true;
        }
        client.confirmed[attempt] = true;
        let mut confirmed: Vec<u8> = replies
            .iter()
            .filter_map(|reply| match reply {
                Reply::Extended(lease) => Some(*lease),
                _ => None,
            })
            .collect();
        confirmed.sort_unstable_by(|a, b| b.cmp(a));
        let lease = confirmed[majority(NODES) - 1];
        if lease > client.lease {
            client.lease = lease;
            client.valid = true;
            client.before_loss = client.extension_before_loss;
        }
        for place in &mut self.places {
            if place.replies[index] == Reply::Absent {
                place.inbox.put(message(Kind::Repair, index, attempt));
            }
        }
        true
    }

    fn release(&mut self, config: &Config, index: usize) {
        let attempt = self.clients[index].current();
        let token = self.clients[index].token;
        // Calls of one owner that share a grant are one holder.
        for other in 0..usize::from(config.clients) {
            let shares = config.one_owner && other < 2 && index < 2;
            let client = &mut self.clients[other];
            if other == index || (shares && client.phase == Phase::Holding && client.token == token)
            {
                client.phase = Phase::Idle;
                client.valid = false;
                client.extending = false;
                client.token = 0;
                client.lease = 0;
                client.extended = 0;
                client.call += 1;
                client.attempt = 0;
            }
        }
        self.send_all(message(Kind::Release, index, attempt));
    }
}

fn message(kind: Kind, client: usize, attempt: usize) -> Message {
    Message {
        kind,
        client: u8::try_from(client).unwrap_or(u8::MAX),
        attempt: u8::try_from(attempt).unwrap_or(u8::MAX),
    }
}

fn named_places() -> [Place; NODES] {
    let mut names = 0..;
    [(); NODES].map(|()| Place {
        name: Name(names.next().unwrap_or_default()),
        ..Place::default()
    })
}

/// P1, as the tests name it.
pub const ONE_HOLDER: &str = "P1: at most one holder within its validity";
/// P2.
pub const TOKENS_RISE: &str = "P2: tokens are unique and rise";
/// P4.
pub const NOTHING_LEFT: &str = "P4: what was given up or released leaves nothing";
/// No resource is refused for ever.
pub const STAYS_OPEN: &str = "no floor lies beyond what may be granted";

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
        let mut properties = vec![
            Property::always(TOKENS_RISE, |_, state: &State| !state.disordered),
            Property::always(STAYS_OPEN, |config: &Self, state: &State| {
                let limit = config.limit(state);
                state.places.iter().all(|place| place.node.floor <= limit)
            }),
            Property::sometimes("a lock is won after a release", |_, state: &State| {
                let released =
                    (0..CLIENTS).any(|index| state.clients[index].call > first_call(index));
                released && state.clients.iter().any(|client| client.valid)
            }),
            Property::sometimes(
                "a rival's attempt fails and is undone",
                |_, state: &State| {
                    let held = state.clients.iter().any(|client| client.valid);
                    let failed =
                        |client: &Client| client.phase == Phase::Idle && client.attempt > 0;
                    held && state.clients.iter().any(failed)
                },
            ),
        ];
        // Each wins under a token of its own.
        if self.clients <= self.tokens {
            properties.push(Property::sometimes(
                "each client wins",
                |config: &Self, state: &State| {
                    (0..usize::from(config.clients)).all(|index| {
                        let client = &state.clients[index];
                        client.call > first_call(index) || client.phase == Phase::Holding
                    })
                },
            ));
        }
        if !self.duplicates {
            properties.push(Property::always(NOTHING_LEFT, nothing_is_left));
        }
        if !self.early {
            properties.push(Property::always(ONE_HOLDER, one_holder));
        }
        if self.extensions > 0 {
            properties.push(Property::sometimes(
                "a lease is extended",
                |_, state: &State| state.clients.iter().any(|client| client.lease > 0),
            ));
            properties.push(Property::sometimes(
                "a node is repaired",
                |_, state: &State| {
                    let repaired = |place: &Place| {
                        (0..CLIENTS).any(|client| {
                            let client = u8::try_from(client).unwrap_or(u8::MAX);
                            let call = |attempt| Call::new(REPAIRS + client, attempt);
                            (1..=3).any(|attempt| place.node.lock.shares.have(call(attempt)))
                        })
                    };
                    state.places.iter().any(repaired)
                },
            ));
        }
        if self.one_owner {
            properties.push(Property::sometimes(
                "asked again, it has the same grant",
                |_, state: &State| {
                    let [one, other, _] = &state.clients;
                    one.valid && other.valid && one.token == other.token
                },
            ));
        }
        if self.loss && self.rules.guard {
            properties.push(Property::sometimes(
                "after the guard the node votes",
                |_, state: &State| {
                    let held = state.clients.iter().any(|client| client.valid);
                    let voted = |place: &Place| place.node.lock.token > 0;
                    state.later && held && state.places.iter().all(voted)
                },
            ));
        }
        properties
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
                if !self.one_owner || index > 1 || self.is_settled(state, 1 - index) {
                    actions.push(Action::Release { client: number });
                }
            }
        }
    }
}

fn one_holder(config: &Config, state: &State) -> bool {
    let mut holders = (0..usize::from(config.clients))
        .filter(|index| state.clients[*index].valid)
        .map(|index| config.owner(index, state.clients[index].call));
    let first = holders.next();
    holders.all(|other| Some(other) == first)
}

/// Where everything of an owner that is done has arrived, the owner has no lock.
fn nothing_is_left(config: &Config, state: &State) -> bool {
    let clients = || 0..usize::from(config.clients);
    let is_busy = |owner: u8| {
        clients().any(|index| {
            let client = &state.clients[index];
            client.phase != Phase::Idle && config.owner(index, client.call) == owner
        })
    };
    state.places.iter().all(|place| {
        let owner = place.node.lock.owner;
        let expected = |message: Message| {
            let client = usize::from(message.client);
            let call = state.clients[client].calls[usize::from(message.attempt)];
            config.owner(client, call.call()) == owner
        };
        owner == 0 || is_busy(owner) || place.inbox.messages().any(expected)
    })
}
