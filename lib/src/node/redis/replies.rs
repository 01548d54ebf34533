//! What scripts reply, read as votes and markers.

use std::time::Duration;

use redis::Value;

use super::calls::JUMPED;
use super::faults;
use crate::core::clocks::{Baseline, ClockRecord};
use crate::core::command::Command;
use crate::core::marker::{Cause, ClusterInfo, Marker, MarkerState, Phase};
use crate::core::quorum::{Fault, FaultKind, Reply, Vote};
use crate::core::time::WallTime;
use crate::core::token::FencingToken;

/// A vote, and whether the marker must be judged anew for it.
pub(super) type Answer = (Reply, bool);

/// A script's reply to these commands, one answer for each.
pub(super) fn answers<'a>(
    value: Value,
    commands: impl ExactSizeIterator<Item = &'a Command>,
) -> Vec<Answer> {
    let fault = match value {
        Value::Array(items) if items.len() == 1 + commands.len() => {
            let mut items = items.into_iter();
            let clock = items.next().as_ref().and_then(number);
            let time = clock.filter(|clock| *clock > 0).map(WallTime::from_micros);
            let answer = |(value, command)| answer(value, time, command).unwrap_or_else(unreadable);
            return items.zip(commands).map(answer).collect();
        }
        Value::ServerError(error) => faults::of_reply(&error.into()),
        _ => return commands.map(|_| unreadable()).collect(),
    };
    let failed = || (Reply::failed(fault.clone()), false);
    commands.map(|_| failed()).collect()
}

fn unreadable() -> Answer {
    let fault = Fault::unknown(FaultKind::Unexpected, "a script's reply can't be read");
    (Reply::failed(fault), false)
}

fn answer(value: Value, time: Option<WallTime>, command: &Command) -> Option<Answer> {
    let items = match (value, command) {
        // The answers that are given most often, in their shortest form.
        (Value::Int(1), Command::Acquire { .. } | Command::AcquireInTurn { .. }) => {
            let vote = Vote::Granted;
            return Some((Reply { time, vote }, false));
        }
        (
            Value::Int(1),
            Command::Release { token, .. }
            | Command::PassOn { token, .. }
            | Command::ReleaseInTurn { token, .. },
        ) => {
            let vote = Vote::Released {
                token: Some(*token),
            };
            return Some((Reply { time, vote }, false));
        }
        (Value::Array(items), _) => items,
        (Value::ServerError(error), _) => {
            return Some((Reply::failed(faults::of_reply(&error.into())), false));
        }
        _ => return None,
    };
    let argument = |index: usize| items.get(1 + index).and_then(number);
    let token = |index| argument(index).map(FencingToken::new);
    let granted = |index| token(index).filter(|token| *token > FencingToken::ZERO);
    let count = |index| argument(index).and_then(|count| u32::try_from(count).ok());
    let millis = |index| argument(index).map(Duration::from_millis);
    let mut judge = false;
    let vote = match text(items.first()?)? {
        "again" => Vote::Again {
            token: token(0)?,
            remaining: millis(1)?,
        },
        "held" => Vote::Held {
            remaining: millis(0),
            token: granted(1),
        },
        "stale" => Vote::Stale { floor: token(0)? },
        "ahead" => Vote::Ahead,
        "too-long" => Vote::Failed(Fault::unsent(
            FaultKind::Misconfigured,
            "the lease is above the cluster's maximum",
        )),
        "extended" => Vote::Extended {
            token: granted(0),
            remaining: millis(1)?,
        },
        "released" => Vote::Released { token: granted(0) },
        "newer" => Vote::Newer { token: token(0)? },
        "absent" => Vote::Absent,
        "undone" => Vote::Undone {
            deleted: argument(0)? == 1,
        },
        "settled" => Vote::Settled {
            deleted: argument(0)? == 1,
        },
        "holder" => Vote::Holder {
            owner: String::from_utf8_lossy(bytes(items.get(1)?)?).into(),
            remaining: millis(1),
            token: granted(2),
        },
        "queued" => Vote::Queued {
            position: count(0)?,
            length: count(1)?,
        },
        "ticket-stale" => Vote::TicketStale { floor: token(0)? },
        "queue-full" => Vote::QueueFull { length: count(0)? },
        "left-queue" => Vote::LeftQueue {
            wakes: argument(0)? == 1,
        },
        "queue" => Vote::Queue { length: count(0)? },
        "pong" => Vote::Pong,
        "guarded" => Vote::Guarded {
            remaining: argument(0).map(Duration::from_micros),
        },
        "prepared" => Vote::Guarded { remaining: None },
        "unmarked" | "restarted" | "stepped-back" | "wild-guard" => {
            judge = true;
            Vote::Guarded { remaining: None }
        }
        _ => return None,
    };
    Some((Reply { time, vote }, judge))
}

/// The marker script's reply.
pub(super) fn marker_state(value: &Value, run_id: &str) -> Result<MarkerState, Fault> {
    parse_marker(value, run_id)
        .ok_or_else(|| Fault::unknown(FaultKind::Unexpected, "the node's marker can't be read"))
}

fn parse_marker(value: &Value, run_id: &str) -> Option<MarkerState> {
    let Value::Array(items) = value else {
        return None;
    };
    let time = WallTime::from_micros(number(items.first()?)?);
    let run_id = run_id.to_owned();
    let Value::Array(fields) = items.get(1)? else {
        return None;
    };
    if fields.is_empty() {
        return Some(MarkerState {
            time,
            run_id,
            marker: None,
        });
    }
    let field = |name: &str| {
        let pair = fields
            .chunks_exact(2)
            .find(|pair| text(&pair[0]) == Some(name))?;
        text(&pair[1])
    };
    let micros = |name| field(name)?.parse().ok().map(WallTime::from_micros);
    let phase = match field("phase")? {
        "active" => Phase::Active,
        _ => Phase::Prepared {
            nonce: field("nonce")?.to_owned(),
        },
    };
    let marker = Marker {
        cluster: ClusterInfo {
            id: field("cluster")?.to_owned(),
            nodes: field("nodes")?.parse().ok()?,
            max_lease: Duration::from_millis(field("max_lease")?.parse().ok()?),
        },
        phase,
        run_id: field("run")?.to_owned(),
        voting_from: micros("voting_from")?,
        floor_base: micros("floor_base")?,
        high_water: micros("high_water")?,
        durable: field("durable")? == "1",
        clock: ClockRecord {
            era: micros("clock_era")?,
            first: field("clock_first").and_then(baseline),
            baseline: field("clock").and_then(baseline),
        },
        cause: field("cause").and_then(cause),
    };
    Some(MarkerState {
        time,
        run_id,
        marker: Some(marker),
    })
}

/// `offset width at`, in microseconds.
fn baseline(text: &str) -> Option<Baseline> {
    let mut parts = text.split(' ');
    Some(Baseline {
        offset: parts.next()?.parse().ok()?,
        width: parts.next()?.parse().ok()?,
        at: WallTime::from_micros(parts.next()?.parse().ok()?),
    })
}

fn cause(text: &str) -> Option<Cause> {
    match text.split_once(' ') {
        Some((JUMPED, by)) => Some(Cause::Jumped {
            by: by.parse().ok()?,
        }),
        _ => match text {
            "lost" => Some(Cause::Lost),
            "restarted" => Some(Cause::Restarted),
            "stepped-back" => Some(Cause::SteppedBack),
            _ => None,
        },
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}
