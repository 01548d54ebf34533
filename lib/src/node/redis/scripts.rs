//! The scripts, how commands become calls of them, and replies become votes.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::core::command::Command;
use crate::core::marker::{
    ClusterInfo, FLOOR_RETENTION, FLOOR_SLACK, Marker, MarkerCommand, MarkerState, Phase,
};
use crate::core::quorum::{Fault, FaultKind, Reply, Vote};
use crate::core::time::{WallTime, millis_ceil};
use crate::core::token::FencingToken;
use crate::core::types::{OwnerId, Resource};

/// The key of a node's marker; no resource can have it, for its `~`.
const MARKER_KEY: &str = "everlock~marker";
/// What the marker said less than a second ago, in one string.
const GATE_KEY: &str = "everlock~gate";

/// A script's text, and the hash by which a server knows it.
struct Script {
    code: String,
    hash: String,
}

impl Script {
    fn of(parts: &[&str]) -> Self {
        let code = parts.join("\n");
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash }
    }
}

macro_rules! scripts {
    ($($name:ident = $($file:literal)+;)+) => {
        $(static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::of(&[$(include_str!(concat!("../scripts/", $file))),+])
        });)+

        /// The calls that load every script into a server.
        pub(super) fn load_all() -> Vec<Cmd> {
            let load = |script: &Script| {
                let mut cmd = Cmd::new();
                cmd.arg("SCRIPT").arg("LOAD").arg(&script.code);
                cmd
            };
            vec![$(load(&$name)),+]
        }
    };
}
scripts! {
    ACQUIRE = "gate.lua" "acquire.lua";
    EXTEND = "gate.lua" "extend.lua";
    PING = "gate.lua" "ping.lua";
    RELEASE = "release.lua";
    UNDO = "undo.lua" "raise_floor.lua";
    SETTLE = "settle.lua" "raise_floor.lua";
    INSPECT = "inspect.lua";
    MARKER = "marker.lua";
}

/// A token as the scripts keep it: all of one length, so that text compares as numbers do.
fn digits(token: FencingToken) -> String {
    format!("{:016}", token.as_u64())
}

/// When a floor may be forgotten, in milliseconds of the node's clock.
fn fence_expiry(floor: FencingToken) -> u64 {
    let expires = WallTime::from_micros(floor.as_u64())
        .plus(FLOOR_RETENTION)
        .plus(FLOOR_SLACK);
    expires.as_micros().div_ceil(1_000)
}

/// The call of one command's script.
pub(super) fn call(command: &Command, run_id: &str) -> Cmd {
    match command {
        Command::Acquire {
            resource,
            owner,
            lease,
            call,
            token,
        } => {
            let (token_digits, id) = (digits(*token), owner.as_str());
            let length = id.len();
            let attempt = call.attempt();
            let fence = format!("{token_digits} {token_digits} {length:03} {id} {call}:{attempt}");
            let mut cmd = voting(&ACQUIRE, resource, run_id, owner);
            cmd.arg(millis_ceil(*lease))
                .arg(call.to_string())
                .arg(token_digits);
            cmd.arg(fence).arg(fence_expiry(*token)).arg(attempt);
            cmd
        }
        Command::Extend {
            resource,
            owner,
            by,
        } => {
            let mut cmd = voting(&EXTEND, resource, run_id, owner);
            cmd.arg(millis_ceil(*by));
            cmd
        }
        Command::Release {
            resource,
            owner,
            token,
        } => {
            let mut cmd = evalsha(&RELEASE, 2);
            cmd.arg(resource.as_str()).arg(resource.fence_key());
            cmd.arg(owner.as_str()).arg(digits(*token));
            cmd
        }
        Command::Undo {
            resource,
            owner,
            call,
            token,
        } => {
            let mut cmd = clearing(&UNDO, resource, owner, &call.to_string(), *token);
            cmd.arg(call.attempt());
            cmd
        }
        Command::Settle {
            resource,
            owner,
            token,
        } => clearing(&SETTLE, resource, owner, "", *token),
        Command::Inspect { resource } => {
            let mut cmd = evalsha(&INSPECT, 2);
            cmd.arg(resource.as_str()).arg(resource.fence_key());
            cmd
        }
        Command::Ping => {
            let mut cmd = evalsha(&PING, 2);
            cmd.arg(GATE_KEY).arg(MARKER_KEY).arg(run_id);
            cmd
        }
    }
}

