//! Hazard: a model that proves something about a line which is not the code's.
//!
//! The model's line is held to the library's own `Register`: in every state that
//! one alphabet of commands leads to, and on long random sequences in which data
//! are lost as well.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use everlock::clock::WallTime;
use everlock::protocol::{CallId, ClusterInfo, Command, MarkerCommand, Register, Turn};
use everlock::{FencingToken, OwnerId, Resource, Vote};
use everlock_model::fifo::{Order, Place, Reply, Rules, Ticket, WAITERS};

const NOW: WallTime = WallTime::from_micros(1_800_000_000_000_000);
const MAX_LEASE: Duration = Duration::from_secs(2);
const RUN: &str = "run";
/// The highest ticket that the clock allows.
const LIMIT: Ticket = 5;

/// A register and the model's node, which must answer alike.
#[derive(Clone)]
struct Pair {
    register: Register,
    place: Place,
    guarded: bool,
    grants: u64,
}

fn resource() -> Resource {
    Resource::new("r").unwrap()
}

fn call(waiter: usize) -> CallId {
    CallId::new(waiter as u64)
}

fn real(ticket: Ticket) -> FencingToken {
    let highest = NOW.plus(MAX_LEASE).as_micros();
    FencingToken::new(highest + u64::from(ticket) - u64::from(LIMIT))
}

fn cluster() -> ClusterInfo {
    ClusterInfo {
        id: "cluster".to_owned(),
        nodes: 3,
        max_lease: MAX_LEASE,
    }
}

impl Pair {
    fn new() -> Self {
        let mut register = Register::default();
        let nonce = "nonce".to_owned();
        let prepare = MarkerCommand::Prepare {
            cluster: cluster(),
            nonce: nonce.clone(),
            over: None,
            durable: false,
        };
        register.mark(NOW, RUN, prepare);
        register.mark(NOW, RUN, MarkerCommand::Activate { nonce });
        Self {
            register,
            place: Place::default(),
            guarded: false,
            grants: 0,
        }
    }

    fn apply(&mut self, command: &Command) -> Vote {
        self.register.apply(NOW, RUN, command)
    }

    /// Every attempt has a token of its own, and what it is granted it lets go.
    fn ask(&mut self, waiter: usize, ticket: Ticket, accepted: bool) -> Vote {
        self.grants += 1;
        let owner = OwnerId::new(format!("o{waiter}")).unwrap();
        let vote = self.apply(&Command::AcquireInTurn {
            resource: resource(),
            owner: owner.clone(),
            lease: MAX_LEASE,
            call: call(waiter),
            token: FencingToken::new(NOW.as_micros() + self.grants),
            turn: Turn {
                ticket: real(ticket),
                accepted,
            },
        });
        self.apply(&Command::Release {
            resource: resource(),
            owner,
            token: FencingToken::MAX,
        });
        vote
    }

    fn step(&mut self, waiter: usize, order: Order) {
        let before = self.place;
        let said = match order {
            Order::Propose(ticket) => self.ask(waiter, ticket, false),
            Order::Beat(ticket) => self.ask(waiter, ticket, true),
            Order::Leave(ticket) => self.apply(&Command::LeaveQueue {
                resource: resource(),
                call: call(waiter),
                ticket: real(ticket),
            }),
        };
        let modelled = self.place.obey(Rules::default(), waiter, order);
        let agree = match (modelled, &said) {
            (Reply::Refused, Vote::TicketStale { .. })
            | (Reply::InLine, Vote::Queued { .. })
            | (Reply::None, Vote::LeftQueue { .. }) => true,
            (Reply::Granted, Vote::Granted) => !self.guarded,
            // To the line that is a refused ticket, or a lost request.
            (Reply::Refused | Reply::Granted, Vote::Guarded { remaining }) => {
                self.guarded && remaining.is_some()
            }
            _ => false,
        };
        assert!(
            agree,
            "{order:?} of {waiter} in {before:?}: the model says {modelled:?}, the register {said:?}"
        );
        self.compare_lines();
    }

