//! Turns on real servers, of which some answer with faults.

use std::time::Duration;

use everlock::{AcquireOptions, Error, Fault, NodeId, Redlock, Vote};
use everlock_testkit::{RedisCluster, eventually};
use tokio::time::Instant;

use super::redis::locks_left;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MAX_LEASE: Duration = Duration::from_mins(2);
/// How soon a node that is well again must be used.
pub(crate) const BACK: Duration = Duration::from_secs(2);

pub(crate) fn attempt() -> AcquireOptions {
    AcquireOptions::new()
        .lease(Duration::from_mins(1))
        .retries(0)
}

/// The faults of nodes 0 and 1. That of a node which was well must not be held either.
#[track_caller]
pub(crate) fn faults(error: &Error) -> [Fault; 2] {
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let report = error.report().unwrap();
    let held = |(_, vote): &(NodeId, Option<Vote>)| matches!(vote, Some(Vote::Held { .. }));
    assert!(!report.nodes.iter().any(held), "{report}");
    [0, 1].map(|node| match &report.nodes[node].1 {
        Some(Vote::Failed(fault)) => fault.clone(),
        other => panic!("node {node} has no fault but {other:?}: {report}"),
    })
}

pub(crate) async fn full_turn(client: &Redlock, resource: &str) {
    let started = Instant::now();
    let grant = client.acquire(resource, attempt()).await.unwrap();
    client.extend(&grant, SECOND).await.unwrap();
    client.release(&grant).await.unwrap();
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
}

pub(crate) async fn well(client: &Redlock) -> bool {
    eventually(BACK, || async {
        let votes = client.readiness().await.nodes;
        votes.iter().all(|(_, vote)| *vote == Vote::Pong)
    })
    .await
}

pub(crate) async fn nothing_left(cluster: &RedisCluster) {
    let cleared = eventually(BACK, || async { locks_left(cluster).is_empty() });
    assert!(cleared.await, "{:?}", locks_left(cluster));
}