fn evalsha(script: &Script, keys: usize) -> Cmd {
    let mut cmd = Cmd::with_capacity(16, 512);
    cmd.arg("EVALSHA").arg(&script.hash).arg(keys);
    cmd
}

/// A call of a script that begins with the gate.
fn voting(script: &Script, resource: &Resource, run_id: &str, owner: &OwnerId) -> Cmd {
    let mut cmd = evalsha(script, 4);
    cmd.arg(GATE_KEY)
        .arg(MARKER_KEY)
        .arg(resource.as_str())
        .arg(resource.fence_key());
    cmd.arg(run_id).arg(owner.as_str());
    cmd
}

/// A call of a script that ends with raising the floor.
fn clearing(
    script: &Script,
    resource: &Resource,
    owner: &OwnerId,
    call: &str,
    token: FencingToken,
) -> Cmd {
    let mut cmd = evalsha(script, 3);
    cmd.arg(MARKER_KEY)
        .arg(resource.as_str())
        .arg(resource.fence_key());
    cmd.arg(owner.as_str())
        .arg(call)
        .arg(digits(token))
        .arg(fence_expiry(token));
    cmd
}

/// The call that reads or changes the marker.
pub(super) fn mark(command: &MarkerCommand, run_id: &str) -> Cmd {
    let mut cmd = evalsha(&MARKER, 2);
    cmd.arg(MARKER_KEY).arg(GATE_KEY).arg(run_id);
    let name_cluster = |cmd: &mut Cmd, cluster: &ClusterInfo| {
        cmd.arg(&cluster.id)
            .arg(cluster.nodes)
            .arg(millis_ceil(cluster.max_lease));
    };
    match command {
        MarkerCommand::Read => {
            cmd.arg("read");
        }
        MarkerCommand::Prepare {
            cluster,
            nonce,
            durable,
        } => {
            cmd.arg("prepare").arg(nonce).arg(u8::from(*durable));
            name_cluster(&mut cmd, cluster);
        }
        MarkerCommand::Activate { nonce } => {
            cmd.arg("activate").arg(nonce);
        }
        MarkerCommand::Guard {
            cluster,
            started,
            durable,
        } => {
            let started = started.map_or_else(String::new, |time| time.as_micros().to_string());
            cmd.arg("guard").arg(started).arg(u8::from(*durable));
            name_cluster(&mut cmd, cluster);
        }
    }
    cmd
}

/// A script's reply, and whether it says that the marker must be judged anew.
pub(super) fn vote(value: &Value) -> (Reply, bool) {
    parse_vote(value).unwrap_or_else(|| {
        let fault = Fault::unknown(FaultKind::Unexpected, "a script's reply can't be read");
        (Reply::failed(fault), false)
    })
}

/// What scripts that don't ask for the time say in its place.
const NO_TIME: WallTime = WallTime::from_micros(0);

fn parse_vote(value: &Value) -> Option<(Reply, bool)> {
    let Value::Array(items) = value else {
        return None;
    };
    let time = Some(WallTime::from_micros(number(items.first()?)?)).filter(|time| *time > NO_TIME);
    let word = text(items.get(1)?)?;
    let argument = |index: usize| items.get(2 + index).and_then(number);
    let token = |index| argument(index).map(FencingToken::new);
    let granted = |index| token(index).filter(|token| *token > FencingToken::ZERO);
    let millis = |index| argument(index).map(Duration::from_millis);
    let vote = match word {
        "granted" => Vote::Granted,
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
            owner: String::from_utf8_lossy(bytes(items.get(2)?)?).into(),
            remaining: millis(1),
            token: granted(2),
        },
        "pong" => Vote::Pong,
        "guarded" => {
            let remaining = argument(0).map(Duration::from_micros);
            return Some((
                Reply {
                    time,
                    vote: Vote::Guarded { remaining },
                },
                false,
            ));
        }
        "prepared" => {
            return Some((
                Reply {
                    time,
                    vote: Vote::Guarded { remaining: None },
                },
                false,
            ));
        }
        "unmarked" | "restarted" | "stepped-back" | "wild-guard" => {
            return Some((
                Reply {
                    time,
                    vote: Vote::Guarded { remaining: None },
                },
                true,
            ));
        }
        _ => return None,
    };
    Some((Reply { time, vote }, false))
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
    };
    Some(MarkerState {
        time,
        run_id,
        marker: Some(marker),
    })
}

/// Whether a reply says that the server does not know the script.
pub(super) fn wants_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
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
