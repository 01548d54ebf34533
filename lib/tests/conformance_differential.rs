//! Random sequences of commands get the same answers from both kinds of node.
//!
//! The suite of named rules says what is right; this says that nothing between
//! the rules differs, in thousands of sequences that nobody thought of, whether
//! commands come one by one or many at once.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock, ManualClock, SystemClock};
use everlock::entropy::{Entropy, SeededEntropy};
use everlock::node::conformance::{open, redis_node, submit};
use everlock::node::memory::MemoryNode;
use everlock::node::{Ballot, Node};
use everlock::protocol::{Baseline, CallId, ClockStep, Command, Marker, MarkerCommand, Turn};
use everlock::{FencingToken, OwnerId, Resource, Vote};
use everlock_testkit::RedisServer;

/// So long that nothing expires while the test runs.
const MAX_LEASE: Duration = Duration::from_hours(1);
const SHORTEST: u64 = 600;
const STEPS: u64 = 18_000;
/// Tickets live for seconds: those who wait in line do so for this many steps.
const WINDOW: u64 = 150;
/// The clocks of both nodes stand still but for this between two rounds, so that tickets end at
/// the same moment on both, however slow the machine is.
const TICK: Duration = Duration::from_millis(5);
/// A server counts what is left of a lease in whole milliseconds.
const SLACK: u64 = 2_000;

struct Dice {
    bits: SeededEntropy,
    /// How many times as many resources as there are names.
    spread: u64,
}

impl Dice {
    fn below(&self, sides: u64) -> u64 {
        self.bits.bits() % sides
    }

    fn pick<T: Copy>(&self, of: &[T]) -> T {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap();
        of[index]
    }

    /// A token in a window that moves on with the steps, or a wild one.
    fn token(&self, base: u64, step: u64) -> FencingToken {
        const HOUR: u64 = 3_600_000_000;
        let usual = base + step / 3 + self.below(12);
        FencingToken::new(match self.below(25) {
            0 => base - 30 * HOUR,
            1 => base + 30 * HOUR,
            2 => self.pick(&[0, u64::MAX]),
            _ => usual,
        })
    }

    fn command(&self, base: u64, step: u64) -> Command {
        let resource = self.pick(&["r", "a:r", "a:b\n {}", "🔒"]);
        let resource = match self.below(self.spread) {
            0 => Resource::new(resource).unwrap(),
            number => Resource::new(format!("{resource}{number}")).unwrap(),
        };
        let kind = self.below(29);
        let resource = if kind >= 20 || self.below(4) == 0 {
            let window = step / WINDOW;
            Resource::new(format!("{}/{window}", resource.as_str())).unwrap()
        } else {
            resource
        };
        let owner = OwnerId::new(self.pick(&["one", "two words", "3:3,*"])).unwrap();
        let token = self.token(base, step);
        let attempt = u32::try_from(1 + self.below(4)).unwrap();
        let call = CallId::new(self.below(7)).at_attempt(attempt);
        let seconds = SHORTEST + self.below(2_400);
        let lease = match self.below(30) {
            0 => MAX_LEASE + Duration::from_secs(1),
            1 => MAX_LEASE,
            _ => Duration::from_secs(seconds),
        };
        let reserve = u32::try_from(step % 3 / 2 * (step % 11)).unwrap();
        let turn = Turn {
            ticket: self.token(base, step),
            accepted: self.below(3) == 0,
        };
        match kind {
            20..=22 => Command::AcquireInTurn {
                resource,
                owner,
                lease,
                call,
                token,
                turn,
            },
            23 => Command::Stand {
                resource,
                call,
                turn,
            },
            24 => Command::LeaveQueue {
                resource,
                call,
                ticket: turn.ticket,
            },
            25 => Command::Queue { resource },
            26..=28 => Command::ReleaseInTurn {
                resource,
                owner,
                token,
                call,
                ticket: turn.ticket,
            },
            0..=8 => Command::Acquire {
                resource,
                owner,
                lease,
                call,
                token,
                reserve,
            },
            9..=12 => Command::Undo {
                resource,
                owner,
                call,
                token,
                aloud: step.is_multiple_of(2),
            },
            13 => Command::Release {
                resource,
                owner,
                token,
            },
            14 => Command::PassOn {
                resource,
                owner,
                token,
            },
            15 => Command::Settle {
                resource,
                owner,
                token,
            },
            16 | 17 => Command::Extend {
                resource,
                owner,
                by: Duration::from_secs(self.below(900) + 1),
            },
            18 => Command::Inspect { resource },
            _ => Command::Ping,
        }
    }

