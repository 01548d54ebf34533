//! A careful HTTP client: for a backend that may be slow, wrong or somebody else.
//!
//! Invariant: an answer is whole, at most [`MAX_ANSWER`] bytes unless more were allowed, and came
//! from the very host that was asked, within the deadline; redirects are answers like any other. No
//! error holds a header or a body, which may hold secrets.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

/// Answers of a backend have a kilobyte or two.
const MAX_ANSWER: usize = 64 * 1024;

/// A client that trusts the authorities in this PEM, or the public ones.
pub(crate) fn trust(ca: Option<&[u8]>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for authority in CertificateDer::pem_slice_iter(pem) {
                let added = authority.ok().map(|authority| roots.add(authority));
                if !matches!(added, Some(Ok(()))) {
                    return Err("the authority is no certificate in PEM".to_owned());
                }
            }
            if roots.is_empty() {
                return Err("the authority is no certificate in PEM".to_owned());
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Fetched {
    /// The body, if it is JSON.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whole seconds after which to ask again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
        seconds.parse().ok().map(Duration::from_secs)
    }
}

/// Nothing came back that could be used. It may have been done all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("there was no answer in time")]
    Late,
    #[error("the connection failed")]
    Failed,
    #[error("the answer is too large, or was cut")]
    Unreadable,
}

/// A client of one base URL.
#[derive(Clone, Debug)]
pub(crate) struct Https {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    deadline: Duration,
    /// Bytes of an answer that are taken.
    most: usize,
}

impl Https {
    /// A client of what is below `base`. It trusts the authorities in `ca`, or the public ones.
    pub(crate) fn new(base: &str, ca: Option<&[u8]>, deadline: Duration) -> Result<Self, String> {
        let base = base.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| format!("{base:?} is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(format!("{base:?} is no URL of http:// or https://"));
        }
        let tls = trust(ca)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let base = base.to_owned();
        Ok(Self {
            client,
            base,
            deadline,
            most: MAX_ANSWER,
        })
    }

    /// The same client, over the same connections, that waits for so long.
    pub(crate) fn within(&self, deadline: Duration) -> Self {
        Self {
            deadline,
            ..self.clone()
        }
    }

    /// The same for answers of up to so many bytes.
    pub(crate) fn taking(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// Whether what is sent can be read on the way.
    pub(crate) fn is_plain_to_others(&self) -> bool {
        let uri: Uri = self.base.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let own = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        uri.scheme_str() != Some("https") && !own
    }

    /// Asks once. Whoever drops the future has asked, perhaps.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Fetched, Unanswered> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                concat!("everlock/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(bearer) = bearer {
            let value = HeaderValue::try_from(format!("Bearer {bearer}"));
            let mut value = value.map_err(|_| Unanswered::Failed)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = body.map(ToString::to_string);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(body.unwrap_or_default()));
        let request = request.map_err(|_| Unanswered::Failed)?;
        let asking = async {
            let answer = self.client.request(request).await;
            let (head, body) = answer.map_err(|_| Unanswered::Failed)?.into_parts();
            let body = Limited::new(body, self.most).collect().await;
            let body = body.map_err(|_| Unanswered::Unreadable)?.to_bytes();
            Ok(Fetched {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        let asked = tokio::time::timeout(self.deadline, asking).await;
        asked.unwrap_or(Err(Unanswered::Late))
    }
}
