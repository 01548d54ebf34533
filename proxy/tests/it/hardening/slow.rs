//! Peers that take their time: with headers, with bodies, and with reading.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use super::Besieged;
use crate::support::{SOON, Wire, timed};

/// As many as are open at once in these tests.
const MANY: usize = 150;

#[tokio::test]
async fn headers_that_come_a_byte_at_a_time_take_nobody_elses_place() {
    let flags = ["--max-connections", "200", "--header-timeout", "1s"];
    let proxy = Besieged::start(&flags).await;
    let mut slow = Vec::new();
    for _ in 0..MANY {
        let mut wire = Wire::open(proxy.addr()).await;
        wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\n").await;
        slow.push(wire);
    }
    let trickling = async {
        loop {
            for wire in &mut slow {
                wire.try_send(b"X-A: b\r\n").await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = trickling => {}
        () = async {
            proxy.serves_others().await;
            // Longer than a header may take: those that go on are gone by then.
            tokio::time::sleep(Duration::from_secs(2)).await;
            proxy.serves_others().await;
        } => {}
    }
    for wire in &mut slow {
        wire.ended().await;
    }
    proxy.grew_by_less_than(32);
}

#[tokio::test]
async fn bodies_that_never_end_are_cut_off_however_they_come() {
    let flags = ["--body-timeout", "1s", "--max-connections", "400"];
    let proxy = Besieged::start(&flags).await;
    let mut slow = Vec::new();
    for number in 0..MANY {
        let mut wire = Wire::open(proxy.addr()).await;
        let length = match number % 2 {
            0 => "Content-Length: 16000",
            _ => "Transfer-Encoding: chunked",
        };
        wire.send(format!(
            "POST /lock/acquire HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n"
        ))
        .await;
        slow.push(wire);
    }
    // Small chunks without an end, as fast as they are taken, for ever.
    let mut fast = Wire::open(proxy.addr()).await;
    fast.send("POST /lock/release HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let pouring = async { while fast.try_send(b"1\r\n \r\n").await {} };
    let trickling = async {
        loop {
            for wire in &mut slow {
                wire.try_send(b"1\r\n \r\n").await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        () = trickling => {}
        () = async {
            proxy.serves_others().await;
            let (poured, took) = timed(tokio::time::timeout(SOON, pouring)).await;
            assert!(poured.is_ok(), "it is taken for ever: {took:?}");
            tokio::time::sleep(Duration::from_secs(2)).await;
            proxy.serves_others().await;
        } => {}
    }
    for wire in &mut slow {
        wire.ended().await;
    }
    proxy.grew_by_less_than(32);
}

#[tokio::test]
async fn answers_that_nobody_reads_are_not_kept_for_ever() {
    let flags = ["--max-connections", "62", "--idle-timeout", "2s"];
    let proxy = Besieged::start(&flags).await;
    let mut deaf = Vec::new();
    let asks =
        "GET /openapi.json HTTP/1.1\r\nHost: x\r\nRange: bytes=0-,1-,2-,3-\r\n\r\n".repeat(20);
    for _ in 0..60 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(2_048).unwrap();
        let mut stream = socket.connect(proxy.addr()).await.unwrap();
        let sending = stream.write_all(asks.as_bytes());
        let _ = tokio::time::timeout(Duration::from_millis(5), sending).await;
        deaf.push(stream);
    }
    proxy.serves_others().await;
    // All places but two are taken by them, and three newcomers need one each at once.
    let mut newcomers = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(proxy.addr()).await;
        wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        newcomers.push(wire);
    }
    for wire in &mut newcomers {
        wire.read_until("ok").await;
    }
    proxy.grew_by_less_than(64);
    drop(deaf);
}
