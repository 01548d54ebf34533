//! HTTP/2 without TLS.

use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Local, Wire, timed};

#[tokio::test]
async fn the_same_api_is_served_over_http2() {
    let proxy = Local::start(&[]).await;
    let client = Client::h2(proxy.addr);
    let answer = client.acquire(json!({"key": "k", "uuid": "u"})).await;
    assert_eq!(
        (answer.status, &answer.json["acquired"]),
        (200, &json!(true))
    );
    assert!(answer.header("x-request-id").is_some());
    assert_eq!(client.extend("k", "u", 1_000).await.status, 200);
    assert_eq!(
        client
            .post("/lock/acquire", vec![b' '; 20_000])
            .await
            .status,
        413
    );
    assert_eq!(client.get("/nowhere").await.status, 404);
    assert_eq!(client.release("k", "u").await.status, 200);
    assert_eq!(client.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn many_waiters_share_one_connection() {
    let proxy = Local::start(&[]).await;
    let client = Client::h2(proxy.addr);
    let all = (0..50).map(|number| {
        let client = client.clone();
        tokio::spawn(async move {
            let uuid = number.to_string();
            let wait = json!({"key": "k", "uuid": uuid, "retryAttempts": 1000, "retryDelay": 10, "retryJitter": 10});
            let answer = client.acquire(wait).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(client.release("k", &uuid).await.status, 200);
            answer.json["fencingToken"].as_u64().unwrap()
        })
    });
    let all: Vec<_> = all.collect();
    let mut tokens = Vec::new();
    for one in all {
        tokens.push(one.await.unwrap());
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 50, "each had it alone");
}

#[tokio::test]
async fn a_connection_without_requests_is_not_kept_for_ever() {
    let proxy = Local::start(&[("idle-timeout", "300ms")]).await;
    let mut idle = Wire::open(proxy.addr).await;
    // The preface, and settings that change nothing.
    idle.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    let (said, took) = timed(idle.read_to_end()).await;
    assert!(
        !said.is_empty() && took >= Duration::from_millis(250),
        "{took:?}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn a_waiting_request_keeps_its_connection() {
    let proxy = Local::start(&[("idle-timeout", "200ms")]).await;
    let client = Client::h2(proxy.addr);
    client.acquire(json!({"key": "k", "lease": 1_000})).await;
    let wait = json!({"key": "k", "retryAttempts": 10, "retryDelay": 1_000});
    assert_eq!(client.acquire(wait).await.status, 200);
}
