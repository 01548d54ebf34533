//! File descriptors: as many as the connections that are allowed, else fewer connections.
//!
//! Shells and service managers commonly start with a soft limit of 1,024, far
//! below what the kernel allows the process to ask for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The nodes' connections, the log and the runtime's own.
const BESIDES: u64 = 64;

/// Raises the soft limit as far as is needed and allowed. Returns how many of these connections
/// there is then room for beside operators' ones: more would take the descriptors that connections
/// to nodes need.
pub(super) fn allow(connections: usize, operators: usize) -> usize {
    let count = |connections| u64::try_from(connections).unwrap_or(u64::MAX);
    let besides = count(operators).saturating_add(BESIDES);
    let wanted = count(connections).saturating_add(besides);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return connections;
    }
    let raised = Rlimit {
        current: Some(maximum.map_or(wanted, |maximum| maximum.min(wanted))),
        maximum,
    };
    // Whether it worked is seen by what holds then.
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(wanted);
    if limit >= wanted {
        return connections;
    }
    let room = usize::try_from(limit.saturating_sub(besides)).unwrap_or(usize::MAX);
    let room = room.clamp(1, connections);
    tracing::warn!(
        limit,
        wanted,
        room,
        "fewer file descriptors than --max-connections needs: connections beyond their room wait"
    );
    room
}
