//! Traces: a span for each request, and one for each command that it gives to a node.
//!
//! Invariant: without a collector nothing of it exists, and a request that is not sampled carries
//! nothing along. No span holds a key, a uuid, a fencing token, a header or anything else that a
//! client made up, apart from the trace that it says it belongs to and the host that it asked.
//!
//! How what is done in one task finds the span of a request that began in another: the library
//! asks its observer once for each operation, on the caller's task, who follows it
//! ([`Observer::follow`]), and takes that along wherever the operation goes.

mod collector;
mod export;
mod node;
mod queue;
mod request;

use std::sync::Arc;
use std::time::Duration;

use everlock::observer::{Event, Observer, Trace};
use hyper::http::request::Parts;
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub(crate) use self::request::RequestTrace;
use crate::config::{Nodes, TraceSettings};
use crate::metrics::Metrics;

/// How long what was not sent yet may take at the end: with a drain of its full length this is
/// still before container engines kill.
const FLUSH: Duration = Duration::from_millis(1_500);
/// The thread that sends has this long more to say so.
const FLUSH_SLACK: Duration = Duration::from_millis(250);

tokio::task_local! {
    /// The request that this task answers, where it is traced.
    static CURRENT: Arc<RequestTrace>;
}

/// All that makes and sends traces; clones share it.
#[derive(Clone)]
pub struct Traces(Option<Arc<Inner>>);

struct Inner {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    /// Whether nodes are Redis servers.
    redis: bool,
}

impl Traces {
    /// Traces nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Traces from now on, and counts what becomes of spans; or says what keeps it from that. It
    /// needs a runtime, which sends.
    pub fn start(
        settings: &TraceSettings,
        nodes: &Nodes,
        metrics: &Metrics,
    ) -> Result<Self, String> {
        let provider = export::provider(settings, metrics.spans())?;
        let scope = InstrumentationScope::builder("everlock");
        let scope = scope.with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self(Some(Arc::new(Inner {
            tracer: provider.tracer_with_scope(scope),
            provider,
            redis: matches!(nodes, Nodes::Redis(_)),
        }))))
    }

    /// What tells spans of what happens to the locks of their requests.
    pub(crate) fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.0.as_ref().map(|_| Arc::new(Requests) as _)
    }

    /// Begins the trace of a request, if it is sampled. Probes, which come all the time, are
    /// traced only as part of a trace that was begun elsewhere.
    pub(crate) fn begin(
        &self,
        parts: &Parts,
        route: Option<&'static str>,
        method: &'static str,
        is_probe: bool,
        tls: bool,
    ) -> Option<Arc<RequestTrace>> {
        let inner = self.0.as_ref()?;
        let parent = request::parent(&parts.headers);
        if is_probe && parent.is_none() {
            return None;
        }
        let parent = parent.unwrap_or_default();
        RequestTrace::begin(inner.tracer.clone(), &parent, inner.redis, (method, route))
            .inspect(|trace| trace.describe(parts, method, route, tls))
            .map(Arc::new)
    }

    /// Sends what was not sent yet, for a moment at most, and ends.
    pub async fn stop(&self) {
        let Some(inner) = &self.0 else { return };
        let provider = inner.provider.clone();
        // It waits for a thread, and so in a thread.
        let flushing =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH).is_ok());
        let flushed = tokio::time::timeout(FLUSH + FLUSH_SLACK, flushing).await;
        if !matches!(flushed, Ok(Ok(true))) {
            tracing::warn!("the collector did not take the last traces in time");
        }
    }
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traces")
            .field("on", &self.0.is_some())
            .finish_non_exhaustive()
    }
}

/// Runs the work of this request, so that what the library tells meanwhile is of it.
pub(crate) async fn within<T>(trace: Arc<RequestTrace>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(trace, work).await
}

/// Hands what the library tells to the request whose task it is told on.
struct Requests;

impl Observer for Requests {
    fn event(&self, event: &Event<'_>) {
        // Everything else is told on tasks of the library's own, or of no use here.
        if matches!(
            event,
            Event::Acquired { .. }
                | Event::Extended { .. }
                | Event::Released { .. }
                | Event::Waiting
                | Event::InLine { .. }
        ) {
            // Not every operation is of a request.
            let _ = CURRENT.try_with(|trace| trace.note(event));
        }
    }

    fn follow(&self) -> Option<Arc<dyn Trace>> {
        CURRENT.try_with(|trace| Arc::clone(trace) as _).ok()
    }
}
