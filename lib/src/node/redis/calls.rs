//! How commands become calls of the scripts.

use redis::{Cmd, RedisWrite, Value};

use super::scripts::{
    EXTEND, INSPECT, LEAVE_QUEUE, LOCKS, MARKER, PASS, PASS_IN_TURN, PING, QUEUE, RELEASE_IN_TURN,
    RELEASES, SETTLE, Script, TURN, UNDO,
};
use crate::core::clocks::{Baseline, ClockStep};
use crate::core::command::{Command, Turn};
use crate::core::marker::{ClusterInfo, FLOOR_RETENTION, FLOOR_SLACK, MarkerCommand};
use crate::core::time::{WallTime, millis_ceil};
use crate::core::token::FencingToken;
use crate::core::types::{CallId, OwnerId, Resource};

/// The key of a node's marker; no resource can have it, for its `~`.
const MARKER_KEY: &str = "everlock~marker";
/// Where a server tells that a lock was let go: this, and the lock's name.
pub(super) const CHANNEL: &str = "everlock~free:";
/// What the marker said less than a second ago, in one string.
const GATE_KEY: &str = "everlock~gate";

/// How the marker names a jump of its clock, before the microseconds.
pub(super) const JUMPED: &str = "jumped";

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

/// The call of the script for commands that share it; most have one to themselves.
pub(super) fn call(commands: &[&Command], run_id: &str) -> Cmd {
    let command = match commands {
        [command] => command,
        [release, next]
            if !matches!(release, Command::Acquire { .. })
                && release.resource() == next.resource() =>
        {
            return pass(release, next, run_id);
        }
        _ => return locks(commands, run_id),
    };
    match command {
        Command::Extend {
            resource,
            owner,
            by,
        } => {
            let mut cmd = voting(&EXTEND, resource, run_id);
            cmd.arg(owner.as_str()).arg(millis_ceil(*by));
            cmd
        }
        Command::Acquire { .. } | Command::Release { .. } | Command::PassOn { .. } => {
            locks(commands, run_id)
        }
        Command::Undo {
            resource,
            owner,
            call,
            token,
            aloud,
        } => {
            let mut cmd = clearing(&UNDO, resource, owner, *token);
            cmd.write_arg_fmt(call);
            cmd.arg(call.attempt());
            if *aloud {
                cmd.arg("aloud");
            }
            cmd
        }
        Command::Settle {
            resource,
            owner,
            token,
        } => clearing(&SETTLE, resource, owner, *token),
        Command::Inspect { resource } => {
            let mut cmd = evalsha(&INSPECT, 2);
            cmd.arg(resource.as_str())
                .arg(resource.fence_key().to_string());
            cmd
        }
        Command::AcquireInTurn { resource, .. } => {
            let mut cmd = in_line(&TURN, resource, run_id);
            acquire(&mut cmd, command);
            cmd
        }
        Command::Stand {
            resource,
            call,
            turn,
        } => {
            let mut cmd = in_line(&TURN, resource, run_id);
            stand(&mut cmd, *call, *turn);
            cmd
        }
        Command::LeaveQueue {
            resource,
            call,
            ticket,
        } => {
            let mut cmd = evalsha(&LEAVE_QUEUE, 5);
            cmd.arg(MARKER_KEY).arg(resource.as_str());
            line(&mut cmd, resource);
            cmd.arg(call.to_string())
                .arg(digits(*ticket))
                .arg(fence_expiry(*ticket));
            cmd
        }
        Command::ReleaseInTurn { resource, .. } => {
            let mut cmd = in_line(&RELEASE_IN_TURN, resource, run_id);
            release(&mut cmd, command);
            leave(&mut cmd, command);
            cmd
        }
        Command::Queue { resource } => {
            let mut cmd = evalsha(&QUEUE, 1);
            cmd.arg(resource.beats_key().to_string());
            cmd
        }
        Command::Ping => {
            let mut cmd = evalsha(&PING, 2);
            cmd.arg(GATE_KEY).arg(MARKER_KEY).arg(run_id);
            cmd
        }
    }
}

/// The call that acquires and releases several locks, of which no two are the same:
/// first all that are acquired.
fn locks(commands: &[&Command], run_id: &str) -> Cmd {
    let votes = matches!(commands.first(), Some(Command::Acquire { .. }));
    let mut cmd = Cmd::with_capacity(6 + 4 * commands.len(), 128 + 256 * commands.len());
    let (script, own_keys) = if votes { (&LOCKS, 2) } else { (&RELEASES, 0) };
    cmd.arg("EVALSHA")
        .arg(script.hash())
        .arg(own_keys + 2 * commands.len());
    if votes {
        cmd.arg(GATE_KEY).arg(MARKER_KEY);
    }
    for resource in commands.iter().filter_map(|command| command.resource()) {
        cmd.arg(resource.as_str());
        cmd.write_arg_fmt(resource.fence_key());
    }
    if votes {
        cmd.arg(run_id);
    }
    for command in commands {
        release(&mut cmd, command);
        acquire(&mut cmd, command);
    }
    cmd
}

