//! Servers behind TLS, and clients that must get on with whatever secures servers.

use std::path::Path;

use everlock::{NodeTls, RedlockBuilder};
use everlock_testkit::{RedisCluster, SETTLED, TlsFiles, eventually};

use super::redis::locks_left;
use super::turns::{MAX_LEASE, SECOND, attempt};

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

pub(crate) fn with_tls(nodes: usize, files: &TlsFiles, clients: &str) -> RedisCluster {
    RedisCluster::start_with(nodes, |_, server| {
        server
            .tls(&files.certificate(), &files.key(), &files.ca())
            .config("tls-auth-clients", clients)
    })
}

pub(crate) fn trusting(files: &TlsFiles) -> NodeTls {
    NodeTls::default().ca(read(&files.ca()))
}

pub(crate) async fn works(builder: RedlockBuilder, cluster: &RedisCluster) {
    let client = builder.initialise(Some(MAX_LEASE)).connect().await.unwrap();
    let grant = client.acquire("r", attempt()).await.unwrap();
    let everywhere = || async { cluster.count("r", grant.owner().as_str()) == cluster.len() };
    assert!(eventually(SETTLED, everywhere).await);
    client.extend(&grant, SECOND).await.unwrap();
    client.release(&grant).await.unwrap();
    assert!(eventually(SETTLED, || async { locks_left(cluster).is_empty() }).await);
}
