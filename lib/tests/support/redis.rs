//! Clients of real servers, and what is left on them.

use std::time::Duration;

use everlock::cluster::Cluster;
use everlock::{ConfigError, Redlock, RedlockBuilder};
use everlock_testkit::{RedisCluster, RedisServer};

/// A client's configuration for these servers.
pub(crate) fn builder(cluster: &RedisCluster) -> RedlockBuilder {
    Redlock::builder().node_urls(cluster.urls())
}

/// A client of these servers, opened for voting if they were not.
pub(crate) async fn client(cluster: &RedisCluster, max_lease: Duration) -> Redlock {
    let builder = builder(cluster).initialise(Some(max_lease));
    builder.connect().await.unwrap()
}

/// These servers as an operator sees them.
pub(crate) fn operator<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> Cluster {
    Redlock::builder().node_urls(urls).cluster().unwrap()
}

/// Why a client can't connect to these URLs.
pub(crate) async fn refusal<U: Into<String>>(urls: impl IntoIterator<Item = U>) -> ConfigError {
    let connected = Redlock::builder().node_urls(urls).connect().await;
    connected.expect_err("this can't work")
}

/// The keys of locks on one server: without floors, markers and the like.
pub(crate) fn locks_on(server: &RedisServer) -> Vec<String> {
    let mut keys = server.keys();
    keys.retain(|key| !key.contains('~'));
    keys
}

/// The keys of locks on all servers.
pub(crate) fn locks_left(cluster: &RedisCluster) -> Vec<String> {
    cluster.servers().iter().flat_map(locks_on).collect()
}
