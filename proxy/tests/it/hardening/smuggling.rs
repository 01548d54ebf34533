//! Requests that readers of different make would take for different ones: where one ends the body,
//! another reads a second request.

use super::Besieged;
use crate::support::{Local, Wire, timed};

#[tokio::test]
async fn a_body_of_doubtful_length_is_refused() {
    const HIDDEN: &str = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
    let proxy = Local::start(&[]).await;
    let body = r#"{"key":"k","uuid":"u"}"#;
    let (length, more) = (body.len(), body.len() + HIDDEN.len());
    for lengths in [
        format!("Content-Length: {length}\r\nContent-Length: {more}"),
        format!("Content-Length: {more}\r\nContent-Length: {length}"),
        format!("Content-Length: {length}, {more}"),
        format!("Content-Length: +{length}"),
        format!("Content-Length: -{length}"),
        format!("Content-Length: {length}\r\nContent-Length: x"),
        "Content-Length: 99999999999999999999".to_owned(),
    ] {
        let mut wire = Wire::open(proxy.addr).await;
        let head = format!("POST /lock/acquire HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n");
        wire.send(head + body + HIDDEN).await;
        let answer = wire.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lengths}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    // The same twice is no doubt.
    let mut wire = Wire::open(proxy.addr).await;
    let lengths = format!("Content-Length: {length}\r\n").repeat(2);
    let head = format!("POST /lock/acquire HTTP/1.1\r\nHost: x\r\n{lengths}\r\n");
    wire.send(head + body).await;
    let answer = wire.read_until("fencingToken").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn behind_a_body_in_chunks_that_has_a_length_as_well_nothing_is_read() {
    let proxy = Local::start(&[]).await;
    let body = r#"{"key":"k","uuid":"u"}"#;
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let hidden = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
    ] {
        let mut wire = Wire::open(proxy.addr).await;
        let head = format!("POST /lock/acquire HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n");
        wire.send(head + &chunks + hidden).await;
        let answer = wire.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{lengths}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn lines_that_end_in_a_bare_newline_hide_no_second_request() {
    let proxy = Besieged::start(&[]).await;
    let smuggled = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
    let plain = r#"{"key":"k","uuid":"u"}"#;
    let chunks = format!("16\r\n{plain}\r\n0\r\n\r\n");
    let chunks = chunks.as_str();
    let more = format!("16;a\nb\r\n{plain}\r\n0\r\n\r\n");
    // Each would be a good request to a reader who takes it the other way.
    for (head, body) in [
        // What a reader of CRLF alone takes for one header is two, of which one gives another length.
        (
            "HTTP/1.1\r\nHost: x\r\nX: a\nTransfer-Encoding: chunked\r\nContent-Length: 22\r\n",
            plain,
        ),
        (
            "HTTP/1.1\nHost: x\nContent-Length: 22\nContent-Length: 56\n",
            plain,
        ),
        (
            "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            chunks,
        ),
        (
            "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n",
            chunks,
        ),
        (
            "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n",
            chunks,
        ),
        (
            "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n",
            chunks,
        ),
        (
            "HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n",
            &more,
        ),
        (
            "HTTP/1.1\r\nHost: x\r\n Transfer-Encoding: chunked\r\n",
            chunks,
        ),
        ("HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", chunks),
    ] {
        let mut wire = Wire::open(proxy.addr()).await;
        let (answer, took) = timed(async {
            wire.send(format!("POST /lock/acquire {head}\r\n{body}{smuggled}"))
                .await;
            wire.read_to_end().await
        })
        .await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{head:?} after {took:?}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{head:?}: {answer}");
    }
    // By itself a bare newline ends a line, as everywhere; there is nothing to differ about.
    let mut wire = Wire::open(proxy.addr()).await;
    wire.send("GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n")
        .await;
    let answer = wire.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    proxy.serves_others().await;
}
