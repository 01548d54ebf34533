//! An answer on its way out: status, JSON, and what the log wants to know of it.

use everlock::clock::Moment;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;

/// What a handler answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// Seconds, for the header `Retry-After`.
    pub(crate) retry_after: Option<u64>,
    /// The methods that a path takes, for the header `Allow`.
    pub(crate) allow: Option<&'static str>,
    /// Whether the client is to show an API key.
    pub(crate) authenticate: bool,
    /// Whether the connection is no good for another request.
    pub(crate) close: bool,
    /// Attempts to acquire that the request made, for the log.
    pub(crate) attempts: Option<u32>,
    /// The moment from which the validity in the body counts, or one before it.
    pub(crate) valid_from: Option<Moment>,
    /// What a page for people may do in its browser; an answer without one is JSON.
    pub(crate) page_policy: Option<HeaderValue>,
}

impl Answer {
    /// An answer with this body.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("our own types are written without fail");
        Self {
            status,
            body: body.into(),
            retry_after: None,
            allow: None,
            authenticate: false,
            close: false,
            attempts: None,
            valid_from: None,
            page_policy: None,
        }
    }

    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let mut answer = Self::json(status, &());
        answer.body = Bytes::new();
        answer
    }

    /// The same as an HTTP response.
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let is_empty = self.body.is_empty();
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !is_empty {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        // Who holds a lock is nobody's business a moment later.
        let no_store = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, no_store);
        if let Some(policy) = self.page_policy {
            as_page(headers, policy);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.authenticate {
            let bearer = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// The headers of a page. Another version's would be out of date, so who keeps it asks again.
fn as_page(headers: &mut HeaderMap, policy: HeaderValue) {
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
