//! Several independent Redis servers: the nodes of a quorum.

use std::ops::Index;
use std::thread;

use super::builder::RedisBuilder;
use super::server::RedisServer;

/// N independent servers, by index.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts `n` servers at once, which keep nothing on the disk.
    pub fn start(n: usize) -> Self {
        Self::start_with(n, |_, server| server)
    }

    /// Starts `n` servers at once, which lose nothing they have acknowledged.
    pub fn start_durable(n: usize) -> Self {
        Self::start_with(n, |_, server| server.durable())
    }

    /// Starts `n` servers at once, each with wishes of its own.
    pub fn start_with(n: usize, wishes: impl Fn(usize, RedisBuilder) -> RedisBuilder) -> Self {
        let builders: Vec<_> = (0..n).map(|i| wishes(i, RedisServer::builder())).collect();
        let servers = thread::scope(|scope| {
            let starting: Vec<_> = builders
                .into_iter()
                .map(|builder| scope.spawn(move || builder.start()))
                .collect();
            let started = starting.into_iter();
            started
                .map(|server| server.join().expect("every server starts"))
                .collect()
        });
        Self { servers }
    }

    /// Starts `n` servers at once, each with a wall clock of its own.
    pub fn start_with_clocks(n: usize) -> Self {
        Self::start_with(n, |_, server| server.with_clock())
    }

    /// The URLs in the order of the nodes.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(RedisServer::url).collect()
    }

    /// The servers in the order of the nodes.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The number of nodes.
    #[allow(clippy::len_without_is_empty, reason = "a cluster has nodes")]
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Pauses node `i` (see [`RedisServer::pause`]).
    pub fn pause(&self, i: usize) {
        self[i].pause();
    }

    /// Lets node `i` go on.
    pub fn resume(&self, i: usize) {
        self[i].resume();
    }

    /// Kills node `i` (see [`RedisServer::kill`]).
    pub fn kill(&self, i: usize) {
        self[i].kill();
    }

    /// Restarts node `i` (see [`RedisServer::restart`]).
    pub fn restart(&self, i: usize) {
        self[i].restart();
    }

    /// Throws the clock of node `i` (see [`RedisServer::set_clock_offset`]).
    pub fn set_clock_offset(&self, i: usize, ms: i64) {
        self[i].set_clock_offset(ms);
    }

    /// Lets the power of node `i` fail and return (see [`RedisServer::power_loss`]).
    pub fn power_loss(&self, i: usize) -> u64 {
        self[i].power_loss()
    }

    /// The value of `key` on every node that runs; none where it is missing or the node is killed.
    pub fn get(&self, key: &str) -> Vec<Option<String>> {
        let servers = self.servers.iter();
        servers
            .map(|server| server.pid().and_then(|_| server.get(key)))
            .collect()
    }

    /// How many running nodes hold `key` with this very value.
    pub fn count(&self, key: &str, value: &str) -> usize {
        self.get(key)
            .iter()
            .filter(|held| held.as_deref() == Some(value))
            .count()
    }
}

impl Index<usize> for RedisCluster {
    type Output = RedisServer;

    fn index(&self, i: usize) -> &RedisServer {
        &self.servers[i]
    }
}
