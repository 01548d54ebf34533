//! Bounds on size, time and number: each is kept, and tells so.

use std::time::Duration;

use everlock_testkit::{Signal, eventually};
use serde_json::json;

use crate::support::{Local, Proxy, SOON, Wire, timed};

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_also_while_it_is_being_sent() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let fits = format!(r#"{{"key":"k","pad":"{}"}}"#, "x".repeat(16 * 1024 - 20));
    assert_eq!(fits.len(), 16 * 1024);
    assert_eq!(client.post("/lock/acquire", fits).await.status, 200);
    for size in [16 * 1024 + 1, 100_000, 800_000] {
        let answer = client.post("/lock/acquire", vec![b' '; size]).await;
        assert_eq!(answer.status, 413, "{size}");
        assert_eq!(answer.json["acquired"], false);
        assert!(answer.message().contains("16384 bytes"), "{answer:?}");
    }
    // A client that goes on writing is not cut off before it can read the answer.
    let mut wire = Wire::open(proxy.addr).await;
    wire.send("POST /lock/release HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n")
        .await;
    for part in 0..10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(
            wire.try_send(&vec![b' '; 50_000]).await,
            "part {part} is taken"
        );
    }
    let answer = wire.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // Without a length in advance.
    let mut wire = Wire::open(proxy.addr).await;
    wire.send("POST /lock/extend HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    for _ in 0..8 {
        wire.send(&chunk).await;
    }
    wire.send("0\r\n\r\n").await;
    let answer = wire.read_to_end().await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.contains(r#""extended":false"#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_a_large_body_is_told_at_once() {
    let proxy = Local::start(&[]).await;
    let mut wire = Wire::open(proxy.addr).await;
    wire.send("POST /lock/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n\r\n").await;
    let answer = wire.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_off() {
    let proxy = Local::start(&[("body-timeout", "300ms")]).await;
    let mut wire = Wire::open(proxy.addr).await;
    wire.send("POST /lock/release HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        .await;
    let (answer, took) = timed(wire.read_to_end()).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains(r#""released":false"#),
        "{answer}"
    );
    assert!(took >= Duration::from_millis(250), "{took:?}");
}

#[tokio::test]
async fn a_header_that_never_ends_is_cut_off() {
    let proxy = Local::start(&[("header-timeout", "300ms")]).await;
    for start in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nA: ",
    ] {
        let mut wire = Wire::open(proxy.addr).await;
        wire.send(start).await;
        let ((), took) = timed(wire.closed()).await;
        assert!(took < Duration::from_secs(10), "{start:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_longer_than_a_header_may_take_and_not_for_ever() {
    let flags = [("header-timeout", "200ms"), ("idle-timeout", "2s")];
    let proxy = Local::start(&flags).await;
    let mut wire = Wire::open(proxy.addr).await;
    let ask = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    wire.send(ask).await;
    wire.read_until("ok").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    wire.send(ask).await;
    wire.read_until("ok").await;
    let ((), idle) = timed(wire.closed()).await;
    assert!(idle > Duration::from_secs(1), "{idle:?}");

    // The second header of a connection has no more time than the first.
    let mut wire = Wire::open(proxy.addr).await;
    wire.send(format!("{ask}GET /healthz")).await;
    wire.read_until("ok").await;
    let ((), cut) = timed(async {
        wire.send(" HTTP/1.1\r\nA: ").await;
        wire.closed().await;
    })
    .await;
    assert!(cut < Duration::from_millis(1_500), "{cut:?}");
}

#[tokio::test]
async fn a_header_that_begins_at_the_end_of_idleness_is_read_to_its_end() {
    let flags = [("header-timeout", "20s"), ("idle-timeout", "4s")];
    let proxy = Local::start(&flags).await;
    let mut wire = Wire::open(proxy.addr).await;
    wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.read_until("ok").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    wire.send("GET /healthz HTTP/1.1\r\n").await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    wire.send("Host: x\r\n\r\n").await;
    wire.read_until("ok").await;
}

#[tokio::test]
async fn a_request_that_arrived_while_the_process_was_stopped_is_answered() {
    let args = ["serve", "--dev", "--listen", "127.0.0.1:0"];
    let idle = ["--idle-timeout", "4s"];
    let mut proxy = Proxy::spawn(&[&args[..], &idle].concat(), &[]).await;
    let ask = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut wires = Vec::new();
    for _ in 0..30 {
        let mut wire = Wire::open(proxy.addr).await;
        wire.send(ask).await;
        wire.read_until("ok").await;
        wires.push(wire);
    }
    // None of them is idle for its whole time before the stop, and all are after it.
    for wire in &mut wires {
        wire.send(ask).await;
        wire.read_until("ok").await;
    }
    proxy.process.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(5)).await;
    for wire in &mut wires {
        wire.send(ask).await;
    }
    proxy.process.signal(Signal::CONT);
    for wire in &mut wires {
        wire.read_until("ok").await;
    }
}

#[tokio::test]
async fn a_wait_and_a_body_take_longer_than_a_header_may() {
    let proxy = Local::start(&[("header-timeout", "200ms")]).await;
    let client = proxy.client();
    client.acquire(json!({"key": "k", "lease": 1_000})).await;
    let mut wire = Wire::open(proxy.addr).await;
    let body = r#"{"key":"k","retryAttempts":50,"retryDelay":100}"#;
    let (start, rest) = body.split_at(10);
    let length = body.len();
    wire.send(format!(
        "POST /lock/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{start}"
    ))
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    wire.send(rest).await;
    let answer = wire.read_until("config").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_large_header_is_refused() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let value = "x".repeat(16 * 1024);
    let answer = client
        .send("POST", "/lock/acquire", &[("x-large", &value)], "{}")
        .await;
    assert_eq!(
        (answer.status, &answer.json["acquired"]),
        (431, &json!(false))
    );
    let names: Vec<_> = (0..33).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "y")).collect();
    let answer = client.send("GET", "/healthz", &many, "").await;
    assert_eq!(answer.status, 431);
    assert!(answer.message().contains("32 lines"), "{answer:?}");
    // Far beyond, hyper refuses without looking any closer.
    let mut wire = Wire::open(proxy.addr).await;
    let endless = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nA: {}",
        "x".repeat(200_000)
    );
    wire.try_send(endless.as_bytes()).await;
    let answer = wire.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn more_acquires_than_allowed_are_told_to_come_back() {
    let proxy = Local::start(&[("max-waiters", "2")]).await;
    let client = proxy.client();
    client
        .acquire(json!({"key": "k", "uuid": "holder", "lease": 60_000}))
        .await;
    let wait = json!({"key": "k", "retryAttempts": 100, "retryDelay": 1_000});
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            let (client, wait) = (client.clone(), wait.clone());
            tokio::spawn(async move { client.acquire(wait).await })
        })
        .collect();
    let refused = eventually(SOON, || async {
        client.try_acquire("other", "me").await.status == 429
    });
    assert!(refused.await, "both seats are taken in the end");
    let answer = client
        .acquire(json!({"key": "other", "softFail": true}))
        .await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("1"))
    );
    assert_eq!(answer.json["acquired"], false);
    assert_eq!(
        client.release("k", "holder").await.status,
        200,
        "holders are served"
    );
    for waiter in waiters {
        waiter.abort();
        let _ = waiter.await;
    }
    let served = eventually(SOON, || async {
        client.try_acquire("other", "me").await.status == 200
    });
    assert!(served.await, "seats are given back");
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_their_turn() {
    let proxy = Local::start(&[("max-connections", "2")]).await;
    let mut first = Wire::open(proxy.addr).await;
    let mut second = Wire::open(proxy.addr).await;
    let ask = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for wire in [&mut first, &mut second] {
        wire.send(ask).await;
        wire.read_until("ok").await;
    }
    let mut third = Wire::open(proxy.addr).await;
    third.send(ask).await;
    let early = tokio::time::timeout(Duration::from_millis(200), third.read_until("ok")).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    third.read_until("ok").await;
}
