//! A client that speaks JSON, and a bare connection for what no client would send.

use std::net::SocketAddr;

use everlock_testkit::eventually;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::SOON;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    addr: SocketAddr,
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        Self {
            addr,
            http: http.build_http(),
        }
    }

    pub(crate) fn h2(addr: SocketAddr) -> Self {
        let mut http = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        Self {
            addr,
            http: http.http2_only(true).build_http(),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let answer = self.try_send(method, path, headers, body).await;
        answer.expect("an answer")
    }

    /// As [`Client::send`], from a server that may be gone.
    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Option<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.addr));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = tokio::time::timeout(SOON, self.http.request(request)).await;
        let response = response.expect("an answer in time").ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Some(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            json: serde_json::from_str(&text).unwrap_or_default(),
            text,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// Posts a body as it is.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let json = [("content-type", "application/json")];
        self.send("POST", path, &json, body).await
    }

    pub(crate) async fn acquire(&self, body: Value) -> Answer {
        self.post("/lock/acquire", body.to_string()).await
    }

    /// Acquires without retries.
    pub(crate) async fn try_acquire(&self, key: &str, uuid: &str) -> Answer {
        self.acquire(json!({"key": key, "uuid": uuid, "retryAttempts": 0}))
            .await
    }

    pub(crate) async fn extend(&self, key: &str, uuid: &str, by: u64) -> Answer {
        let body = json!({"key": key, "uuid": uuid, "extendBy": by});
        self.post("/lock/extend", body.to_string()).await
    }

    pub(crate) async fn release(&self, key: &str, uuid: &str) -> Answer {
        let body = json!({"key": key, "uuid": uuid});
        self.post("/lock/release", body.to_string()).await
    }

    /// Waits until `/readyz` answers this.
    pub(crate) async fn until_ready(&self, status: u16) {
        let status = StatusCode::from_u16(status).unwrap().as_u16();
        let reached = eventually(SOON, || async {
            self.get("/readyz").await.status == status
        });
        assert!(reached.await, "/readyz answers {status} in the end");
    }
}

/// What a bare connection is made over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A bare connection.
pub(crate) struct Wire(Box<dyn Stream>);

impl Wire {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self(Box::new(stream))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends as far as the other end takes it.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// A POST of this JSON.
    pub(crate) async fn post(&mut self, path: &str, body: &str) {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        self.send(head + body).await;
    }

    /// Everything until the other end closes.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut all = Vec::new();
        let reading = self.0.read_to_end(&mut all);
        let read = tokio::time::timeout(SOON, reading).await;
        read.expect("the connection is closed in time").unwrap();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Waits until the other end closes or resets, whatever it says before.
    pub(crate) async fn ended(&mut self) {
        let mut all = Vec::new();
        let reading = tokio::time::timeout(SOON, self.0.read_to_end(&mut all)).await;
        let _ = reading.expect("the connection is closed in time");
    }

    /// Waits until the other end closes or resets without a word.
    pub(crate) async fn closed(&mut self) {
        let mut byte = [0];
        let read = tokio::time::timeout(SOON, self.0.read(&mut byte)).await;
        let read = read.expect("the connection is closed in time");
        assert!(!matches!(read, Ok(1..)), "{byte:?} came");
    }

    /// Whatever comes next.
    pub(crate) async fn read_some(&mut self) -> Vec<u8> {
        let mut part = vec![0; 4096];
        let reading = tokio::time::timeout(SOON, self.0.read(&mut part));
        let read = reading.await.expect("more comes in time").unwrap();
        assert!(read > 0, "closed");
        part.truncate(read);
        part
    }

    /// What comes until it contains this.
    pub(crate) async fn read_until(&mut self, wanted: &str) -> String {
        let mut all = String::new();
        let mut part = [0; 4096];
        while !all.contains(wanted) {
            let reading = tokio::time::timeout(SOON, self.0.read(&mut part));
            let read = reading.await.expect("more comes in time").unwrap();
            assert!(read > 0, "closed after {all:?}");
            all.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        all
    }
}
