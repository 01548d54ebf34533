//! What HTTP/2 lets a peer do that HTTP/1.1 doesn't.

use std::time::Duration;

use h2::Reason;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::json;
use tokio::net::TcpStream;

use super::Besieged;
use crate::support::{SOON, Wire};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ];
    [&head[..], payload].concat()
}

/// Sends these over and over until the other end has had enough; how many bytes that took.
async fn pour(wire: &mut Wire, frames: &[u8], most: usize) -> usize {
    let mut sent = 0;
    while sent < most {
        let sending = tokio::time::timeout(Duration::from_millis(500), wire.try_send(frames));
        match sending.await {
            Ok(true) => sent += frames.len(),
            // Refused, or not read any more.
            Ok(false) | Err(_) => break,
        }
    }
    sent
}

#[tokio::test]
async fn streams_that_are_reset_as_fast_as_they_are_opened_end_the_connection() {
    let proxy = Besieged::start(&["--max-waiters", "200"]).await;
    let holder = proxy.proxy.client();
    let held = json!({"key": "held", "uuid": "holder", "lease": 120_000});
    assert_eq!(holder.acquire(held).await.status, 200);
    for _ in 0..3 {
        let stream = TcpStream::connect(proxy.addr()).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driving = tokio::spawn(connection);
        let flood = async {
            for number in 0..20_000 {
                sender = sender.ready().await?;
                let request = Request::post("http://x/lock/acquire").body(()).unwrap();
                let (_, mut stream) = sender.send_request(request, false)?;
                let body = format!(
                    r#"{{"key":"{}","uuid":"u{number}"}}"#,
                    ["held", "free"][number % 2]
                );
                stream.send_data(Bytes::from(body), true)?;
                // What was not sent yet would be taken back.
                tokio::task::yield_now().await;
                stream.send_reset(Reason::CANCEL);
            }
            Ok::<_, h2::Error>(())
        };
        let flooded = tokio::time::timeout(SOON, flood).await;
        assert!(
            flooded.expect("it ends").is_err(),
            "20,000 resets are too many"
        );
        let ended = tokio::time::timeout(SOON, driving).await;
        let error = ended.expect("it ends").unwrap().unwrap_err();
        // Or the connection was gone before its reason could be read.
        let told = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
        assert!(told || error.is_io(), "{error}");
        proxy.serves_others().await;
    }
    // What was begun and abandoned holds no place, and no lock; but one that was won just before
    // the reset came holds it for its lease.
    let free = everlock_testkit::eventually(SOON, || async {
        holder.try_acquire("free", "me").await.status == 200
    });
    assert!(free.await, "the lock is free in the end");
    assert_eq!(holder.release("held", "holder").await.status, 200);
    proxy.grew_by_less_than(48);
}

#[tokio::test]
async fn a_header_that_is_continued_without_end_ends_the_connection() {
    let proxy = Besieged::start(&["--idle-timeout", "2s"]).await;
    // Literal fields that are never indexed: each decodes to what it says.
    let field = [&[0x10, 3][..], b"x-a", &[100], &[b'b'; 100]].concat();
    let fields = field.repeat(100);
    for payload in [&fields[..], b""] {
        let mut wire = Wire::open(proxy.addr()).await;
        wire.send(PREFACE).await;
        wire.send(frame(SETTINGS, 0, 0, b"")).await;
        wire.send(frame(HEADERS, 1, 1, &field)).await;
        let continued = frame(CONTINUATION, 0, 1, payload).repeat(10);
        let sent = pour(&mut wire, &continued, 200_000_000).await;
        assert!(sent < 200_000_000, "{sent} bytes were taken");
        wire.ended().await;
        proxy.serves_others().await;
    }
    proxy.grew_by_less_than(32);
}

#[tokio::test]
async fn frames_that_want_answers_which_nobody_reads_pile_up_nowhere() {
    let proxy = Besieged::start(&["--idle-timeout", "2s"]).await;
    for one in [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
    ] {
        let mut wire = Wire::open(proxy.addr()).await;
        wire.send(PREFACE).await;
        wire.send(frame(SETTINGS, 0, 0, b"")).await;
        let sent = pour(&mut wire, &one.repeat(1_000), 50_000_000).await;
        assert!(sent < 50_000_000, "{sent} bytes were taken");
        proxy.serves_others().await;
    }
    proxy.grew_by_less_than(32);
}

#[tokio::test]
async fn answers_for_which_there_is_never_room_do_not_keep_a_connection() {
    let proxy = Besieged::start(&["--idle-timeout", "2s", "--max-connections", "12"]).await;
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let stream = TcpStream::connect(proxy.addr()).await.unwrap();
        let mut client = h2::client::Builder::new();
        let shaken = client.initial_window_size(0).handshake::<_, Bytes>(stream);
        let (mut sender, connection) = shaken.await.unwrap();
        let driving = tokio::spawn(connection);
        let mut waiting = Vec::new();
        for _ in 0..100 {
            sender = sender.ready().await.unwrap();
            let request = Request::get("http://x/openapi.json").body(()).unwrap();
            waiting.push(sender.send_request(request, true).unwrap().0);
        }
        deaf.push((sender, waiting, driving));
    }
    proxy.serves_others().await;
    for (sender, waiting, driving) in deaf {
        let ended = tokio::time::timeout(SOON, driving).await;
        assert!(ended.is_ok(), "the connection is ended in time");
        drop((sender, waiting));
    }
    proxy.grew_by_less_than(48);
}