/// The call that releases a lock and acquires it for whoever is next.
fn pass(released: &Command, next: &Command, run_id: &str) -> Cmd {
    let resource = released.resource().expect("releases have a lock");
    let mut cmd = if matches!(released, Command::ReleaseInTurn { .. }) {
        in_line(&PASS_IN_TURN, resource, run_id)
    } else {
        voting(&PASS, resource, run_id)
    };
    release(&mut cmd, released);
    acquire(&mut cmd, next);
    leave(&mut cmd, released);
    cmd
}

/// The attempt of an acquire, as the rules of locks have it, and where it stands in line.
fn acquire(cmd: &mut Cmd, command: &Command) {
    let (Command::Acquire {
        owner,
        lease,
        call,
        token,
        ..
    }
    | Command::AcquireInTurn {
        owner,
        lease,
        call,
        token,
        ..
    }) = command
    else {
        return;
    };
    let last = match command {
        Command::Acquire { reserve, .. } => token.plus(*reserve).as_u64(),
        _ => token.as_u64(),
    };
    let (token, id, attempt) = (token.as_u64(), owner.as_str(), call.attempt());
    cmd.arg(millis_ceil(*lease));
    let length = id.len();
    cmd.write_arg_fmt(format_args!(
        "{last:016} {token:016} {length:03} {id} {call}:{attempt}"
    ));
    if let Command::AcquireInTurn { turn, .. } = command {
        stand(cmd, *call, *turn);
    }
}

/// A release, by what a fence says of the grant; silently, if nobody is to be told.
fn release(cmd: &mut Cmd, command: &Command) {
    let (Command::Release { owner, token, .. }
    | Command::PassOn { owner, token, .. }
    | Command::ReleaseInTurn { owner, token, .. }) = command
    else {
        return;
    };
    let silent = matches!(command, Command::PassOn { .. });
    let (token, id) = (token.as_u64(), owner.as_str());
    let (length, aloud) = (id.len(), if silent { "-" } else { "" });
    cmd.write_arg_fmt(format_args!("{aloud}{token:016} {length:03} {id}"));
}

/// The place in line that is left with a release.
fn leave(cmd: &mut Cmd, command: &Command) {
    if let Command::ReleaseInTurn { call, ticket, .. } = command {
        cmd.write_arg_fmt(call);
        cmd.arg(digits(*ticket)).arg(fence_expiry(*ticket));
    }
}

/// The head of a call about a place in line.
fn in_line(script: &Script, resource: &Resource, run_id: &str) -> Cmd {
    let mut cmd = evalsha(script, 7);
    cmd.arg(GATE_KEY).arg(MARKER_KEY).arg(resource.as_str());
    cmd.write_arg_fmt(resource.fence_key());
    line(&mut cmd, resource);
    cmd.arg(run_id);
    cmd
}

/// The keys of a resource's line.
fn line(cmd: &mut Cmd, resource: &Resource) {
    cmd.write_arg_fmt(resource.queue_key());
    cmd.write_arg_fmt(resource.beats_key());
    cmd.write_arg_fmt(resource.ticket_key());
}

fn stand(cmd: &mut Cmd, call: CallId, turn: Turn) {
    let known = if turn.accepted {
        "accepted"
    } else {
        "proposed"
    };
    cmd.write_arg_fmt(call);
    cmd.arg(digits(turn.ticket))
        .arg(known)
        .arg(fence_expiry(turn.ticket));
}

fn evalsha(script: &Script, keys: usize) -> Cmd {
    let mut cmd = Cmd::with_capacity(16, 512);
    cmd.arg("EVALSHA").arg(script.hash()).arg(keys);
    cmd
}

/// A call of a script that begins with the gate.
fn voting(script: &Script, resource: &Resource, run_id: &str) -> Cmd {
    let mut cmd = evalsha(script, 4);
    cmd.arg(GATE_KEY).arg(MARKER_KEY).arg(resource.as_str());
    cmd.write_arg_fmt(resource.fence_key());
    cmd.arg(run_id);
    cmd
}

/// A call of a script that ends with raising the floor.
fn clearing(script: &Script, resource: &Resource, owner: &OwnerId, token: FencingToken) -> Cmd {
    let mut cmd = evalsha(script, 3);
    cmd.arg(MARKER_KEY)
        .arg(resource.as_str())
        .arg(resource.fence_key().to_string());
    cmd.arg(owner.as_str())
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
            over,
            durable,
        } => {
            cmd.arg("prepare").arg(nonce).arg(u8::from(*durable));
            name_cluster(&mut cmd, cluster);
            cmd.arg(over.as_deref().unwrap_or_default());
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
        MarkerCommand::Clock {
            era,
            baseline,
            step,
        } => {
            let step = match step {
                ClockStep::Refresh => "refresh".to_owned(),
                ClockStep::Rebase => "rebase".to_owned(),
                ClockStep::Jumped { by } => format!("{JUMPED} {by}"),
            };
            let Baseline { offset, width, at } = baseline;
            let at = at.as_micros();
            cmd.arg("clock").arg(era.as_micros());
            cmd.arg(format!("{offset} {width} {at}")).arg(step);
        }
    }
    cmd
}

/// Whether a call was refused for its keys, before any of it was done.
pub(super) fn was_not_permitted(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOPERM")
}

/// Whether a reply says that the server does not know the script.
pub(super) fn wants_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
