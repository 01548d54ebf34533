//! A stand-in for Polar, the service that sells licences: the few routes that everlock uses, over
//! real TLS, with the statuses and bodies that Polar documents, and faults to order.
//!
//! Invariant: a licence's usage is counted under one lock, as Polar counts it in one row.

mod routes;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::tls::TlsFiles;

/// A licence as the fake knows it.
#[derive(Clone, Debug)]
pub struct Licence {
    /// The secret that its owner has.
    pub key: String,
    /// Polar's own name for it, a UUID.
    pub id: String,
    /// Whose it is, a UUID.
    pub customer_id: String,
    /// `granted`, `revoked` or `disabled`.
    pub status: String,
    /// How much may be used.
    pub limit_usage: Option<u64>,
    /// How much was, by increments.
    pub usage: u64,
    /// RFC 3339.
    pub expires_at: Option<String>,
}

/// What goes wrong with every request while it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// 500, with Polar's words.
    Broken,
    /// No answer ever comes.
    Silent,
    /// The request is done, and the connection cut in place of an answer.
    LostAnswer,
    /// 429 with a `Retry-After` of a minute and no body.
    Throttled,
    /// The same for whoever validates a licence key; all else is answered.
    ThrottledValidations,
    /// 307 to elsewhere.
    Redirect,
    /// A body of more bytes than anybody should read.
    Endless,
}

#[derive(Debug)]
struct State {
    licences: HashMap<String, Licence>,
    events: Vec<Value>,
    external_ids: HashSet<String>,
    fault: Fault,
    calls: HashMap<String, usize>,
    /// Calls of the public routes within the last second, and until when these are blocked.
    public: Vec<Instant>,
    blocked_until: Option<Instant>,
}

/// The running fake; it ends with the value.
#[derive(Debug)]
pub struct FakePolar {
    addr: SocketAddr,
    files: TlsFiles,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl FakePolar {
    /// What the fake takes for an organisation access token.
    pub const TOKEN: &str = "polar_oat_canary-of-the-organisation";
    /// The organisation.
    pub const ORGANISATION: &str = "0e5d9f3c-6a4b-4c1e-8f57-2d9b3a6c7e10";

    /// Starts one with these licences.
    pub async fn start(licences: impl IntoIterator<Item = Licence>) -> Self {
        let files = TlsFiles::make();
        let acceptor = TlsAcceptor::from(server_config(&files));
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let licences = licences.into_iter();
        let state = Arc::new(Mutex::new(State {
            licences: licences.map(|one| (one.key.clone(), one)).collect(),
            events: Vec::new(),
            external_ids: HashSet::new(),
            fault: Fault::None,
            calls: HashMap::new(),
            public: Vec::new(),
            blocked_until: None,
        }));
        let serving = tokio::spawn(serve(listener, acceptor, Arc::clone(&state)));
        Self {
            addr,
            files,
            state,
            serving,
        }
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("https://{}/v1", self.addr)
    }

    /// The authority that signed its certificate.
    pub fn ca(&self) -> std::path::PathBuf {
        self.files.ca()
    }

    /// Lets things go wrong from now on, or go right again.
    pub fn set_fault(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    /// Changes a licence.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Licence)) {
        change(
            self.lock()
                .licences
                .get_mut(key)
                .expect("there is such a licence"),
        );
    }

    /// How much of a licence was used, by increments.
    pub fn usage(&self, key: &str) -> u64 {
        self.lock().licences[key].usage
    }

    /// The events that were taken in, each once.
    pub fn events(&self) -> Vec<Value> {
        self.lock().events.clone()
    }

    /// The sum of a number in the metadata of a customer's events.
    pub fn metered(&self, customer_id: &str, field: &str) -> u64 {
        let events = self.events();
        let events = events
            .iter()
            .filter(|event| event["customer_id"] == customer_id);
        events
            .filter_map(|event| event["metadata"][field].as_u64())
            .sum()
    }

    /// How often a route was called, by its method and its path without names.
    pub fn calls(&self, route: &str) -> usize {
        self.lock().calls.get(route).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FakePolar {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    // Connections end with the fake.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(connection(stream, acceptor, state));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move {
            match routes::answer(&state, request).await {
                Some(response) => Ok(response),
                // An error of the service cuts the connection.
                None => Err(std::io::Error::other("cut on purpose")),
            }
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn server_config(files: &TlsFiles) -> Arc<ServerConfig> {
    let read = |path: &Path| std::fs::read(path).expect("the files are there");
    let certificate = CertificateDer::from_pem_slice(&read(&files.certificate()));
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.expect("a certificate")],
            key.expect("a key"),
        );
    Arc::new(config.expect("they belong together"))
}
