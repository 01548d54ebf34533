//! The proxy's metrics: one recorder, the handles that events count on, and their exposition.
//!
//! Invariant: no label holds what a client sent. Handles are made once; an event looks nothing up
//! by name. Without an admin listener nobody could read anything, and nothing is counted.

mod http;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use everlock::metrics::{HISTOGRAMS, MetricsObserver};
use hyper::Method;
use metrics::{Gauge, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use self::http::Http;
pub(crate) use self::http::{OTHER_ROUTE, method_name};
pub(crate) use self::spans::Spans;

/// Of this everlock.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What it was built from, where the build said so.
pub(crate) const REVISION: Option<&str> = option_env!("EVERLOCK_REVISION");

static METADATA: Metadata<'static> = Metadata::new("everlock", Level::INFO, Some("everlock"));

const BUILD_INFO: (&str, &str) = (
    "everlock_build_info",
    "Which everlock this is; it is always 1.",
);
/// What is asked for when metrics are read, in the order of [`Sample::values`].
const SAMPLED: [(&str, &str); 8] = [
    (
        "everlock_ready",
        "Whether locks can be served, as far as nodes were heard of last; /readyz asks them.",
    ),
    ("everlock_draining", "Whether the proxy was asked to end."),
    (
        "http_server_active_requests",
        "Requests that are being answered.",
    ),
    (
        "everlock_acquires_in_progress",
        "Acquires that are under way, each with a seat.",
    ),
    (
        "everlock_acquires_limit",
        "Seats for acquires; more are answered 429.",
    ),
    (
        "everlock_connections",
        "Connections to the API that are open.",
    ),
    (
        "everlock_connections_limit",
        "Connections to the API that may be open; more wait to be accepted.",
    ),
    (
        "everlock_undo_pending",
        "Clean-up commands that a node has yet to answer.",
    ),
];

/// What is asked for when metrics are read, rather than counted before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) draining: bool,
    /// Whether it is known who may ask.
    pub(crate) knows_callers: bool,
    pub(crate) requests: usize,
    pub(crate) acquires: usize,
    pub(crate) acquires_limit: usize,
    pub(crate) connections: usize,
    pub(crate) connections_limit: usize,
    /// Commands that clean up and were not answered yet.
    pub(crate) cleanups: usize,
}

impl Sample {
    #[allow(clippy::cast_precision_loss, reason = "they are counts below 2^53")]
    fn values(&self, quorum: bool) -> [f64; SAMPLED.len()] {
        let ready = quorum && self.knows_callers && !self.draining;
        [
            f64::from(u8::from(ready)),
            f64::from(u8::from(self.draining)),
            self.requests as f64,
            self.acquires as f64,
            self.acquires_limit as f64,
            self.connections as f64,
            self.connections_limit as f64,
            self.cleanups as f64,
        ]
    }
}

/// All that is counted in a proxy; clones share it.
#[derive(Clone)]
pub struct Metrics(Option<Arc<Inner>>);

struct Inner {
    recorder: Arc<dyn Recorder + Send + Sync>,
    handle: PrometheusHandle,
    locks: Arc<MetricsObserver>,
    http: Http,
    process: Collector,
    sampled: [Gauge; SAMPLED.len()],
}

impl Metrics {
    /// Counts nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Counts from now on, requests by these routes.
    #[must_use]
    pub fn on(routes: impl IntoIterator<Item = &'static str>) -> Self {
        let recorder = exporter().build_recorder();
        let handle = recorder.handle();
        let recorder: Arc<dyn Recorder + Send + Sync> = Arc::new(recorder);
        let process = Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        let (name, help) = BUILD_INFO;
        recorder.describe_gauge(name.into(), None, help.into());
        let mut labels = vec![Label::from_static_parts("version", VERSION)];
        labels.extend(REVISION.map(|revision| Label::from_static_parts("revision", revision)));
        let build = Key::from_parts(name, labels);
        recorder.register_gauge(&build, &METADATA).set(1.0);
        recorder.describe_histogram(http::DURATION.into(), None, http::HELP.into());
        let sampled = SAMPLED.map(|(name, help)| {
            recorder.describe_gauge(name.into(), None, help.into());
            recorder.register_gauge(&Key::from_static_name(name), &METADATA)
        });
        Self(Some(Arc::new(Inner {
            handle,
            locks: Arc::new(MetricsObserver::with_recorder(Arc::clone(&recorder))),
            http: Http::new(Arc::clone(&recorder), routes),
            process,
            sampled,
            recorder,
        })))
    }

    /// Counts what happens to locks.
    pub(crate) fn locks(&self) -> Option<Arc<MetricsObserver>> {
        self.0.as_ref().map(|inner| Arc::clone(&inner.locks))
    }

    /// Counts what becomes of spans; until this is asked for, there is no such metric.
    pub(crate) fn spans(&self) -> Spans {
        match &self.0 {
            Some(inner) => Spans::on(&*inner.recorder),
            None => Spans::off(),
        }
    }

    /// A request was answered, or abandoned.
    pub(crate) fn answered(&self, route: &str, method: &Method, status: u16, took: Duration) {
        if let Some(inner) = &self.0 {
            inner.http.answered(route, method, status, took);
        }
    }

    /// All of it in Prometheus's text format.
    pub(crate) fn render(&self, sample: Sample) -> String {
        let Some(inner) = &self.0 else {
            return String::new();
        };
        let values = sample.values(inner.locks.quorum_available());
        for (gauge, value) in inner.sampled.iter().zip(values) {
            gauge.set(value);
        }
        metrics::with_local_recorder(&inner.recorder, || inner.process.collect());
        inner.handle.render()
    }

    /// Merges what was counted, so that it takes no room.
    pub(crate) fn upkeep(&self) {
        if let Some(inner) = &self.0 {
            inner.handle.run_upkeep();
        }
    }
}

/// With the buckets of every histogram; there is no summary.
fn exporter() -> PrometheusBuilder {
    let own = (http::DURATION, http::BUCKETS);
    let all = HISTOGRAMS.iter().copied().chain([own]);
    all.fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
        builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)
            .expect("there are buckets")
    })
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("on", &self.0.is_some())
            .finish_non_exhaustive()
    }
}
