//! Peers that send as much as they can.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Besieged;
use crate::support::Wire;

#[tokio::test]
async fn requests_without_end_on_one_connection_are_answered_one_by_one() {
    let proxy = Besieged::start(&[]).await;
    let ask = "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        let ask = ask.clone();
        deaf.push(tokio::spawn(async move {
            // Whoever reads no answer is not read from: this comes to a standstill.
            let mut sent = 0;
            while sent < 100_000_000 && stream.write_all(ask.as_bytes()).await.is_ok() {
                sent += ask.len();
            }
            sent
        }));
    }
    for _ in 0..5 {
        proxy.serves_others().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for task in deaf {
        task.abort();
        assert!(task.await.is_err(), "it was read from to the end");
    }
    proxy.grew_by_less_than(48);

    // Who reads gets as many answers as there were requests, in order.
    let mut wire = Wire::open(proxy.addr()).await;
    let last = "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200) + last)
        .await;
    let answers = wire.read_to_end().await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 200);
    assert!(answers.rfind("HTTP/1.1 404 ") > answers.rfind("HTTP/1.1 200 "));
}

#[tokio::test]
async fn headers_by_the_thousand_and_by_the_megabyte_are_refused_early() {
    let proxy = Besieged::start(&[]).await;
    let many = "X-A: b\r\n".repeat(100_000);
    let long = format!("X-A: {}\r\n", "b".repeat(10_000_000));
    let path = format!("/{}", "a".repeat(1_000_000));
    for (path, headers) in [
        ("/healthz", many),
        ("/healthz", long),
        (&path, String::new()),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let mut all = Vec::new();
        for _ in 0..10 {
            let (addr, request) = (proxy.addr(), request.clone());
            all.push(tokio::spawn(async move {
                let mut wire = Wire::open(addr).await;
                wire.try_send(request.as_bytes()).await;
                wire.ended().await;
            }));
        }
        proxy.serves_others().await;
        for one in all {
            one.await.unwrap();
        }
    }
    proxy.grew_by_less_than(48);
}

#[tokio::test]
async fn connections_that_come_and_go_by_the_thousand_leave_nothing_behind() {
    let proxy = Besieged::start(&["--max-connections", "50"]).await;
    let descriptors = || {
        let folder = format!("/proc/{}/fd", proxy.proxy.process.pid());
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = descriptors();
    for round in 0..2_000 {
        let mut wire = Wire::open(proxy.addr()).await;
        match round % 4 {
            0 => {}
            1 => wire.send("GET").await,
            2 => wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await,
            _ => wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await,
        }
    }
    proxy.serves_others().await;
    let gone = everlock_testkit::eventually(crate::support::SOON, || async {
        descriptors() <= before + 3
    });
    assert!(gone.await, "{before} then, {} now", descriptors());
    proxy.grew_by_less_than(32);
}
