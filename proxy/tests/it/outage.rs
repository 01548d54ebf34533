//! Nodes that die or hang: a minority changes nothing, a majority is told in time.

use std::time::Duration;

use everlock_testkit::{RedisCluster, eventually};
use serde_json::json;

use crate::support::{Client, Proxy, SOON, timed};

/// Bounds of the contract, for a busy machine with two cores.
const MINORITY: Duration = Duration::from_secs(1);
const MAJORITY: Duration = Duration::from_secs(5);
const NOT_READY: Duration = Duration::from_secs(2);
/// Nodes are used again within a second, and `/readyz` looks at them five times in one.
const RECOVERY: Duration = Duration::from_secs(2);

async fn a_cycle(client: &Client, key: &str) {
    let (acquired, took) = timed(client.try_acquire(key, "u")).await;
    assert_eq!(acquired.status, 200, "{acquired:?}");
    assert!(took < MINORITY, "acquire: {took:?}");
    let (extended, took) = timed(client.extend(key, "u", 1_000)).await;
    assert_eq!(extended.status, 200, "{extended:?}");
    assert!(took < MINORITY, "extend: {took:?}");
    let (released, took) = timed(client.release(key, "u")).await;
    assert_eq!(released.status, 200, "{released:?}");
    assert!(took < MINORITY, "release: {took:?}");
}

#[tokio::test]
async fn two_dead_nodes_of_five_change_nothing() {
    let nodes = RedisCluster::start(5);
    let proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    nodes.kill(0);
    nodes.kill(1);
    for round in 0..10 {
        a_cycle(&client, &format!("k{round}")).await;
    }
    let told = eventually(SOON, || async {
        let nodes = &client.get("/readyz").await.json["nodes"];
        let states: Vec<_> = (0..5).map(|node| nodes[node]["state"].as_str()).collect();
        states == ["down", "down", "up", "up", "up"].map(Some)
    });
    assert!(told.await, "the two are down, the others up");
    let answer = client.get("/readyz").await;
    assert_eq!(answer.status, 200);
    let why = answer.json["nodes"][0]["why"].as_str().unwrap();
    assert!(why.contains("refused"), "{answer:?}");
}

#[tokio::test]
async fn two_hung_nodes_of_five_change_nothing() {
    let nodes = RedisCluster::start(5);
    let proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    nodes.pause(3);
    nodes.pause(4);
    for round in 0..10 {
        a_cycle(&client, &format!("k{round}")).await;
    }
}

#[tokio::test]
async fn three_hung_nodes_are_an_outage_until_they_go_on() {
    let nodes = RedisCluster::start(5);
    let proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    for node in 0..3 {
        nodes.pause(node);
    }
    outage(&client).await;
    for node in 0..3 {
        nodes.resume(node);
    }
    let ((), took) = timed(client.until_ready(200)).await;
    assert!(took < RECOVERY, "{took:?}");
    let key = "Evermind:anonymous:k";
    let clean = eventually(RECOVERY, || async { nodes.count(key, "u") == 0 });
    assert!(clean.await, "{:?}", nodes.get(key));
    a_cycle(&client, "k").await;
}

#[tokio::test]
async fn a_quorum_that_is_lost_and_one_that_is_back_are_a_line_each() {
    const LOST: &str = "no quorum of nodes votes";
    const BACK: &str = "a quorum of nodes votes again";
    let nodes = RedisCluster::start(3);
    let mut proxy = Proxy::over(&nodes, &[]).await.ready().await;
    nodes.pause(0);
    let down = |line: &str| line.contains("node is down");
    proxy.process.wait_for_line(down, SOON).await;
    assert!(!proxy.process.output().contains(LOST), "a majority is left");
    nodes.pause(1);
    let lost = |line: &str| line.contains(LOST);
    let line = proxy.process.wait_for_line(lost, SOON).await;
    assert!(line.contains("WARN") && line.contains("down=2"), "{line}");
    nodes.resume(1);
    let back = |line: &str| line.contains(BACK);
    proxy.process.wait_for_line(back, SOON).await;
    nodes.resume(0);
    proxy.client().until_ready(200).await;
    let output = proxy.process.output();
    assert_eq!(output.matches(LOST).count(), 1, "{output}");
    assert_eq!(output.matches(BACK).count(), 1, "{output}");
}

