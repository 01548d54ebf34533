//! Hazard: nodes behind TLS, of this authority or of another, with and without it.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use everlock::{AcquireOptions, Error, Fault, FaultKind, NodeTls, Redlock, RedlockBuilder, Vote};
use everlock_testkit::{RedisCluster, SETTLED, TlsFiles, eventually};
use support::redis::locks_left;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_mins(2);

fn attempt() -> AcquireOptions {
    AcquireOptions::new().lease(30 * SECOND).retries(0)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn with_tls(nodes: usize, files: &TlsFiles, clients: &str) -> RedisCluster {
    RedisCluster::start_with(nodes, |_, server| {
        server
            .tls(&files.certificate(), &files.key(), &files.ca())
            .config("tls-auth-clients", clients)
    })
}

fn trusting(files: &TlsFiles) -> NodeTls {
    NodeTls::default().ca(read(&files.ca()))
}

async fn works(builder: RedlockBuilder, cluster: &RedisCluster) {
    let client = builder.initialise(Some(MAX_LEASE)).connect().await.unwrap();
    let grant = client.acquire("r", attempt()).await.unwrap();
    let everywhere = || async { cluster.count("r", grant.owner().as_str()) == cluster.len() };
    assert!(eventually(SETTLED, everywhere).await);
    client.extend(&grant, SECOND).await.unwrap();
    client.release(&grant).await.unwrap();
    assert!(eventually(SETTLED, || async { locks_left(cluster).is_empty() }).await);
}

/// The faults of all nodes, which must be told soon, whatever stands in the way.
async fn faults(builder: RedlockBuilder) -> Vec<Fault> {
    let started = Instant::now();
    let client = builder.connect().await.unwrap();
    let error = client.acquire("r", attempt()).await.unwrap_err();
    let took = started.elapsed();
    assert!(took < 4 * SECOND, "{took:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let votes = client.readiness().await.nodes.into_iter();
    votes
        .map(|(node, vote)| match vote {
            Vote::Failed(fault) => fault,
            other => panic!("{node} has no fault: {other}"),
        })
        .collect()
}

#[tokio::test]
async fn nodes_behind_tls_work_with_the_authority_that_signed_them() {
    let files = TlsFiles::make();
    let cluster = with_tls(3, &files, "no");
    let builder = Redlock::builder().node_urls(cluster.urls());
    works(builder.node_tls(trusting(&files)), &cluster).await;
}

#[tokio::test]
async fn nodes_that_want_a_certificate_are_shown_one() {
    let files = TlsFiles::make();
    let cluster = with_tls(3, &files, "yes");
    let identity = trusting(&files).identity(read(&files.certificate()), read(&files.key()));
    let builder = Redlock::builder().node_urls(cluster.urls());
    works(builder.node_tls(identity), &cluster).await;
    let without = Redlock::builder().node_urls(cluster.urls());
    let without = without.node_tls(trusting(&files));
    assert_eq!(faults(without).await.len(), 3);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_a_fault_and_no_hang() {
    let (files, others) = (TlsFiles::make(), TlsFiles::make());
    let cluster = with_tls(3, &files, "no");
    for tls in [trusting(&others), NodeTls::default()] {
        let builder = Redlock::builder().node_urls(cluster.urls());
        for fault in faults(builder.node_tls(tls)).await {
            assert!(
                matches!(fault.kind, FaultKind::Unreachable | FaultKind::Disconnected),
                "{fault:?}"
            );
            assert!(fault.detail.contains("certificate"), "{fault}");
        }
    }
}

#[tokio::test]
async fn tls_to_a_plain_server_and_plain_to_a_tls_server_are_faults_and_no_hang() {
    let files = TlsFiles::make();
    let (plain, secure) = (RedisCluster::start(3), with_tls(3, &files, "no"));
    let secured = |url: String| url.replace("redis://", "rediss://");
    let to_plain = Redlock::builder().node_urls(plain.urls().into_iter().map(secured));
    faults(to_plain.node_tls(trusting(&files))).await;
    let unsecured = |url: String| url.replace("rediss://", "redis://");
    faults(Redlock::builder().node_urls(secure.urls().into_iter().map(unsecured))).await;
}
