//! From an accepted connection to one that speaks HTTP: the TLS handshake, if there is one, and
//! what its first bytes say.
//!
//! Everything here is bounded in time, and is the work of that one connection's task.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::listeners::Accepted;

/// What requests are read from.
pub(super) type Transport = Either<TcpStream, Either<UnixStream, Box<TlsStream<TcpStream>>>>;

/// Two or three round trips over the worst of networks, and a busy client.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How every TLS connection begins: a record of the handshake.
const HANDSHAKE_RECORD: u8 = 22;
/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A client that spoke plain HTTP to us has this long, and this much, to read why not.
const EXPLANATION_TIME: Duration = Duration::from_secs(1);
const EXPLANATION_READ: u64 = 64 * 1024;
const EXPLANATION: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\
                           Content-Length: 61\r\nConnection: close\r\n\r\n\
                           {\"message\":\"this port speaks TLS: ask with https:// instead\"}";

/// The beginning of a connection.
pub(super) struct Begun {
    pub(super) http2: bool,
    /// What was read already.
    pub(super) start: Vec<u8>,
}

/// Makes the connection one that HTTP can be read from; nothing if the peer did not go along.
pub(super) async fn open(accepted: Accepted) -> Option<Transport> {
    match accepted {
        Accepted::Tcp(stream) => Some(Either::Left(undelayed(stream))),
        Accepted::Unix(stream) => Some(Either::Right(Either::Left(stream))),
        Accepted::Tls(stream, config) => {
            // On the heap: connections without TLS take no room for it.
            let shaking = Box::pin(shake(stream, config));
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await;
            let stream = shaken.ok()??;
            Some(Either::Right(Either::Right(Box::new(stream))))
        }
    }
}

/// Small answers must not wait for acknowledgements of earlier ones.
fn undelayed(stream: TcpStream) -> TcpStream {
    let _ = stream.set_nodelay(true);
    stream
}

async fn shake(stream: TcpStream, config: Arc<ServerConfig>) -> Option<TlsStream<TcpStream>> {
    let mut stream = undelayed(stream);
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? == 0 {
        return None;
    }
    if first[0] != HANDSHAKE_RECORD && first[0].is_ascii_alphabetic() {
        let _ = tokio::time::timeout(EXPLANATION_TIME, explain(&mut stream)).await;
        return None;
    }
    match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            // Strangers can bring this about at will, so it is not for the ordinary log.
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

/// Tells a client of plain HTTP what it did wrong. What it still sends is read, since a connection
/// that is closed with unread bytes is reset, and the answer with it.
async fn explain(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(EXPLANATION.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(EXPLANATION_READ), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Waits until it is clear which HTTP the peer speaks, which hyper would do for ever; nothing if
/// the peer closed without a word.
pub(super) async fn begins(stream: &mut (impl AsyncRead + Unpin)) -> Option<Begun> {
    let mut start = [0; PREFACE.len()];
    let mut seen = 0;
    loop {
        let read = stream.read(&mut start[seen..]).await.ok()?;
        if read == 0 {
            return None;
        }
        seen += read;
        let http2 = start[..seen] == PREFACE[..seen];
        if !http2 || seen == PREFACE.len() {
            let start = start[..seen].to_vec();
            return Some(Begun { http2, start });
        }
    }
}

/// Whether the peer has closed, or its connection broke, whatever it sent before that was not read.
/// Registers no wake-up to rely on.
pub(super) fn is_closed(transport: &Transport, cx: &mut Context<'_>) -> bool {
    let interest = Interest::READABLE;
    let polled = match transport {
        Either::Left(stream) => pin!(stream.ready(interest)).poll(cx),
        Either::Right(Either::Left(stream)) => pin!(stream.ready(interest)).poll(cx),
        Either::Right(Either::Right(tls)) => pin!(tls.get_ref().0.ready(interest)).poll(cx),
    };
    match polled {
        Poll::Pending => false,
        Poll::Ready(ready) => ready.is_ok_and(tokio::io::Ready::is_read_closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_explanation_is_as_long_as_it_says() {
        let (head, body) = EXPLANATION.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    }

    #[tokio::test]
    async fn a_preface_in_parts_is_one_and_what_was_read_is_kept() {
        for (text, http2) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"[..], true),
            (b"PRI * HTTP/1.1\r\n", false),
            (b"POST / HTTP/1.1\r\n", false),
        ] {
            let (first, rest) = text.split_at(2);
            let mut stream = first.chain(rest);
            let begun = begins(&mut stream).await.unwrap();
            assert_eq!(begun.http2, http2);
            assert!(text.starts_with(&begun.start) && begun.start.len() >= 2);
        }
        assert!(begins(&mut &b"PRI"[..]).await.is_none());
    }
}
