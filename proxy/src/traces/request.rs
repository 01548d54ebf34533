//! The span of one request, from its header to its answer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

use everlock::NodeId;
use everlock::observer::{AcquireOutcome, CommandTrace, Event, Trace};
use everlock::protocol::{ExtendOutcome, ReleaseOutcome};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, StatusCode, Version, header};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use opentelemetry_semantic_conventions::attribute as names;

use super::node::NodeCall;

const TRACEPARENT: &str = "traceparent";
/// A version, a trace, a span and flags, in hexadecimal digits.
const TRACEPARENT_CHARS: usize = 55;
/// A request that waits for long asks the nodes again and again: what comes after so many commands
/// is counted and has no span of its own.
const MAX_CALLS: u32 = 256;
/// How the conventions name requests of methods that are none.
const OTHER: &str = "HTTP";
/// What a request ended with whose client has gone.
const CLIENT_GONE: &str = "client_gone";

/// A request that is traced.
pub(crate) struct RequestTrace {
    pub(super) tracer: SdkTracer,
    /// With the request's span.
    pub(super) context: Context,
    /// Whether nodes are Redis servers.
    pub(super) redis: bool,
    calls: AtomicU32,
    answered: Arc<Answered>,
}

/// The nodes that answered, in time or late.
#[derive(Debug, Default)]
pub(super) struct Answered(Mutex<Vec<NodeId>>);

impl Answered {
    pub(super) fn note(&self, node: &NodeId) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !nodes.contains(node) {
            nodes.push(node.clone());
        }
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The trace that the client says this request is part of. What is no W3C trace context, and one
/// that is given twice, is as good as none.
pub(super) fn parent(headers: &HeaderMap) -> Option<Context> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (only, None) = (given.next()?, given.next()) else {
        return None;
    };
    if only.len() < TRACEPARENT_CHARS {
        return None;
    }
    let extractor = HeaderExtractor(headers);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &extractor);
    context.has_active_span().then_some(context)
}

impl RequestTrace {
    /// None if it is not sampled.
    pub(super) fn begin(
        tracer: SdkTracer,
        parent: &Context,
        redis: bool,
        (method, route): (&'static str, Option<&'static str>),
    ) -> Option<Self> {
        let builder = tracer.span_builder(name(method, route));
        let span = tracer.build_with_context(builder.with_kind(SpanKind::Server), parent);
        let context = Context::new().with_span(span);
        let sampled = context.span().span_context().is_sampled();
        sampled.then(|| Self {
            tracer,
            context,
            redis,
            calls: AtomicU32::new(0),
            answered: Arc::default(),
        })
    }

    /// What is known of the request from its header.
    pub(super) fn describe(
        &self,
        parts: &Parts,
        method: &'static str,
        route: Option<&'static str>,
        tls: bool,
    ) {
        let span = self.context.span();
        let scheme = if tls { "https" } else { "http" };
        span.set_attributes([
            KeyValue::new(names::HTTP_REQUEST_METHOD, method),
            KeyValue::new(names::URL_SCHEME, scheme),
        ]);
        // A path that is none of ours may hold anything: it is not repeated.
        if let Some(route) = route {
            span.set_attributes([
                KeyValue::new(names::HTTP_ROUTE, route),
                KeyValue::new(names::URL_PATH, route),
            ]);
        }
        if let Some(version) = version(parts.version) {
            span.set_attribute(KeyValue::new(names::NETWORK_PROTOCOL_VERSION, version));
        }
        if let Some(asked) = asked(parts) {
            let host = asked.host().trim_matches(['[', ']']).to_owned();
            span.set_attribute(KeyValue::new(names::SERVER_ADDRESS, host));
            let usual = if tls { 443 } else { 80 };
            let port = asked.port_u16().unwrap_or(usual);
            span.set_attribute(KeyValue::new(names::SERVER_PORT, i64::from(port)));
        }
    }

    /// The id of its trace, for the log.
    pub(crate) fn id(&self) -> String {
        self.context.span().span_context().trace_id().to_string()
    }

    /// Something happened to the lock that it is about.
    pub(super) fn note(&self, event: &Event<'_>) {
        let span = self.context.span();
        let outcome = |word| span.set_attribute(KeyValue::new("everlock.outcome", word));
        match event {
            Event::Acquired {
                outcome: ended,
                attempts,
                waited,
                ..
            } => {
                outcome(of_acquire(*ended));
                span.set_attributes([
                    KeyValue::new("everlock.attempts", i64::from(*attempts)),
                    KeyValue::new("everlock.waited", *waited),
                ]);
            }
            Event::Extended { outcome: ended, .. } => outcome(of_extend(*ended)),
            Event::Released { outcome: ended, .. } => outcome(of_release(*ended)),
            Event::Waiting => span.add_event("waiting", Vec::new()),
            Event::InLine { .. } => span.add_event("in line", Vec::new()),
            _ => {}
        }
    }