    fn compare_lines(&self) {
        for (waiter, ticket) in self.place.line().into_iter().enumerate() {
            let expected = (ticket > 0).then(|| real(ticket));
            let found = self.register.ticket(&resource(), call(waiter));
            assert_eq!(found, expected, "{waiter} in {:?}", self.place);
        }
    }

    /// In the model tickets expire one by one, without the clock's moving on. To the
    /// register that is what leaving under the lowest ticket is.
    fn expire(&mut self, waiter: usize) {
        self.apply(&Command::LeaveQueue {
            resource: resource(),
            call: call(waiter),
            ticket: FencingToken::ZERO,
        });
        self.place.expire(Rules::default(), waiter);
        self.compare_lines();
    }

    fn lose(&mut self) {
        self.register = Register::default();
        let guard = MarkerCommand::Guard {
            cluster: cluster(),
            started: None,
            durable: false,
        };
        self.register.mark(NOW, RUN, guard);
        // What may have been accepted are all tickets that the clock allowed.
        self.place.lose(Rules::default(), LIMIT);
        self.guarded = true;
        self.compare_lines();
    }
}

fn alphabet(tickets: Ticket) -> Vec<(usize, Order)> {
    let waiters = 0..WAITERS;
    let orders = |waiter| {
        (1..=tickets).flat_map(move |ticket| {
            let orders = [
                Order::Propose(ticket),
                Order::Beat(ticket),
                Order::Leave(ticket),
            ];
            orders.map(|order| (waiter, order))
        })
    };
    waiters.flat_map(orders).collect()
}

#[test]
fn in_every_state_that_commands_lead_to_the_line_answers_as_the_register_does() {
    let commands = alphabet(LIMIT);
    let mut seen = HashSet::from([(Place::default(), false)]);
    let mut pending = VecDeque::from([Pair::new()]);
    let mut steps = 0_u64;
    while let Some(pair) = pending.pop_front() {
        let mut reached = |next: Pair| {
            steps += 1;
            if seen.insert((next.place, next.guarded)) {
                pending.push_back(next);
            }
        };
        for (waiter, order) in &commands {
            let mut next = pair.clone();
            next.step(*waiter, *order);
            reached(next);
        }
        for waiter in 0..WAITERS {
            let mut next = pair.clone();
            next.expire(waiter);
            reached(next);
        }
        let mut next = pair;
        next.lose();
        reached(next);
    }
    println!("{} lines, {steps} steps", seen.len());
    assert!(seen.len() > 500, "{}", seen.len());
}

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }
}

#[test]
fn on_random_sequences_the_line_answers_as_the_register_does() {
    let commands = alphabet(LIMIT);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..5_000 {
        let mut pair = Pair::new();
        for _ in 0..dice.below(80) {
            match dice.below(40) {
                0 => pair.lose(),
                1..=4 => pair.expire(dice.below(WAITERS)),
                _ => {
                    let (waiter, order) = commands[dice.below(commands.len())];
                    pair.step(waiter, order);
                }
            }
        }
    }
}

#[test]
fn when_the_guard_is_over_what_may_have_been_accepted_is_refused() {
    let mut pair = Pair::new();
    pair.step(0, Order::Propose(2));
    pair.lose();
    let later = NOW.plus(MAX_LEASE);
    let propose = |ticket| Command::Stand {
        resource: resource(),
        call: call(1),
        turn: Turn {
            ticket,
            accepted: false,
        },
    };
    let base = real(LIMIT);
    let said = pair.register.apply(later, RUN, &propose(base));
    assert_eq!(said, Vote::TicketStale { floor: base });
    let refused = pair.place.obey(Rules::default(), 1, Order::Propose(LIMIT));
    assert_eq!(refused, Reply::Refused);
    let said = pair.register.apply(later, RUN, &propose(base.next()));
    assert!(matches!(said, Vote::Queued { position: 0, .. }), "{said:?}");
    let taken = pair
        .place
        .obey(Rules::default(), 1, Order::Propose(LIMIT + 1));
    assert_eq!(taken, Reply::Granted);
}
