//! What Redis errors mean: faults of a node, never a word about a lock.

use redis::RedisError;

use crate::core::quorum::{Fault, FaultKind};

/// Details are cut here: they are for people.
const MAX_DETAIL: usize = 200;

/// Error codes that have a meaning of their own.
const CODES: [(&str, FaultKind); 10] = [
    ("LOADING", FaultKind::Loading),
    ("READONLY", FaultKind::ReadOnly),
    ("MISCONF", FaultKind::Misconf),
    ("OOM", FaultKind::OutOfMemory),
    ("NOAUTH", FaultKind::NotAuthenticated),
    ("WRONGPASS", FaultKind::NotAuthenticated),
    ("NOPERM", FaultKind::NoPermission),
    ("NOREPLICAS", FaultKind::Misconf),
    ("MASTERDOWN", FaultKind::ReadOnly),
    ("CLUSTERDOWN", FaultKind::Misconfigured),
];

/// What Redis 7 says in place of NOPERM where a script's command is not permitted.
const SCRIPT_NOT_PERMITTED: &str = "can't run this command or subcommand";

/// A fault of a command that was sent: it may have been done.
pub(super) fn of_reply(error: &RedisError) -> Fault {
    Fault::unknown(kind(error), detail(error))
}

/// A fault before anything was sent.
pub(super) fn of_connect(error: &RedisError) -> Fault {
    let kind = match kind(error) {
        FaultKind::Disconnected | FaultKind::Unexpected if error.is_connection_refusal() => {
            FaultKind::Refused
        }
        FaultKind::Disconnected => FaultKind::Unreachable,
        kind => kind,
    };
    Fault::unsent(kind, detail(error))
}

/// Whether the connection can't be used any longer.
pub(super) fn breaks_connection(error: &RedisError) -> bool {
    error.is_unrecoverable_error() || error.is_io_error() || error.is_timeout()
}

fn kind(error: &RedisError) -> FaultKind {
    if let Some(code) = error.code()
        && let Some((_, kind)) = CODES.iter().find(|(known, _)| *known == code)
    {
        return *kind;
    }
    // Redis before 7 reports what a script ran into within the error's text.
    let text = error.detail().unwrap_or_default();
    if let Some((_, kind)) = CODES
        .iter()
        .find(|(code, _)| text.contains(&format!("-{code} ")))
    {
        return *kind;
    }
    if text.contains(SCRIPT_NOT_PERMITTED) {
        return FaultKind::NoPermission;
    }
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => FaultKind::NotAuthenticated,
        _ if error.is_connection_refusal() => FaultKind::Refused,
        _ if error.is_timeout() => FaultKind::Timeout,
        _ if error.is_connection_dropped() || error.is_io_error() => FaultKind::Disconnected,
        _ => FaultKind::Unexpected,
    }
}

fn detail(error: &RedisError) -> String {
    let mut text = error.to_string();
    if let Some((end, _)) = text.char_indices().nth(MAX_DETAIL) {
        text.truncate(end);
    }
    text
}
