//! A client of a few lines for keep-alive connections, so that servers are what is measured.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// A line of the header, or nothing.
    authorization: String,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    pub async fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("a server listens");
        stream.set_nodelay(true).expect("TCP has the option");
        Self {
            stream: BufReader::new(stream),
            authorization: String::new(),
        }
    }

    /// The same, showing an API key with every request.
    #[must_use]
    pub fn with_key(mut self, key: Option<&str>) -> Self {
        self.authorization = key
            .map(|key| format!("Authorization: Bearer {key}\r\n"))
            .unwrap_or_default();
        self
    }

    /// The JSON of the answer.
    ///
    /// # Panics
    ///
    /// When its status is not 200, or the connection breaks.
    pub async fn post(&mut self, path: &str, body: &str) -> Value {
        let (length, authorization) = (body.len(), &self.authorization);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
             {authorization}Content-Length: {length}\r\n\r\n{body}"
        );
        let sent = self.stream.get_mut().write_all(request.as_bytes()).await;
        sent.expect("a server reads");
        let (mut status, mut length) = (String::new(), 0);
        self.line(&mut status).await;
        loop {
            let mut line = String::new();
            self.line(&mut line).await;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        let read = self.stream.read_exact(&mut body).await;
        read.expect("as long as it says");
        let text = String::from_utf8_lossy(&body);
        assert!(status.contains(" 200 "), "{status} {text}");
        serde_json::from_str(&text).expect("an answer is JSON")
    }

    async fn line(&mut self, into: &mut String) {
        let read = self.stream.read_line(into).await;
        assert!(read.is_ok_and(|read| read > 0), "an answer is whole");
    }
}
