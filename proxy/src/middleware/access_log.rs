//! One line for each request, one count, and the end of its span, when it is answered or abandoned.
//!
//! It holds no key and no uuid: a key may name a customer, and whoever knows
//! the uuid can release the lock.

use std::sync::Arc;

use everlock::AttemptCounter;
use everlock::clock::{Clock as _, Moment, SystemClock};
use hyper::Method;
use hyper::header::HeaderValue;

use crate::answer::Answer;
use crate::metrics::{Metrics, OTHER_ROUTE, method_name};
use crate::router::Route;
use crate::traces::RequestTrace;

/// The status that nginx gives a request whose client has gone.
const CLIENT_GONE: u16 = 499;

pub(super) struct AccessLog {
    method: Method,
    route: Option<Route>,
    id: HeaderValue,
    /// When the request's header had arrived.
    pub(super) started: Moment,
    /// Attempts of an acquire, which may be abandoned at any time.
    pub(super) attempts: AttemptCounter,
    metrics: Metrics,
    trace: Option<Arc<RequestTrace>>,
    ended: bool,
}

impl AccessLog {
    pub(super) fn begin(
        method: &Method,
        route: Option<Route>,
        id: &HeaderValue,
        metrics: &Metrics,
        trace: Option<Arc<RequestTrace>>,
    ) -> Self {
        Self {
            method: method.clone(),
            route,
            id: id.clone(),
            started: SystemClock.now(),
            attempts: AttemptCounter::default(),
            metrics: metrics.clone(),
            trace,
            ended: false,
        }
    }

    pub(super) fn end(&mut self, answer: &Answer) {
        self.ended = true;
        if let Some(trace) = &self.trace {
            trace.end(Some(answer.status));
        }
        self.write(answer.status.as_u16(), answer.attempts);
    }

    fn write(&self, status: u16, attempts: Option<u32>) {
        let took = SystemClock.now().saturating_since(self.started);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // What the client made up is not repeated, be it a path or a method.
        let path = self.route.map_or(OTHER_ROUTE, Route::path);
        self.metrics.answered(path, &self.method, status, took);
        let method = method_name(&self.method);
        let id = self.id.to_str().unwrap_or_default();
        let trace_id = self.trace.as_ref().map(|trace| trace.id());
        let trace_id = trace_id.as_deref();
        // Probes come all the time and say nothing new.
        if matches!(self.route, Some(Route::Healthz | Route::Readyz)) {
            tracing::debug!(
                method,
                route = path,
                status,
                micros,
                request_id = id,
                trace_id,
                "request"
            );
        } else {
            tracing::info!(
                method,
                route = path,
                status,
                micros,
                attempts,
                request_id = id,
                trace_id,
                "request"
            );
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if !self.ended {
            if let Some(trace) = &self.trace {
                trace.end(None);
            }
            let attempts = Some(self.attempts.made());
            self.write(CLIENT_GONE, attempts.filter(|attempts| *attempts > 0));
        }
    }
}
