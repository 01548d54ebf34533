//! The collector, over HTTP: one request at a time, each with a deadline.
//!
//! Invariant: what goes wrong with it is logged when it begins and when it is over, and every
//! minute at most between. No log and no error holds a header, a body or more of the URL than may
//! be shown.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use everlock::clock::{Clock as _, Moment, SystemClock};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use tokio::runtime::Handle;

use crate::config::TraceSettings;
use crate::identity::trust;

/// Answers of a collector are empty, or say how much it did not take.
const MAX_ANSWER: usize = 64 * 1024;
/// How often a collector that stays away is told of.
const REMIND_EVERY: Duration = Duration::from_mins(1);

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub(super) struct Collector {
    client: Https,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    /// Where requests are made: who asks is a thread without a runtime.
    runtime: Handle,
    /// When it was last told that it takes nothing; none while it does.
    away: Mutex<Option<Moment>>,
    rejected: Rejected,
}

/// The spans of a batch that the collector took otherwise, and did not take.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejected(Arc<AtomicU64>);

impl Rejected {
    /// How many they were since this was asked last.
    pub(super) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::AcqRel)
    }

    /// Reads an answer; one that is none says nothing of spans.
    fn note(&self, answer: &Bytes) {
        let answer = ExportTraceServiceResponse::decode(answer.clone()).ok();
        let partial = answer.and_then(|answer| answer.partial_success);
        let rejected = partial.and_then(|partial| u64::try_from(partial.rejected_spans).ok());
        self.0.fetch_add(rejected.unwrap_or(0), Ordering::AcqRel);
    }
}

/// Nothing was taken.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Failed {
    #[error("there was no answer in time")]
    Late,
    #[error("it can't be reached")]
    Unreachable,
    #[error("its answer is too large, or was cut")]
    Unreadable,
    #[error("it answered with status {0}")]
    Refused(u16),
}

impl Collector {
    pub(super) fn new(settings: &TraceSettings, rejected: Rejected) -> Result<Self, String> {
        let tls = trust(settings.ca.as_deref());
        let tls = tls.map_err(|problem| format!("traces can't be sent: {problem}"))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            headers: settings.headers.clone(),
            timeout: settings.timeout,
            runtime: Handle::current(),
            away: Mutex::new(None),
            rejected,
        })
    }

    fn note(&self, result: Result<(), Failed>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                if away.take().is_some() {
                    tracing::info!("the collector takes traces again");
                }
            }
            Err(problem) => {
                let now = SystemClock.now();
                let told = away.is_some_and(|last| now.saturating_since(last) < REMIND_EVERY);
                if !told {
                    *away = Some(now);
                    tracing::warn!(%problem, "the collector takes no traces: they are lost");
                }
            }
        }
    }
}

async fn ask(client: Https, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Failed> {
    let answer = client.request(request).await;
    let (head, body) = answer.map_err(|_| Failed::Unreachable)?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    let body = body.map_err(|_| Failed::Unreadable)?.to_bytes();
    Ok(Response::from_parts(head, body))
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut request = request.map(Full::new);
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let (client, time) = (self.client.clone(), self.timeout);
        // The timer is made where there is a runtime.
        let asking = async move { tokio::time::timeout(time, ask(client, request)).await };
        // Bounded by its deadline; that it is not aborted where nobody waits any more does no harm.
        let asked = self.runtime.spawn(asking).await;
        let answer = asked.unwrap_or(Ok(Err(Failed::Unreachable)));
        let answer = answer.unwrap_or(Err(Failed::Late));
        self.note(match &answer {
            Ok(answer) if answer.status().is_success() => {
                self.rejected.note(answer.body());
                Ok(())
            }
            Ok(answer) => Err(Failed::Refused(answer.status().as_u16())),
            Err(failed) => Err(*failed),
        });
        Ok(answer?)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}
