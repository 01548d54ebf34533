//! A collector: a real server of OTLP over HTTP, which keeps what it was sent, or misbehaves.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use everlock_testkit::{TlsFiles, eventually};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{self as wire, status::StatusCode};
use prost::Message as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::SOON;

/// What it does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Takes,
    Refuses(u16),
    /// Takes what it is sent but for so many spans, and says so.
    Rejects(i64),
    NeverAnswers,
}

/// A span, with its resource.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) name: String,
    pub(super) kind: SpanKind,
    pub(super) trace: String,
    pub(super) id: String,
    /// Empty for one that begins its trace.
    pub(super) parent: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) events: Vec<String>,
    pub(super) is_error: bool,
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) resource: BTreeMap<String, String>,
    pub(super) scope: String,
}

impl Span {
    /// An attribute; nothing where there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    /// Everything as it came.
    bytes: Vec<u8>,
    heads: Vec<(String, HeaderMap)>,
}

struct State {
    manner: Mutex<Manner>,
    received: Mutex<Received>,
    connections: AtomicUsize,
}

pub(super) struct Collector {
    pub(super) addr: SocketAddr,
    state: Arc<State>,
    tls: bool,
}

impl Collector {
    pub(super) async fn start(manner: Manner) -> Self {
        Self::serve(manner, None).await
    }

    pub(super) async fn over_tls(files: &TlsFiles) -> Self {
        let chain = CertificateDer::pem_file_iter(files.certificate()).unwrap();
        let chain = chain.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(files.key()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::serve(Manner::Takes, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(manner: Manner, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            manner: Mutex::new(manner),
            received: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let (shared, is_tls) = (Arc::clone(&state), tls.is_some());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            addr,
            state,
            tls: is_tls,
        }
    }

    /// What stands in `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub(super) fn endpoint(&self) -> String {
        if self.tls {
            format!("https://localhost:{}", self.addr.port())
        } else {
            format!("http://{}", self.addr)
        }
    }

    pub(super) fn set(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        self.state.received.lock().unwrap().spans.clone()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.state.received.lock().unwrap().bytes.clone()
    }

    pub(super) fn heads(&self) -> Vec<(String, HeaderMap)> {
        self.state.received.lock().unwrap().heads.clone()
    }

    /// Spans, once there are so many that are wanted.
    pub(super) async fn wait(&self, count: usize, wanted: impl Fn(&Span) -> bool) -> Vec<Span> {
        let found = || self.spans().into_iter().filter(&wanted).collect::<Vec<_>>();
        let came = eventually(SOON, || async { found().len() >= count }).await;
        assert!(came, "{:#?}", self.spans());
        found()
    }

    /// The one span that is wanted.
    pub(super) async fn one(&self, wanted: impl Fn(&Span) -> bool) -> Span {
        self.wait(1, wanted).await.remove(0)
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, state: Arc<State>) {
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, request).await) }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // How it ends is the exporter's affair.
    let _ = serving.await;
}

async fn answer(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let manner = *state.manner.lock().unwrap();
    match manner {
        Manner::NeverAnswers => std::future::pending().await,
        Manner::Refuses(status) => Response::builder()
            .status(status)
            .body(Full::default())
            .unwrap(),
        Manner::Takes | Manner::Rejects(_) => {
            let mut received = state.received.lock().unwrap();
            received.bytes.extend_from_slice(&body);
            if !head.headers.contains_key("content-encoding") {
                let export = ExportTraceServiceRequest::decode(body).unwrap();
                received.spans.extend(spans(export));
            }
            received.heads.push((head.uri.to_string(), head.headers));
            let rejected_spans = match manner {
                Manner::Rejects(count) => count,
                _ => 0,
            };
            let answer = ExportTraceServiceResponse {
                partial_success: (rejected_spans > 0).then(|| ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: String::new(),
                }),
            };
            Response::new(Full::new(answer.encode_to_vec().into()))
        }
    }
}

fn spans(export: ExportTraceServiceRequest) -> Vec<Span> {
    let mut all = Vec::new();
    for of_resource in export.resource_spans {
        let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.unwrap_or_default().name;
            let spans = of_scope.spans.into_iter();
            all.extend(spans.map(|span| one(span, &resource, &scope)));
        }
    }
    all
}

fn one(span: wire::Span, resource: &BTreeMap<String, String>, scope: &str) -> Span {
    Span {
        kind: span.kind(),
        is_error: span
            .status
            .as_ref()
            .is_some_and(|status| status.code() == StatusCode::Error),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(|event| event.name).collect(),
        from: span.start_time_unix_nano,
        until: span.end_time_unix_nano,
        name: span.name,
        resource: resource.clone(),
        scope: scope.to_owned(),
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = pairs.into_iter();
    pairs.map(|pair| (pair.key, text(pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
