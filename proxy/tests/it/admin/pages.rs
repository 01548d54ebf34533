//! What operators are told, and for how long.

use std::time::Duration;

use everlock_testkit::{RedisCluster, Signal, eventually};
use tokio::net::TcpStream;

use super::{admin_of, dev};
use crate::support::{Client, Proxy, SOON, Wire};

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

#[tokio::test]
async fn the_pages_are_on_the_admin_listener_and_not_on_the_api() {
    let (proxy, admin) = dev(&ADMIN, &[]).await;
    let api = proxy.client();
    for page in ["/healthz", "/readyz"] {
        assert_eq!(admin.get(page).await.status, 200, "{page}");
        assert_eq!(api.get(page).await.status, 200, "{page}");
    }
    for page in ["/", "/metrics", "/version", "/config"] {
        assert_eq!(admin.get(page).await.status, 200, "{page}");
        assert_eq!(api.get(page).await.status, 404, "{page}");
    }
    assert_eq!(
        admin.get("/version").await.json["version"],
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(
        admin.post("/lock/acquire", r#"{"key":"k"}"#).await.status,
        404
    );
    let wrong = admin.post("/metrics", "").await;
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let metrics = admin.get("/metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(metrics.header("x-content-type-options"), Some("nosniff"));
    let build = format!(
        "everlock_build_info{{version=\"{}\"",
        env!("CARGO_PKG_VERSION")
    );
    assert!(metrics.text.contains(&build), "{}", metrics.text);
    assert!(metrics.text.contains("\nprocess_resident_memory_bytes "));
}

#[tokio::test]
async fn without_the_setting_there_is_no_admin_listener() {
    let proxy = Proxy::spawn(&["serve", "--dev", "--listen", "127.0.0.1:0"], &[]).await;
    assert!(
        !proxy.process.output().contains("operators are served"),
        "{}",
        proxy.process.output()
    );
}

#[tokio::test]
async fn operators_are_served_until_the_very_end() {
    let nodes = RedisCluster::start(3);
    let flags = [ADMIN[0], ADMIN[1], "--drain-timeout", "60s"];
    let mut proxy = Proxy::over(&nodes, &flags).await.ready().await;
    let admin = Client::new(admin_of(&mut proxy).await);
    nodes.pause(1);
    nodes.pause(2);
    // What can't be undone keeps the end waiting.
    assert_eq!(proxy.client().try_acquire("k", "u").await.status, 503);
    proxy.process.signal(Signal::TERM);
    let addr = proxy.addr;
    let closed = eventually(SOON, || async { TcpStream::connect(addr).await.is_err() });
    assert!(closed.await, "the API takes no connections any more");
    assert_eq!(admin.get("/healthz").await.status, 200);
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json["status"], "draining");
    let metrics = admin.get("/metrics").await.text;
    assert!(metrics.contains("\neverlock_draining 1\n"), "{metrics}");
    nodes.resume(1);
    nodes.resume(2);
    let status = proxy.process.wait_exit(SOON).await;
    assert!(status.success(), "{}", proxy.process.output());
}

#[tokio::test]
async fn connections_of_operators_take_none_from_the_api_and_are_bounded() {
    let (proxy, admin) = dev(&ADMIN, &[]).await;
    let mut idle = Vec::new();
    for _ in 0..64 {
        let mut wire = Wire::open(admin.addr()).await;
        wire.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        wire.read_until("\"ok\"").await;
        idle.push(wire);
    }
    let mut next = Wire::open(admin.addr()).await;
    next.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let early = next.read_until("\"ok\"");
    let early = tokio::time::timeout(Duration::from_millis(300), early).await;
    assert!(early.is_err(), "it waits for a seat: {early:?}");
    assert_eq!(proxy.client().try_acquire("k", "u").await.status, 200);
    idle.pop();
    next.read_until("\"ok\"").await;
}