#[tokio::test]
async fn a_start_in_development_tells_of_no_outage() {
    // All that is logged before it listens is there by then.
    let proxy = Proxy::spawn(&["serve", "--dev", "--listen", "127.0.0.1:0"], &[]).await;
    let output = proxy.process.output();
    assert!(!output.contains("quorum"), "{output}");
}

#[tokio::test]
async fn three_dead_nodes_are_an_outage_until_they_are_back() {
    let nodes = RedisCluster::start_durable(5);
    let proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    let kept = json!({"key": "kept", "uuid": "u", "lease": 60_000});
    assert_eq!(client.acquire(kept).await.status, 200);
    for node in 0..3 {
        nodes.kill(node);
    }
    outage(&client).await;
    for node in 0..3 {
        nodes.restart(node);
    }
    let ((), took) = timed(client.until_ready(200)).await;
    assert!(took < RECOVERY, "{took:?}");
    a_cycle(&client, "k").await;
    let other = client.try_acquire("kept", "other").await;
    assert_eq!(other.status, 409, "nothing was forgotten");
}

async fn outage(client: &Client) {
    let ((), took) = timed(client.until_ready(503)).await;
    assert!(took < NOT_READY, "not ready: {took:?}");
    assert_eq!(client.get("/healthz").await.status, 200);
    let ask = json!({"key": "k", "uuid": "u", "retryAttempts": 100, "retryDelay": 1_000});
    let (answer, took) = timed(client.acquire(ask)).await;
    assert!(took < MAJORITY, "acquire: {took:?}");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(answer.json["acquired"], false);
    assert!(answer.json["lockAcquisitionAttempts"].as_u64().unwrap() >= 1);
    assert_eq!(
        answer.message(),
        "no quorum of nodes answers",
        "and no word of the nodes"
    );
    let soft = json!({"key": "k", "uuid": "u", "retryAttempts": 0, "softFail": true});
    let answer = client.acquire(soft).await;
    assert_eq!(
        (answer.status, &answer.json["acquired"]),
        (200, &json!(false))
    );
    for answer in [
        client.extend("held", "u", 1_000).await,
        client.release("held", "u").await,
    ] {
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
    }
}

#[tokio::test]
async fn a_thousand_attempts_that_timed_out_leave_no_key_behind() {
    let nodes = RedisCluster::start(5);
    let proxy = Proxy::over(&nodes, &["--node-timeout", "100ms"])
        .await
        .ready()
        .await;
    let client = proxy.client();
    for node in 2..5 {
        nodes.pause(node);
    }
    let attempts = (0..1_000).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            let body = json!({"key": format!("k{number}"), "uuid": "never", "lease": 60_000, "retryAttempts": 0});
            client.acquire(body).await.status
        })
    });
    let attempts: Vec<_> = attempts.collect();
    for attempt in attempts {
        assert_eq!(attempt.await.unwrap(), 503);
    }
    let traffic = tokio::spawn({
        let client = client.clone();
        async move {
            for round in 0.. {
                let key = format!("other{}", round % 10);
                client
                    .acquire(json!({"key": key, "uuid": "u", "lease": 1_000}))
                    .await;
                client.release(&key, "u").await;
            }
        }
    });
    for node in 2..5 {
        nodes.resume(node);
    }
    let left = || {
        let servers = nodes.servers().iter();
        let keys = servers.flat_map(everlock_testkit::RedisServer::keys);
        keys.filter(|key| key.starts_with("Evermind:anonymous:k"))
            .count()
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after_a_second = left();
    traffic.abort();
    assert_eq!(after_a_second, 0);
}
