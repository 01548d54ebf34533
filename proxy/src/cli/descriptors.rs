//! File descriptors: as many as the connections that are allowed.
//!
//! Shells and service managers commonly start with a soft limit of 1,024, far
//! below what the kernel allows the process to ask for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The nodes' connections, the log and the runtime's own.
const BESIDES: u64 = 64;

/// Raises the soft limit as far as is needed and allowed.
pub(super) fn allow(connections: usize) {
    let wanted = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(BESIDES);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let reachable = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = Rlimit {
        current: Some(reachable),
        maximum,
    };
    let outcome = setrlimit(Resource::Nofile, raised);
    if reachable < wanted || outcome.is_err() {
        let limit = getrlimit(Resource::Nofile).current;
        tracing::warn!(
            limit,
            wanted,
            "fewer file descriptors than --max-connections needs: connections beyond them wait"
        );
    }
}
