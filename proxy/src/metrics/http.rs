//! Requests by OpenTelemetry's `http.server.request.duration`: route, method and status.
//!
//! Invariant: what a client makes up is folded into one word, so the number of series is bounded
//! by the table of routes, whoever asks for what.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::Method;
use metrics::{Histogram, Key, Label, Recorder};

use super::METADATA;

pub(crate) const DURATION: &str = "http_server_request_duration_seconds";
pub(super) const HELP: &str = "How long requests took from their header to the answer; status 499 \
                               is a client that went away.";
/// As the conventions advise.
pub(super) const BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// How the conventions call methods that are none.
const OTHER_METHOD: &str = "_OTHER";
/// Stands for all paths that are none.
pub(crate) const OTHER_ROUTE: &str = "other";
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "DELETE"];
/// What the proxy answers with; anything else is one series.
const STATUSES: [u16; 19] = [
    200, 400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 429, 431, 499, 500, 501, 502, 503, 504,
];

/// Names of the method that are no client's invention.
pub(crate) fn method_name(method: &Method) -> &'static str {
    METHODS[..]
        .iter()
        .find(|known| **known == method.as_str())
        .copied()
        .unwrap_or(OTHER_METHOD)
}

pub(super) struct Http {
    recorder: Arc<dyn Recorder + Send + Sync>,
    routes: Vec<&'static str>,
    /// Made when they are needed first, in the order route, method, status.
    durations: Vec<OnceLock<Histogram>>,
}

impl Http {
    /// For these routes and all others together.
    pub(super) fn new(
        recorder: Arc<dyn Recorder + Send + Sync>,
        routes: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let routes: Vec<_> = routes.into_iter().chain([OTHER_ROUTE]).collect();
        let slots = routes.len() * (METHODS.len() + 1) * (STATUSES.len() + 1);
        Self {
            recorder,
            routes,
            durations: (0..slots).map(|_| OnceLock::new()).collect(),
        }
    }

    pub(super) fn answered(&self, route: &str, method: &Method, status: u16, took: Duration) {
        let last = |length: usize| length - 1;
        let other = last(self.routes.len());
        let mut routes = self.routes.iter();
        let route = routes.position(|known| *known == route).unwrap_or(other);
        let name = method_name(method);
        let mut methods = METHODS.iter();
        let method = methods.position(|known| *known == name);
        let method = method.unwrap_or(METHODS.len());
        let known = STATUSES.binary_search(&status);
        let status = known.unwrap_or(STATUSES.len());
        let index = (route * (METHODS.len() + 1) + method) * (STATUSES.len() + 1) + status;
        let made = || self.register(route, name, status);
        self.durations[index].get_or_init(made).record(took);
    }

    fn register(&self, route: usize, method: &'static str, status: usize) -> Histogram {
        let status = STATUSES.get(status);
        let status = status.map_or("other".to_owned(), ToString::to_string);
        let labels = vec![
            Label::from_static_parts("http_request_method", method),
            Label::from_static_parts("http_route", self.routes[route]),
            Label::new("http_response_status_code", status),
        ];
        let key = Key::from_parts(DURATION, labels);
        self.recorder.register_histogram(&key, &METADATA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_in_order() {
        assert!(STATUSES.is_sorted());
    }

    #[test]
    fn methods_that_nobody_defined_are_one() {
        assert_eq!(method_name(&Method::POST), "POST");
        for made_up in ["PATCH", "post", "X", "CANARY"] {
            let method = Method::from_bytes(made_up.as_bytes()).unwrap();
            assert_eq!(method_name(&method), OTHER_METHOD);
        }
    }
}
