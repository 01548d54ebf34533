//! Hazard: a model that proves something about rules which are not the code's.
//!
//! The model's node is held to the library's own `Register`: in every pair of
//! states that one alphabet of commands leads to, and on long random sequences
//! with many more owners, calls and tokens.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use everlock::clock::WallTime;
use everlock::protocol::{self, CallId, ClusterInfo, MarkerCommand, Register};
use everlock::{FencingToken, OwnerId, Resource};
use everlock_model::node::{Call, Command, LONGEST, Node, Rules, Token, Vote};

const NOW: WallTime = WallTime::from_micros(1_800_000_000_000_000);
const LEASE: Duration = Duration::from_secs(10);
const BY: Duration = Duration::from_secs(1);
const LIMIT: Token = 3;
const RUN: &str = "run";

/// A register and the model's node, which must answer alike.
#[derive(Clone)]
struct Pair {
    register: Register,
    node: Node,
    now: WallTime,
    limit: Token,
}

fn max_lease() -> Duration {
    LEASE + BY * u32::from(LONGEST)
}

fn cluster() -> ClusterInfo {
    ClusterInfo {
        id: "cluster".to_owned(),
        nodes: 3,
        max_lease: max_lease(),
    }
}

fn owner(number: u8) -> OwnerId {
    // Lengths differ, so that a register's Debug output tells owners apart.
    OwnerId::new("o".repeat(usize::from(number))).unwrap()
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
            node: Node::default(),
            now: NOW,
            limit: LIMIT,
        }
    }

    /// The model's token `limit` is the highest that the clock allows.
    fn real(&self, token: Token) -> FencingToken {
        let highest = self.now.plus(max_lease()).as_micros();
        FencingToken::new(highest + u64::from(token) - u64::from(self.limit))
    }

    fn real_command(&self, command: Command) -> protocol::Command {
        let resource = Resource::new("r").unwrap();
        match command {
            Command::Acquire {
                owner: who,
                call,
                token,
                reserve,
                lease,
                ..
            } => protocol::Command::Acquire {
                resource,
                owner: owner(who),
                lease: LEASE + BY * u32::from(lease),
                call: real_call(call),
                token: self.real(token),
                reserve: reserve.into(),
            },
            Command::Extend { owner: who } => protocol::Command::Extend {
                resource,
                owner: owner(who),
                by: BY,
            },
            Command::Release { owner: who, token } => protocol::Command::Release {
                resource,
                owner: owner(who),
                token: self.real(token),
            },
            Command::Undo {
                owner: who,
                call,
                token,
            } => protocol::Command::Undo {
                resource,
                owner: owner(who),
                call: real_call(call),
                token: self.real(token),
                aloud: false,
            },
            Command::Settle { owner: who, token } => protocol::Command::Settle {
                resource,
                owner: owner(who),
                token: self.real(token),
            },
        }
    }

    fn step(&mut self, command: Command) {
        let before = self.clone();
        let real = self.real_command(command);
        let said = self.register.apply(self.now, RUN, &real);
        let modelled = self.node.apply(&Rules::default(), self.limit, command);
        let agree = self.alike(modelled, &said);
        assert!(
            agree,
            "{command:?} in {:?}: the model says {modelled:?}, the register {said:?}",
            before.node
        );
        self.compare_holder();
    }

    fn alike(&self, modelled: Vote, real: &everlock::Vote) -> bool {
        use everlock::Vote as Real;
        let lease = |lease: u8| LEASE + BY * u32::from(lease);
        match (modelled, real) {
            (Vote::Granted, Real::Granted)
            | (Vote::Held, Real::Held { .. })
            | (Vote::Ahead, Real::Ahead)
            | (Vote::Absent, Real::Absent)
            | (Vote::Guarded, Real::Guarded { .. }) => true,
            (Vote::Again(token), Real::Again { token: said, .. })
            | (Vote::Newer(token), Real::Newer { token: said }) => self.real(token) == *said,
            (Vote::Released(token), Real::Released { token: said }) => {
                Some(self.real(token)) == *said
            }
            // A floor that was never set counts as an old one.
            (Vote::Stale(0), Real::Stale { floor }) => *floor < self.real(1),
            (Vote::Stale(floor), Real::Stale { floor: said }) => self.real(floor) == *said,
            (
                Vote::Extended(token, long),
                Real::Extended {
                    token: said,
                    remaining,
                },
            ) => Some(self.real(token)) == *said && lease(long) == *remaining,
            (Vote::Undone(deleted), Real::Undone { deleted: said })
            | (Vote::Settled(deleted), Real::Settled { deleted: said }) => deleted == *said,
            _ => false,
        }
    }

    fn compare_holder(&self) {
        let resource = Resource::new("r").unwrap();
        let holder = self.register.holder(&resource, self.now);
        let modelled = (self.node.lock.owner != 0).then(|| owner(self.node.lock.owner));
        assert_eq!(modelled.as_ref(), holder);
    }

    /// In the model a lease ends without the clock's moving on. To the register
    /// that is what another client's deletion of the key is.
    fn expire(&mut self) {
        if self.node.lock.owner == 0 {
            return;
        }
        let release = protocol::Command::Release {
            resource: Resource::new("r").unwrap(),
            owner: owner(self.node.lock.owner),
            token: FencingToken::MAX,
        };
        self.register.apply(self.now, RUN, &release);
        self.node.expire();
        self.compare_holder();
    }

    fn lose(&mut self) {
        self.register = Register::default();
        let guard = MarkerCommand::Guard {
            cluster: cluster(),
            started: None,
            durable: false,
        };
        self.register.mark(self.now, RUN, guard);
        // The base is the last token that the clock allowed.
        self.node.lose(&Rules::default(), self.limit);
        self.compare_holder();
    }

    /// The longest lease is over, and so is the guard.
    fn recover(&mut self) {
        self.now = self.now.plus(max_lease());
        self.limit += LIMIT;
        self.node.guarded = false;
    }

    /// Everything that both are, to tell states that were seen.
    fn seen_as(&self) -> String {
        format!("{:?} {:?}", self.node, self.register)
    }
}

