//! Processor time and commands, of this process and of the nodes.

use everlock_testkit::{RedisCluster, RedisServer};

/// What was used since it was started.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    own: u64,
    nodes: u64,
    calls: &'static [&'static str],
    commands: u64,
}

impl Meter {
    /// Starts one, for a client that sends these commands: what its scripts call
    /// themselves is no command of its own, though the server counts it.
    #[must_use]
    pub fn start(nodes: &RedisCluster, calls: &'static [&'static str]) -> Self {
        Self {
            own: cpu_nanos("self"),
            nodes: Self::nodes_nanos(nodes),
            calls,
            commands: commands(nodes, calls),
        }
    }

    /// Microseconds of processor time that this process used since then.
    #[must_use]
    pub fn own_micros(&self) -> u64 {
        (cpu_nanos("self") - self.own) / 1_000
    }

    /// Microseconds that the nodes used, together.
    #[must_use]
    pub fn nodes_micros(&self, nodes: &RedisCluster) -> u64 {
        (Self::nodes_nanos(nodes) - self.nodes) / 1_000
    }

    /// Commands that the nodes were sent, together.
    #[must_use]
    pub fn commands(&self, nodes: &RedisCluster) -> u64 {
        commands(nodes, self.calls) - self.commands
    }

    /// Nanoseconds of processor time that a process has used so far.
    #[must_use]
    pub fn process_nanos(pid: u32) -> u64 {
        cpu_nanos(&pid.to_string())
    }

    fn nodes_nanos(nodes: &RedisCluster) -> u64 {
        let pids = nodes.servers().iter().filter_map(RedisServer::pid);
        pids.map(Self::process_nanos).sum()
    }
}

/// The scheduler's own account, which is exact where `stat` counts ticks.
fn cpu_nanos(process: &str) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return 0;
    };
    let of = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.filter_map(of).sum()
}

fn commands(nodes: &RedisCluster, names: &[&str]) -> u64 {
    // A node that stands still is asked nothing.
    if names.is_empty() {
        return 0;
    }
    let of = |node: &RedisServer| {
        let stats = node.command(&["INFO", "commandstats"]);
        let calls = |name: &&str| {
            let line = stats.lines().find_map(|line| {
                let rest = line.strip_prefix("cmdstat_")?.strip_prefix(*name)?;
                rest.strip_prefix(":calls=")
            });
            let number = line.and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
            number.unwrap_or(0)
        };
        names.iter().map(calls).sum::<u64>()
    };
    nodes.servers().iter().map(of).sum()
}