    /// Half of the releases have an acquire of the same lock behind them, some of these in turn.
    fn pass_on(&self, commands: &mut [Command], base: u64, step: u64) {
        for at in 1..commands.len() {
            let in_turn = matches!(commands[at - 1], Command::ReleaseInTurn { .. });
            if !(in_turn || is_release(&commands[at - 1])) || self.below(2) == 0 {
                continue;
            }
            let resource = commands[at - 1].resource().cloned().unwrap();
            let next = loop {
                match self.command(base, step) {
                    next @ Command::AcquireInTurn { .. } if in_turn => break next,
                    next @ Command::Acquire { .. } if !in_turn => break next,
                    _ => {}
                }
            };
            commands[at] = of(next, resource);
        }
    }
}

const fn is_release(command: &Command) -> bool {
    matches!(command, Command::Release { .. } | Command::PassOn { .. })
}

/// The same acquire of another lock.
fn of(acquire: Command, other: Resource) -> Command {
    let mut acquire = acquire;
    if let Command::Acquire { resource, .. } | Command::AcquireInTurn { resource, .. } =
        &mut acquire
    {
        *resource = other;
    }
    acquire
}

/// The vote with its times rounded away, and the times.
fn apart(vote: Vote) -> (Vote, u64) {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap();
    let zero = Duration::ZERO;
    match vote {
        Vote::Again { token, remaining } => {
            let without = Vote::Again {
                token,
                remaining: zero,
            };
            (without, micros(remaining))
        }
        Vote::Held {
            remaining: Some(remaining),
            token,
        } => {
            let without = Vote::Held {
                remaining: Some(zero),
                token,
            };
            (without, micros(remaining))
        }
        Vote::Extended { token, remaining } => {
            let without = Vote::Extended {
                token,
                remaining: zero,
            };
            (without, micros(remaining))
        }
        Vote::Holder {
            owner,
            remaining: Some(remaining),
            token,
        } => {
            let without = Vote::Holder {
                owner,
                remaining: Some(zero),
                token,
            };
            (without, micros(remaining))
        }
        other => (other, 0),
    }
}

/// The floor of a resource that has none goes by the node's clock.
fn without_missing_floor(vote: Vote, base: u64) -> Vote {
    match vote {
        Vote::Stale { floor } if floor.as_u64() < base => Vote::Stale {
            floor: FencingToken::ZERO,
        },
        Vote::TicketStale { floor } if floor.as_u64() < base => Vote::TicketStale {
            floor: FencingToken::ZERO,
        },
        other => other,
    }
}

fn word(vote: &Vote) -> String {
    let text = format!("{vote:?}");
    let end = text.find(|c: char| !c.is_alphanumeric());
    text[..end.unwrap_or(text.len())].to_owned()
}

/// Submits all commands before the first answer is there.
async fn submit_together(node: &dyn Node, commands: &[Command]) -> Vec<Vote> {
    let mut ballot = Ballot::open();
    let not_after = SystemClock.now() + Duration::from_mins(1);
    for (index, command) in commands.iter().enumerate() {
        node.submit(command.clone(), not_after, ballot.slot(index));
    }
    let mut votes = vec![None; commands.len()];
    while votes.iter().any(Option::is_none) {
        let (index, reply) = ballot.next().await;
        votes[index] = Some(reply.vote);
    }
    votes.into_iter().flatten().collect()
}

