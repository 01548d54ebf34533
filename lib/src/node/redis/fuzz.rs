//! What must hold of every reply that a server may give. Panics where it does not.

use std::time::Duration;

use redis::Value;

use super::replies::{Answer, answers, marker_state};
use crate::core::admission::{ServerFacts, judge};
use crate::core::attempt::{Attempt, Loss, Step, Terms};
use crate::core::command::{Command, Turn};
use crate::core::marker::{DEFAULT_MAX_LEASE, Marker, MarkerState, Phase};
use crate::core::quorum::{FaultKind, Reply, Vote};
use crate::core::schedule::{Plan, Schedule};
use crate::core::time::{Moment, WallTime};
use crate::core::token::FencingToken;
use crate::core::types::{CallId, OwnerId, Resource};
use crate::core::validity::Drift;

const RUN: &str = "run-1";

/// A reply: it is read without a panic, means what its word says and nothing
/// else, and is the same when it is written and read again.
///
/// A line is a value: `:1` a number, `+x` a simple string, `-x` an error, `_` nil,
/// `#` true, `*` opens a list and `.` closes it, and all else is a bulk string. So most
/// of what a fuzzer makes up has a shape.
pub fn replies(data: &[u8]) {
    let value = read(data);
    check_answers(&value);
    check_marker(&value);
}

fn read(data: &[u8]) -> Value {
    let mut open = vec![Vec::new()];
    for line in data.split(|byte| *byte == b'\n') {
        let text = || String::from_utf8_lossy(&line[1..]).into_owned();
        let value = match line.first() {
            Some(b'*') if line.len() == 1 && open.len() < 8 => {
                open.push(Vec::new());
                continue;
            }
            Some(b'.') if line.len() == 1 && open.len() > 1 => {
                Value::Array(open.pop().unwrap_or_default())
            }
            Some(b':') => text().parse().map_or(Value::Nil, Value::Int),
            Some(b'-') => {
                let error = format!("-{}\r\n", text());
                redis::parse_redis_value(error.as_bytes()).unwrap_or(Value::Nil)
            }
            Some(b'+') => Value::SimpleString(text()),
            Some(b'#') => Value::Boolean(true),
            Some(b'_') if line.len() == 1 => Value::Nil,
            _ => Value::BulkString(line.to_vec()),
        };
        if let Some(list) = open.last_mut() {
            list.push(value);
        }
    }
    let close = |inner: Vec<Value>, mut outer: Vec<Value>| {
        outer.push(Value::Array(inner));
        outer
    };
    let mut all = open.into_iter().rev().reduce(close).unwrap_or_default();
    if all.is_empty() {
        Value::Nil
    } else {
        all.swap_remove(0)
    }
}

/// Commands that travel together; the first is an acquire, and of each kind there may be several.
fn commands(count: usize) -> Vec<Command> {
    let resource = Resource::new("r").expect("a short name");
    let owner = OwnerId::new("o").expect("a short name");
    let (token, call) = (FencingToken::new(1_000), CallId::new(7));
    let acquire = Command::Acquire {
        resource: resource.clone(),
        owner: owner.clone(),
        lease: Duration::from_secs(10),
        call,
        token,
        reserve: 3,
    };
    let release = Command::Release {
        resource: resource.clone(),
        owner: owner.clone(),
        token,
    };
    let in_turn = Command::AcquireInTurn {
        resource: resource.clone(),
        owner: owner.clone(),
        lease: Duration::from_secs(10),
        call,
        token,
        turn: Turn {
            ticket: token,
            accepted: true,
        },
    };
    let extend = Command::Extend {
        resource,
        owner,
        by: Duration::from_secs(1),
    };
    let kinds = [acquire, release, extend, Command::Ping, in_turn];
    kinds.into_iter().cycle().take(count).collect()
}

