//! Hazard: answers that servers rarely give, each of them a fault of its kind.
//!
//! A filter before real servers puts them in the place of every script's answer.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use everlock::{FaultKind, Redlock};
use everlock_testkit::{RedisCluster, eventually};
use support::filter::Filter;
use support::turns::{BACK, MAX_LEASE, SECOND, attempt, faults, full_turn, nothing_left, well};
use tokio::time::Instant;

/// Error lines of every class, and how they count.
const LINES: [(&str, FaultKind); 17] = [
    (
        "-ERR The user executing the script can't run this command or subcommand",
        FaultKind::NoPermission,
    ),
    (
        "-LOADING Redis is loading the dataset in memory",
        FaultKind::Loading,
    ),
    (
        "-BUSY Redis is busy running a script.",
        FaultKind::Unexpected,
    ),
    (
        "-READONLY You can't write against a read only replica.",
        FaultKind::ReadOnly,
    ),
    ("-MASTERDOWN Link with MASTER is down", FaultKind::ReadOnly),
    (
        "-MISCONF Redis is configured to save RDB snapshots",
        FaultKind::Misconf,
    ),
    (
        "-NOREPLICAS Not enough good replicas to write.",
        FaultKind::Misconf,
    ),
    (
        "-OOM command not allowed when used memory > 'maxmemory'.",
        FaultKind::OutOfMemory,
    ),
    (
        "-NOAUTH Authentication required.",
        FaultKind::NotAuthenticated,
    ),
    (
        "-WRONGPASS invalid username-password pair",
        FaultKind::NotAuthenticated,
    ),
    (
        "-NOPERM this user has no permissions",
        FaultKind::NoPermission,
    ),
    ("-CLUSTERDOWN The cluster is down", FaultKind::Misconfigured),
    ("-MOVED 3999 127.0.0.1:6381", FaultKind::Unexpected),
    ("-ERR unknown command 'EVALSHA'", FaultKind::Unexpected),
    // Redis 6 wraps what a script ran into.
    (
        "-ERR Error running script (call to f_00): @user_script:12: -OOM command not allowed",
        FaultKind::OutOfMemory,
    ),
    ("+OK", FaultKind::Unexpected),
    ("$-1", FaultKind::Unexpected),
];

#[tokio::test]
async fn every_class_of_error_is_a_fault_of_its_kind_and_never_held() {
    let cluster = RedisCluster::start(3);
    let mut filters = Vec::new();
    for server in cluster.servers() {
        filters.push(Filter::in_front_of(server).await);
    }
    let builder = Redlock::builder().node_urls(filters.iter().map(Filter::url));
    let client = builder.initialise(Some(MAX_LEASE)).connect().await.unwrap();
    let held = client.acquire("held", attempt()).await.unwrap();
    for (line, kind) in LINES {
        filters[1].pass();
        filters[0].answer_scripts_with(line);
        full_turn(&client, "r").await;
        filters[1].answer_scripts_with(line);
        for error in [
            client.acquire("r", attempt()).await.unwrap_err(),
            client.extend(&held, SECOND).await.unwrap_err(),
            client
                .release((held.resource(), held.owner()))
                .await
                .unwrap_err(),
        ] {
            let kinds = faults(&error).map(|fault| fault.kind);
            assert_eq!(kinds, [kind; 2], "{line}: {error}");
        }
    }
    for filter in &filters {
        filter.pass();
    }
    assert!(well(&client).await);
    nothing_left(&cluster).await;
    full_turn(&client, "r").await;
}

#[tokio::test]
async fn an_answer_that_is_no_redis_protocol_costs_the_connection_and_no_more() {
    let cluster = RedisCluster::start(3);
    let mut filters = Vec::new();
    for server in cluster.servers() {
        filters.push(Filter::in_front_of(server).await);
    }
    let builder = Redlock::builder().node_urls(filters.iter().map(Filter::url));
    let client = builder.initialise(Some(MAX_LEASE)).connect().await.unwrap();
    for garbage in ["HTTP/1.1 400 Bad Request", "@@@", "$1000000000000"] {
        filters[0].answer_scripts_with(garbage);
        full_turn(&client, "r").await;
        filters[1].answer_scripts_with(garbage);
        let started = Instant::now();
        let error = client.acquire("r", attempt()).await.unwrap_err();
        faults(&error);
        assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
        filters[0].pass();
        filters[1].pass();
        let again = eventually(2 * BACK, || async { client.readiness().await.is_ready() });
        assert!(again.await, "{garbage}");
        nothing_left(&cluster).await;
    }
}