/// Compares the answers to commands that come up to so many at once.
async fn compare(seed: u64, together: u64) {
    let server = RedisServer::builder().with_clock().start();
    let clock = Arc::new(ManualClock::at(SystemClock.wall()));
    let base = clock.wall().as_micros();
    server.stop_clock_at(base);
    let redis = redis_node(&server.url()).unwrap();
    let memory: Arc<dyn Node> = Arc::new(MemoryNode::new("memory", clock.clone()));
    open(&*redis, MAX_LEASE, false).await;
    open(&*memory, MAX_LEASE, false).await;

    let dice = Dice {
        bits: SeededEntropy::new(seed),
        spread: together.div_ceil(8),
    };
    let mut words = BTreeMap::<String, u64>::new();
    let mut history = Vec::new();
    let mut step = 0;
    while step < STEPS {
        clock.advance(TICK);
        server.stop_clock_at(clock.wall().as_micros());
        let count = 1 + dice.below(together);
        let mut commands: Vec<_> = (step..step + count)
            .map(|step| dice.command(base, step))
            .collect();
        step += count;
        dice.pass_on(&mut commands, base, step);
        let mut expected = Vec::new();
        for command in &commands {
            expected.push(submit(&*memory, command.clone()).await.vote);
        }
        let found = submit_together(&*redis, &commands).await;
        for (pair, votes) in commands.windows(2).zip(found.windows(2)) {
            let passed = match pair {
                [Command::ReleaseInTurn { .. }, Command::AcquireInTurn { .. }] => "in turn",
                [release, Command::Acquire { .. }] if is_release(release) => "",
                _ => continue,
            };
            if pair[0].resource() == pair[1].resource() {
                let both = format!("{} {} {passed}", word(&votes[0]), word(&votes[1]));
                *words.entry(both).or_default() += 1;
            }
        }
        for ((command, expected), found) in commands.iter().zip(expected).zip(found) {
            history.push(format!("{command:?}\n    {expected:?}"));
            *words.entry(word(&expected)).or_default() += 1;
            let (expected, expected_time) = apart(without_missing_floor(expected, base));
            let (found, found_time) = apart(without_missing_floor(found, base));
            let recent = history.len().saturating_sub(30);
            assert!(
                expected == found && expected_time.abs_diff(found_time) <= SLACK,
                "seed {seed}, step {step}: memory says {expected:?} {expected_time}, Redis \
                 {found:?} {found_time}, after\n{}",
                history[recent..].join("\n")
            );
        }
    }
    // The sequences reach every answer, or they say little.
    for word in [
        "Granted",
        "Again",
        "Held",
        "Stale",
        "Ahead",
        "Extended",
        "Released",
        "Newer",
        "Absent",
        "Undone",
        "Settled",
        "Holder",
        "Pong",
        "Failed",
        "Queued",
        "TicketStale",
        "LeftQueue",
        "Queue",
    ] {
        assert!(
            words.get(word).is_some_and(|count| *count >= 20),
            "{word} in {words:?}"
        );
    }
    for both in [
        "Released Granted ",
        "Released Stale ",
        "Absent Granted ",
        "Held Held ",
        "Newer Held ",
        "Released Granted in turn",
        "Released Queued in turn",
        "Absent Granted in turn",
        "Held Queued in turn",
        "Absent TicketStale in turn",
    ] {
        let often = words.get(both).is_some_and(|count| *count >= 5);
        assert!(often || together == 1, "{both} in {words:?}");
    }
}

#[tokio::test]
async fn both_nodes_answer_alike_step_by_step() {
    compare(1, 1).await;
}

#[tokio::test]
async fn both_nodes_answer_alike_step_by_step_from_another_seed() {
    compare(20_261_121, 1).await;
}

