//! Clients that go away while they wait: nothing of theirs is left behind.

use std::time::Duration;

use everlock_testkit::{RedisCluster, eventually};
use serde_json::json;

use crate::support::{Client, Local, Proxy, SOON, Wire};

const WAIT: &str =
    r#"{"key":"k","uuid":"gone","lease":60000,"retryAttempts":1000,"retryDelay":20}"#;

#[tokio::test]
async fn the_wait_of_a_client_that_closed_ends() {
    let nodes = RedisCluster::start(3);
    let mut proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    client
        .acquire(json!({"key": "k", "uuid": "holder", "lease": 60_000}))
        .await;
    let mut wire = Wire::open(proxy.addr).await;
    wire.post("/lock/acquire", WAIT).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(wire);
    proxy
        .process
        .wait_for_line(
            |line| line.contains("status=499") && line.contains("attempts="),
            SOON,
        )
        .await;

    assert_eq!(client.release("k", "holder").await.status, 200);
    // Whoever still waited would take it now.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(nodes.count("Evermind:anonymous:k", "gone"), 0);
    assert_eq!(client.try_acquire("k", "next").await.status, 200);
}

#[tokio::test]
async fn what_a_client_won_after_it_had_gone_is_given_back() {
    let nodes = RedisCluster::start(5);
    let proxy = Proxy::over(&nodes, &["--node-timeout", "5s"])
        .await
        .ready()
        .await;
    // Two grants and three that are on their way: the attempt can't be decided.
    for node in 2..5 {
        nodes.pause(node);
    }
    let mut wire = Wire::open(proxy.addr).await;
    wire.post("/lock/acquire", WAIT).await;
    let key = "Evermind:anonymous:k";
    let granted = eventually(SOON, || async {
        nodes[0].get(key).is_some() && nodes[1].get(key).is_some()
    });
    assert!(granted.await, "two nodes granted it");
    drop(wire);
    let undone = eventually(SOON, || async {
        nodes[0].get(key).is_none() && nodes[1].get(key).is_none()
    });
    assert!(undone.await, "it is undone where it was granted");
    for node in 2..5 {
        nodes.resume(node);
    }
    let clean = eventually(Duration::from_secs(5), || async {
        nodes.count(key, "gone") == 0
    });
    assert!(clean.await, "{:?}", nodes.get(key));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(nodes.count(key, "gone"), 0, "nor does it come back");
}

#[tokio::test]
async fn clients_that_leave_at_any_moment_leave_nothing_behind() {
    let nodes = RedisCluster::start(3);
    let proxy = Proxy::over(&nodes, &[]).await.ready().await;
    for round in 0..60_u64 {
        let mut wire = Wire::open(proxy.addr).await;
        let body = json!({"key": format!("k{round}"), "uuid": "gone", "lease": 300});
        wire.post("/lock/acquire", &body.to_string()).await;
        tokio::time::sleep(Duration::from_micros(round * 50)).await;
        drop(wire);
    }
    // Those that were acquired before the client left expire; none is stuck or renewed.
    let locks = || {
        nodes
            .servers()
            .iter()
            .flat_map(everlock_testkit::RedisServer::keys)
    };
    let clean = eventually(SOON, || async {
        !locks().any(|key| key.starts_with("Evermind:anonymous:"))
    });
    assert!(clean.await, "{:?}", locks().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_the_wait_while_its_connection_goes_on() {
    let proxy = Local::start(&[("max-waiters", "1")]).await;
    let client = Client::h2(proxy.addr);
    let direct = proxy.redlock.clone();
    let grant = direct
        .acquire("Evermind:anonymous:k", everlock::AcquireOptions::new())
        .await
        .unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.post("/lock/acquire", WAIT).await }
    });
    let taken = eventually(SOON, || async {
        client.try_acquire("x", "u").await.status == 429
    });
    assert!(taken.await, "the only seat is taken");
    waiting.abort();
    let free = eventually(SOON, || async {
        client.try_acquire("x", "u").await.status == 200
    });
    assert!(free.await, "the seat is free again");
    direct.release(&grant).await.unwrap();
    assert_eq!(client.try_acquire("k", "next").await.status, 200);
}
