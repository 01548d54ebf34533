//! Clients that go away while they wait: nothing of theirs is left behind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use everlock_testkit::{RedisCluster, TlsFiles, eventually};
use serde_json::json;
use tokio::net::UnixStream;

use crate::support::{Client, Local, Proxy, SOON, TlsClient, Wire};

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

/// How a proxy is reached.
enum Way {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Tls(Box<TlsClient>, SocketAddr),
}

impl Way {
    async fn open(&self) -> Wire {
        match self {
            Self::Tcp(addr) => Wire::open(*addr).await,
            Self::Unix(path) => Wire::over(UnixStream::connect(path).await.unwrap()),
            Self::Tls(client, addr) => client.connect(*addr).await.unwrap().wire(),
        }
    }

    /// Whether an acquire is refused for want of a seat, or gets the lock.
    async fn is_full(&self) -> bool {
        let mut wire = self.open().await;
        let ask = r#"{"key":"free","uuid":"u","retryAttempts":0}"#;
        wire.post("/lock/acquire", ask).await;
        let answer = wire.read_until("\r\n").await;
        let full = answer.starts_with("HTTP/1.1 429 ");
        assert!(full || answer.starts_with("HTTP/1.1 200 "), "{answer}");
        full
    }
}

#[tokio::test]
async fn what_is_sent_behind_a_request_hides_no_client_that_closed() {
    let files = TlsFiles::make();
    let (certificate, key) = (files.certificate(), files.key());
    let socket = files.certificate().with_file_name("api.sock");
    let unix = format!("unix:{}", socket.display());
    let one_seat = ("max-waiters", "1");
    let plain = Local::start(&[one_seat, ("listen", &unix)]).await;
    let tls = [
        one_seat,
        ("tls-cert", certificate.to_str().unwrap()),
        ("tls-key", key.to_str().unwrap()),
    ];
    let tls = Local::start(&tls).await;
    let client = TlsClient::new(&[&files.ca()]);
    let ways = [
        (&plain, Way::Tcp(plain.addr)),
        (&plain, Way::Unix(socket)),
        (&tls, Way::Tls(Box::new(client), tls.addr)),
    ];
    let pipelined = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    for proxy in [&plain, &tls] {
        let taken = proxy.redlock.acquire(
            "Evermind:anonymous:k",
            everlock::AcquireOptions::new().lease(SOON * 9),
        );
        taken.await.unwrap();
    }
    // It outlasts what the test waits for.
    let wait = r#"{"key":"k","uuid":"gone","retryAttempts":1000,"retryDelay":200}"#;
    for (_proxy, way) in &ways {
        for more in ["\r\n", &pipelined] {
            let mut wire = way.open().await;
            wire.post("/lock/acquire", wait).await;
            assert!(eventually(SOON, || way.is_full()).await);
            wire.send(more).await;
            assert!(way.is_full().await, "it is waited for who is there");
            drop(wire);
            let free = eventually(SOON, || async { !way.is_full().await });
            assert!(free.await, "the seat is free again");
        }
    }
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