#[tokio::test]
async fn both_nodes_answer_alike_when_commands_share_calls() {
    compare(2, 9).await;
    compare(3, 100).await;
}

/// What clients tell of a clock ends a guard, begins one or changes nothing.
#[tokio::test]
async fn both_nodes_keep_the_same_marker_while_clocks_are_set() {
    const MAX_LEASE: Duration = Duration::from_mins(1);
    let server = RedisServer::builder().with_clock().start();
    let clock = Arc::new(ManualClock::at(SystemClock.wall()));
    server.stop_clock_at(clock.wall().as_micros());
    let redis: Arc<dyn Node> = redis_node(&server.url()).unwrap();
    let memory: Arc<dyn Node> = Arc::new(MemoryNode::new("memory", clock.clone()));
    open(&*redis, MAX_LEASE, false).await;
    open(&*memory, MAX_LEASE, false).await;
    let cluster = memory.mark(MarkerCommand::Read).await.unwrap();
    let cluster = cluster.marker.unwrap().cluster;
    let guard = MarkerCommand::Guard {
        cluster,
        started: None,
        durable: false,
    };
    let mut guards = Vec::new();
    for seconds in [0, -30, 70, 1, 90, -20, 0, 5] {
        let (now, by) = (
            clock.wall(),
            Duration::from_secs(i64::unsigned_abs(seconds)),
        );
        clock.step_wall(if seconds < 0 {
            now.minus(by)
        } else {
            now.plus(by)
        });
        server.stop_clock_at(clock.wall().as_micros());
        let before = memory.mark(guard.clone()).await.unwrap().marker.unwrap();
        redis.mark(guard.clone()).await.unwrap();
        for step in [ClockStep::Refresh, ClockStep::Jumped { by: 7 }] {
            let told = MarkerCommand::Clock {
                era: before.clock.era,
                baseline: Baseline {
                    offset: seconds,
                    width: 3,
                    at: clock.wall(),
                },
                step,
            };
            let expected = memory.mark(told.clone()).await.unwrap().marker.unwrap();
            let found = redis.mark(told).await.unwrap().marker.unwrap();
            let run_id = expected.run_id.clone();
            assert_eq!(expected, Marker { run_id, ..found }, "{seconds} {step:?}");
            guards.push(expected.voting_from > clock.wall());
        }
    }
    assert!(
        guards.contains(&true) && guards.contains(&false),
        "{guards:?}"
    );
}

/// What the node has no room for is the next one's place, and not the release before it.
#[tokio::test]
async fn a_full_node_answers_a_release_though_it_has_no_room_for_the_next() {
    let server = RedisServer::builder().start();
    let redis = redis_node(&server.url()).unwrap();
    open(&*redis, MAX_LEASE, false).await;
    let resource = Resource::new("r").unwrap();
    let owner = OwnerId::new("one").unwrap();
    let now = SystemClock.wall().as_micros();
    let token = |number| FencingToken::new(now + number);
    let acquire = |number: u64| Command::AcquireInTurn {
        resource: resource.clone(),
        owner: owner.clone(),
        lease: Duration::from_secs(SHORTEST),
        call: CallId::new(number).at_attempt(1),
        token: token(number),
        turn: Turn {
            ticket: token(number),
            accepted: false,
        },
    };
    server.command(&["SET", "filler~", &"x".repeat(2 << 20)]);
    server.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let release = Command::ReleaseInTurn {
        resource: resource.clone(),
        owner: owner.clone(),
        token: token(1),
        call: CallId::new(1).at_attempt(1),
        ticket: token(1),
    };
    let votes = submit_together(&*redis, &[release, acquire(2)]).await;
    // It held nothing: where a script has freed something, the server lets it write.
    assert_eq!(votes[0], Vote::Absent, "{votes:?}");
    assert!(matches!(votes[1], Vote::Failed(_)), "{votes:?}");
}