/// What an answer says in one word.
fn word<'a>(item: &'a Value, command: &Command) -> Option<&'a [u8]> {
    let items = match (item, command) {
        (Value::Int(1), Command::Acquire { .. } | Command::AcquireInTurn { .. }) => {
            return Some(b"granted");
        }
        (Value::Int(1), Command::Release { .. }) => return Some(b"released"),
        (Value::Array(items), _) => items,
        _ => return None,
    };
    match items.first()? {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn check_answers(value: &Value) {
    let items = match value {
        Value::Array(items) => items.get(1..).unwrap_or_default(),
        _ => &[],
    };
    // One answer too few or too many makes all of them doubtful.
    for count in [items.len() + 1, items.len().saturating_sub(1)] {
        let doubtful = answers(value.clone(), commands(count).iter());
        assert_eq!(doubtful.len(), count);
        for (reply, _) in doubtful {
            assert!(matches!(reply.vote, Vote::Failed(fault) if fault.maybe_done));
        }
    }
    let commands = commands(items.len());
    let all = answers(value.clone(), commands.iter());
    assert_eq!(all.len(), commands.len());
    for ((item, command), answer) in items.iter().zip(&commands).zip(all) {
        check_answer(item, command, &answer);
    }
}

fn check_answer(item: &Value, command: &Command, (reply, judge): &Answer) {
    if matches!(
        command,
        Command::Acquire { .. } | Command::AcquireInTurn { .. }
    ) {
        check_attempt(reply);
    }
    let found = word(item, command);
    let judged: [&[u8]; 4] = [b"unmarked", b"restarted", b"stepped-back", b"wild-guard"];
    let says_judge = found.is_some_and(|word| judged.contains(&word));
    assert_eq!(*judge, says_judge);
    let written = match &reply.vote {
        Vote::Failed(fault) => {
            let known = fault.kind == FaultKind::Misconfigured && found == Some(b"too-long");
            let unread = fault.kind == FaultKind::Unexpected && fault.maybe_done;
            let error = matches!(item, Value::ServerError(_)) && fault.maybe_done;
            assert!(known || unread || error, "{fault:?}");
            return;
        }
        Vote::Guarded { remaining: None } => {
            let also: [&[u8]; 2] = [b"prepared", b"guarded"];
            assert!(says_judge || found.is_some_and(|word| also.contains(&word)));
            return;
        }
        vote => write(vote),
    };
    assert_eq!(word(&written, command), found, "{reply:?} was not said");
    let time = Value::Int(reply.time.map_or(0, |time| int(time.as_micros().into())));
    let again = answers(Value::Array(vec![time, written]), [command].into_iter());
    assert_eq!(again, [(reply.clone(), false)]);
}

/// What a script answers for this vote: written down apart from the reading.
fn write(vote: &Vote) -> Value {
    let number = |token: &FencingToken| Value::Int(int(token.as_u64().into()));
    let token = |token: &Option<FencingToken>| token.as_ref().map_or(Value::Int(0), number);
    let whole = |left: &Duration| Value::Int(int(left.as_millis()));
    let millis = |left: &Option<Duration>| left.as_ref().map_or(Value::Int(-1), whole);
    let count = |count: u32| Value::Int(i64::from(count));
    let flag = |flag: &bool| Value::Int(i64::from(*flag));
    let (word, rest) = match vote {
        Vote::Granted => return Value::Int(1),
        Vote::Again {
            token: of,
            remaining,
        } => ("again", vec![number(of), whole(remaining)]),
        Vote::Held {
            remaining,
            token: of,
        } => ("held", vec![millis(remaining), token(of)]),
        Vote::Stale { floor } => ("stale", vec![number(floor)]),
        Vote::Ahead => ("ahead", vec![]),
        Vote::Guarded { remaining } => {
            let micros = remaining.map_or(-1, |left| int(left.as_micros()));
            ("guarded", vec![Value::Int(micros)])
        }
        Vote::Extended {
            token: of,
            remaining,
        } => ("extended", vec![token(of), whole(remaining)]),
        Vote::Released { token: of } => ("released", vec![token(of)]),
        Vote::Newer { token: of } => ("newer", vec![number(of)]),
        Vote::Absent => ("absent", vec![]),
        Vote::Undone { deleted } => ("undone", vec![flag(deleted)]),
        Vote::Settled { deleted } => ("settled", vec![flag(deleted)]),
        Vote::Holder {
            owner,
            remaining,
            token: of,
        } => {
            let owner = Value::BulkString(owner.as_bytes().to_vec());
            ("holder", vec![owner, millis(remaining), token(of)])
        }
        Vote::Queued { position, length } => ("queued", vec![count(*position), count(*length)]),
        Vote::TicketStale { floor } => ("ticket-stale", vec![number(floor)]),
        Vote::QueueFull { length } => ("queue-full", vec![count(*length)]),
        Vote::LeftQueue { wakes } => ("left-queue", vec![flag(wakes)]),
        Vote::Queue { length } => ("queue", vec![count(*length)]),
        Vote::Pong => ("pong", vec![]),
        Vote::Failed(fault) => panic!("{fault:?} is no word of a script"),
    };
    let word = Value::BulkString(word.as_bytes().to_vec());
    Value::Array([word].into_iter().chain(rest).collect())
}

fn int(number: u128) -> i64 {
    i64::try_from(number).expect("it was read from one")
}

/// Three nodes answer an attempt like this: it is won by grants alone, and for
/// no longer than was asked.
fn check_attempt(reply: &Reply) {
    let started = Moment::from_origin(Duration::from_hours(1));
    let now = started + Duration::from_millis(5);
    let (lease, token) = (Duration::from_secs(10), FencingToken::new(1_000));
    let mut attempt = Attempt::new(Terms {
        nodes: 3,
        lease,
        started,
        token,
        drift: Drift::default(),
        max_lease: DEFAULT_MAX_LEASE,
        min_validity: Duration::ZERO,
    });
    let mut step = Step::Wait;
    for node in 0..3 {
        step = attempt.reply(node, reply.clone(), now);
    }
    match step {
        Step::Wait => panic!("all nodes have answered"),
        Step::Won(won) => {
            assert!(won.valid_until <= started + lease);
            match &reply.vote {
                Vote::Granted => assert_eq!(won.token, token),
                Vote::Again { token, .. } => assert_eq!(won.token, *token),
                other => panic!("won by {other:?}"),
            }
        }
        Step::Lost(loss) => {
            assert_ne!(reply.vote, Vote::Granted);
            plan_on(loss, now);
        }
    }
}

fn plan_on(loss: Loss, now: Moment) {
    let mut schedule = Schedule::new(Plan {
        retries: 3,
        delay: Duration::from_millis(200),
        jitter: Duration::ZERO,
        deadline: None,
        patience: Duration::from_secs(1),
    });
    schedule.begin();
    schedule.after(loss, now, 0.5);
}

/// A marker that was read is judged without a panic, and is the same when it is
/// written and read again.
fn check_marker(value: &Value) {
    let Ok(state) = marker_state(value, RUN) else {
        return;
    };
    let facts = ServerFacts {
        run_id: RUN.to_owned(),
        ..ServerFacts::default()
    };
    let _ = judge(&facts, &state, None, 3);
    let written = write_marker(&state);
    let again = marker_state(&written, RUN);
    assert_eq!(again.as_ref(), Ok(&state), "{written:?}");
}

fn write_marker(state: &MarkerState) -> Value {
    let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let fields = state.marker.as_ref().map(marker_fields).unwrap_or_default();
    let fields = fields
        .iter()
        .flat_map(|(name, value)| [bulk(name), bulk(value)]);
    Value::Array(vec![
        Value::Int(int(state.time.as_micros().into())),
        Value::Array(fields.collect()),
    ])
}

fn marker_fields(marker: &Marker) -> Vec<(&'static str, String)> {
    let micros = |time: WallTime| time.as_micros().to_string();
    let (phase, nonce) = match &marker.phase {
        Phase::Active => ("active", String::new()),
        Phase::Prepared { nonce } => ("prepared", nonce.clone()),
    };
    vec![
        ("phase", phase.to_owned()),
        ("nonce", nonce),
        ("cluster", marker.cluster.id.clone()),
        ("nodes", marker.cluster.nodes.to_string()),
        (
            "max_lease",
            marker.cluster.max_lease.as_millis().to_string(),
        ),
        ("run", marker.run_id.clone()),
        ("voting_from", micros(marker.voting_from)),
        ("floor_base", micros(marker.floor_base)),
        ("high_water", micros(marker.high_water)),
        ("durable", u8::from(marker.durable).to_string()),
    ]
}