    /// It was answered; or not, where the client has gone.
    pub(crate) fn end(&self, status: Option<StatusCode>) {
        let span = self.context.span();
        match status {
            Some(status) => {
                let code = i64::from(status.as_u16());
                span.set_attribute(KeyValue::new(names::HTTP_RESPONSE_STATUS_CODE, code));
                if status.is_server_error() {
                    let code = status.as_str().to_owned();
                    span.set_attribute(KeyValue::new(names::ERROR_TYPE, code));
                    span.set_status(Status::error(""));
                }
            }
            None => span.set_attribute(KeyValue::new(names::ERROR_TYPE, CLIENT_GONE)),
        }
        let calls = self.calls.load(Ordering::Relaxed);
        if calls > 0 {
            let nodes = i64::try_from(self.answered.count()).unwrap_or(i64::MAX);
            span.set_attribute(KeyValue::new("everlock.nodes.answered", nodes));
        }
        if let Some(more) = calls.checked_sub(MAX_CALLS).filter(|more| *more > 0) {
            let more = i64::from(more);
            span.set_attribute(KeyValue::new("everlock.node_calls.untraced", more));
        }
        span.end();
    }
}

impl Trace for RequestTrace {
    fn command(&self, node: &NodeId, operation: &'static str) -> Option<Box<dyn CommandTrace>> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= MAX_CALLS {
            return None;
        }
        let answered = Arc::clone(&self.answered);
        Some(Box::new(NodeCall::begin(self, node, operation, answered)))
    }
}

impl fmt::Debug for RequestTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestTrace").finish_non_exhaustive()
    }
}

/// The method and the route, or the method alone.
fn name(method: &'static str, route: Option<&'static str>) -> Cow<'static, str> {
    let method = if method.starts_with('_') {
        OTHER
    } else {
        method
    };
    match route {
        Some(route) => format!("{method} {route}").into(),
        None => method.into(),
    }
}

const fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// The host that was asked, by whichever name the client knows it.
fn asked(parts: &Parts) -> Option<Authority> {
    let own = parts.uri.authority().cloned();
    own.or_else(|| {
        let host = parts.headers.get(header::HOST)?;
        Authority::try_from(host.as_bytes()).ok()
    })
}

const fn of_acquire(outcome: AcquireOutcome) -> &'static str {
    match outcome {
        AcquireOutcome::Acquired => "acquired",
        AcquireOutcome::Contended => "contended",
        AcquireOutcome::Unavailable => "unavailable",
        AcquireOutcome::Late => "late",
        AcquireOutcome::Cancelled => "cancelled",
    }
}

const fn of_extend(outcome: ExtendOutcome) -> &'static str {
    match outcome {
        ExtendOutcome::Extended => "extended",
        ExtendOutcome::Unavailable => "unavailable",
        ExtendOutcome::HeldByAnother => "held_by_another",
        ExtendOutcome::NotHeld => "not_held",
    }
}

const fn of_release(outcome: Option<ReleaseOutcome>) -> &'static str {
    match outcome {
        Some(ReleaseOutcome::Released) => "released",
        Some(ReleaseOutcome::Unavailable) => "unavailable",
        Some(ReleaseOutcome::HeldByAnother) => "held_by_another",
        Some(ReleaseOutcome::NotHeld) => "not_held",
        None => "let_go",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(texts: &[&str]) -> Option<Context> {
        let mut headers = HeaderMap::new();
        for text in texts {
            headers.append(TRACEPARENT, HeaderValue::from_str(text).unwrap());
        }
        parent(&headers)
    }

    #[test]
    fn a_trace_context_is_taken_over_and_what_is_none_is_not() {
        let context = of(&[GIVEN]).unwrap();
        let span = context.span();
        let span = span.span_context();
        assert!(span.is_sampled() && span.is_remote());
        assert!(GIVEN.contains(&span.trace_id().to_string()));
        assert!(GIVEN.contains(&span.span_id().to_string()));
        for none in [
            "",
            "00-1-1-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
        ] {
            assert!(of(&[none]).is_none(), "{none}");
        }
        assert!(of(&[]).is_none() && of(&[GIVEN, GIVEN]).is_none());
    }
}