fn real_call(call: Call) -> CallId {
    CallId::new(u64::from(call.call())).at_attempt(u32::from(call.attempt()))
}

fn alphabet(owners: u8, calls: u8, attempts: u8, tokens: Token) -> Vec<Command> {
    let mut all = Vec::new();
    for owner in 1..=owners {
        all.push(Command::Extend { owner });
        for token in 1..=tokens {
            all.push(Command::Release { owner, token });
            all.push(Command::Settle { owner, token });
            for call in 0..calls {
                for attempt in 1..=attempts {
                    let call = Call::new(call, attempt);
                    all.push(Command::Undo { owner, call, token });
                    for lease in 0..=LONGEST {
                        // What a repair asks for reserves nothing.
                        for reserve in 0..=u8::from(lease == 0) {
                            all.push(Command::Acquire {
                                owner,
                                call,
                                token,
                                reserve,
                                lease,
                                repair: false,
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

#[test]
fn in_every_state_that_commands_lead_to_the_node_answers_as_the_register_does() {
    // One token more than may be granted.
    let commands = alphabet(2, 3, 2, LIMIT + 1);
    let mut seen = HashSet::new();
    let mut nodes = HashSet::new();
    let mut pending = VecDeque::from([Pair::new()]);
    let mut steps = 0_u64;
    while let Some(pair) = pending.pop_front() {
        let mut reached = |next: Pair| {
            steps += 1;
            if seen.insert(next.seen_as()) {
                nodes.insert(next.node);
                pending.push_back(next);
            }
        };
        for command in &commands {
            let mut next = pair.clone();
            next.step(*command);
            reached(next);
        }
        let mut next = pair.clone();
        next.expire();
        reached(next);
        let mut next = pair;
        next.lose();
        reached(next);
    }
    println!("{} pairs, {} nodes, {steps} steps", seen.len(), nodes.len());
    assert!(nodes.len() > 500, "{}", nodes.len());
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
fn on_random_sequences_the_node_answers_as_the_register_does() {
    let commands = alphabet(3, 6, 3, LIMIT + 1);
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..2_000 {
        let mut pair = Pair::new();
        for _ in 0..dice.below(80) {
            match dice.below(30) {
                0 => pair.lose(),
                1 | 2 => pair.expire(),
                _ => pair.step(commands[dice.below(commands.len())]),
            }
        }
    }
}

#[test]
fn when_the_guard_is_over_what_may_have_been_forgotten_is_refused() {
    let mut pair = Pair::new();
    pair.lose();
    pair.recover();
    let acquire = |token| Command::Acquire {
        owner: 1,
        call: Call::new(1, 1),
        token,
        reserve: 0,
        lease: 0,
        repair: false,
    };
    // The register's clock has moved by a whole lease: tokens are told by their number alone.
    let base = FencingToken::new(NOW.plus(max_lease()).as_micros());
    let real = |token: FencingToken| protocol::Command::Acquire {
        resource: Resource::new("r").unwrap(),
        owner: owner(1),
        lease: LEASE,
        call: CallId::new(1),
        token,
        reserve: 0,
    };
    let said = pair.register.apply(pair.now, RUN, &real(base));
    assert_eq!(said, everlock::Vote::Stale { floor: base });
    let modelled = pair
        .node
        .apply(&Rules::default(), pair.limit, acquire(LIMIT));
    assert_eq!(modelled, Vote::Stale(LIMIT));
    let said = pair.register.apply(pair.now, RUN, &real(base.next()));
    assert_eq!(said, everlock::Vote::Granted);
    let modelled = pair
        .node
        .apply(&Rules::default(), pair.limit, acquire(LIMIT + 1));
    assert_eq!(modelled, Vote::Granted);
}
