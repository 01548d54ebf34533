//! The settings of `everlock serve`, read whole before anything is started.
//!
//! Invariant: a [`Settings`] is within its bounds, and whoever has one may act
//! on it without checking again. Every problem is found in one run and names
//! its source. What is wrong is never replaced by a default.

mod admin;
mod auth;
mod certificate;
mod licence;
mod listen;
mod parse;
mod secret;
mod shown;
mod sources;
mod table;
mod tls;
mod traces;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everlock::config::{MAX_NODE_TIMEOUT, MIN_LEASE, MIN_NODE_TIMEOUT};
use everlock::protocol::{MAX_DRIFT_FACTOR, MAX_MAX_LEASE};
use everlock::{NodeTls, Redlock};

pub use self::admin::AdminSettings;
pub(crate) use self::auth::secrets;
pub use self::auth::{Auth, AuthMode, Secret};
pub use self::certificate::ServerTls;
pub(crate) use self::certificate::{Files, Fingerprint, Loaded, Pem, Wrong};
pub use self::licence::{LicenceSource, Licensing, PolarAccount};
pub use self::listen::Listen;
pub(crate) use self::parse::{duration, prefix as global_prefix, shown};
pub(crate) use self::secret::given as given_secret;
pub use self::shown::ShownSetting;
use self::shown::{Public, ServerUrl};
pub use self::sources::Sources;
use self::sources::{Given, Reader, Source};
pub(crate) use self::table::{ADMIN_TOKEN_ENV, SECRETS_ENV};
pub use self::table::{SETTINGS, Setting};
pub(crate) use self::tls::TlsFiles;
pub use self::traces::{Sampling, TraceSettings};

/// Where the locks live.
#[derive(Clone)]
pub enum Nodes {
    /// Redis servers, by URL. The URLs may hold passwords.
    Redis(Vec<String>),
    /// In the memory of this process: for development.
    Memory,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Plain,
}

/// Bounds on what one client, or all of them together, may ask of the proxy.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A bound on leases below the cluster's own.
    pub max_lease: Option<Duration>,
    /// The longest sum of delays and jitters that one acquire may ask for.
    pub max_wait: Duration,
    /// Connections that are open at once.
    pub max_connections: usize,
    /// Acquires that are under way at once.
    pub max_waiters: usize,
    /// Requests of one identity in a second, on this proxy; none for no bound.
    pub identity_rate: Option<u32>,
    /// Acquires of one identity that are under way at once, on this proxy; none for no bound.
    pub identity_max_waiters: Option<usize>,
    /// The size of a request's body.
    pub max_body: usize,
    /// How long a request's header may take to arrive.
    pub header_timeout: Duration,
    /// For how long a connection without requests is kept.
    pub idle_timeout: Duration,
    /// How long a request's body may take to arrive.
    pub body_timeout: Duration,
    /// For how long it serves on, though not ready, before an orderly end begins.
    pub drain_delay: Duration,
    /// How long an orderly end may take.
    pub drain_timeout: Duration,
}

/// All settings of `everlock serve`.
#[derive(Clone)]
pub struct Settings {
    /// Where to listen, once at least.
    pub listen: Vec<Listen>,
    /// The permissions of sockets in the file system.
    pub socket_mode: u32,
    /// What addresses speak TLS with; none for plain HTTP.
    pub tls: Option<ServerTls>,
    /// Where the locks live.
    pub nodes: Nodes,
    /// The first segment of every key on the nodes.
    pub global_prefix: String,
    /// Certificates for nodes behind TLS.
    pub node_tls: NodeTls,
    /// Whether nodes may be set to evict keys.
    pub allow_eviction: bool,
    /// How long each node is given to answer.
    pub node_timeout: Duration,
    /// The share of every lease that is not relied on.
    pub drift_factor: f64,
    /// How callers are told apart.
    pub auth: Auth,
    /// Bounds.
    pub limits: Limits,
    /// Threads that serve; none for as many as there are cores.
    pub threads: Option<usize>,
    /// How logs are written.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_level: tracing::Level,
    /// A listener for operators, if there is one.
    pub admin: Option<AdminSettings>,
    /// Where traces are sent, if anywhere.
    pub traces: Option<TraceSettings>,
    /// What is odd, but no reason not to start.
    pub warnings: Vec<String>,
    /// All of them with their sources, without secrets.
    pub shown: Vec<ShownSetting>,
    /// The file that some of them may come from.
    pub file: Option<PathBuf>,
}

/// Everything that is wrong with a configuration, a line each.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
/// More bytes than any request needs are refused, so that a mistake stays harmless.
const MAX_MAX_BODY: usize = 1024 * 1024;
/// The longest drain: after it, the supervisor's patience ends too.
const MAX_DRAIN: Duration = Duration::from_mins(10);

/// More than any machine has cores: a number above it is a mistake.
const MAX_THREADS: usize = 1_024;

impl Settings {
    /// Reads the settings: flag over environment over file over default.
    pub fn read(sources: Sources) -> Result<Self, Problems> {
        Self::read_with(sources, &|path| std::fs::read(path))
    }

    /// The same with files from elsewhere.
    pub(crate) fn read_with(
        sources: Sources,
        files: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, Problems> {
        let mut reader = Reader::open(sources, files);
        let listen = listen::read(&mut reader);
        let tls = certificate::read(&mut reader, &listen);
        let auth = auth::read(&mut reader);
        let anybody = auth.mode == AuthMode::None && !tls.as_ref().is_some_and(ServerTls::asks);
        let (nodes, node_tls) = nodes(&mut reader, &listen, anybody);
        let admin = admin::read(&mut reader, &listen);
        let settings = Self {
            listen,
            socket_mode: reader.read("socket-mode", listen::mode).0,
            tls,
            nodes,
            node_tls,
            auth,
            allow_eviction: reader.read_switch("allow-eviction").is_some(),
            global_prefix: reader.read("global-prefix", prefix).0,
            node_timeout: reader.read("node-timeout", |text| {
                parse::duration(text, MIN_NODE_TIMEOUT, MAX_NODE_TIMEOUT)
            }),
            drift_factor: reader.read("drift-factor", |text| {
                parse::number(text, 0.0, MAX_DRIFT_FACTOR)
            }),
            limits: limits(&mut reader),
            threads: reader.read_optional("threads", |text| parse::count(text, 1, MAX_THREADS)),
            log_format: reader.read("log-format", parse::log_format),
            log_level: reader.read("log-level", parse::log_level),
            admin,
            traces: traces::read(&mut reader),
            warnings: Vec::new(),
            shown: Vec::new(),
            file: reader.file(),
        };
        let (warnings, shown) = reader.finish()?;
        Ok(Self {
            warnings,
            shown,
            ..settings
        })
    }
}

fn prefix(text: &str) -> Result<Public, String> {
    parse::prefix(text).map(Public)
}

fn limits(reader: &mut Reader<'_>) -> Limits {
    let count = |text: &str| parse::count(text, 1, 1_000_000);
    let timeout = |text: &str| parse::duration(text, SECOND / 10, MAX_DRAIN);
    Limits {
        max_lease: reader.read_optional("max-lease", |text| {
            parse::duration(text, MIN_LEASE, MAX_MAX_LEASE)
        }),
        max_wait: reader.read("max-wait", |text| {
            parse::duration(text, Duration::ZERO, DAY)
        }),
        max_connections: reader.read("max-connections", count),
        max_waiters: reader.read("max-waiters", count),
        identity_rate: reader
            .read_optional("identity-rate", count)
            .and_then(|rate| u32::try_from(rate).ok()),
        identity_max_waiters: reader.read_optional("identity-max-waiters", count),
        max_body: reader.read("max-body", |text| parse::size(text, 1024, MAX_MAX_BODY)),
        header_timeout: reader.read("header-timeout", timeout),
        idle_timeout: reader.read("idle-timeout", timeout),
        body_timeout: reader.read("body-timeout", timeout),
        drain_delay: reader.read("drain-delay", |text| {
            parse::duration(text, Duration::ZERO, MAX_DRAIN)
        }),
        drain_timeout: reader.read("drain-timeout", timeout),
    }
}

/// The nodes with their certificates, and whether they may be served at these addresses, to anybody
/// or to some.
fn nodes(reader: &mut Reader<'_>, listen: &[Listen], anybody: bool) -> (Nodes, NodeTls) {
    let given = reader.read_list("node", ServerUrl);
    let dev = reader.read_switch("dev");
    let open = reader.read_switch("allow-unauthenticated");
    let others = listen.iter().find(|listen| !listen.is_local());
    match (&given, &dev, others) {
        (Some(nodes), Some(dev), _) => {
            let problem = format!(
                "can't be combined with nodes, which come from {}",
                nodes.source
            );
            reader.problem(&dev.source, &problem);
        }
        (None, None, _) => reader.problem(
            &Source::Nowhere,
            "there are no nodes: give --node URL for each Redis server (or EVERLOCK_NODES, comma \
             separated), or --dev to try everlock without any",
        ),
        (None, Some(dev), Some(listen)) => {
            let problem = format!("serves on loopback only, not on {listen}");
            reader.problem(&dev.source, &problem);
        }
        (Some(_), None, Some(listen)) if anybody && open.is_none() => {
            let source = reader.source("listen");
            reader.problem(
                &source,
                &format!(
                    "{listen} is not a loopback address and nobody has to authenticate: whoever \
                     can reach it can take and release any lock. Listen on 127.0.0.1, demand API keys \
                     with --auth keys, or say --allow-unauthenticated"
                ),
            );
        }
        _ => {}
    }
    let tls = node_tls(reader, given.as_ref());
    let Some(given) = given else {
        return (Nodes::Memory, tls);
    };
    if given.values.is_empty() {
        reader.problem(&given.source, "lists no node");
    }
    for problem in Redlock::builder().node_urls(&given.values).node_problems() {
        reader.problem(&given.source, &problem.to_string());
    }
    (Nodes::Redis(given.values), tls)
}

/// Certificates, of use only where a node is behind TLS.
fn node_tls(reader: &mut Reader<'_>, nodes: Option<&Given>) -> NodeTls {
    let [ca, certificate, key] = tls::FLAGS.map(|flag| reader.read_file(flag));
    let (Ok(ca), Ok(certificate), Ok(key)) = (ca, certificate, key) else {
        return NodeTls::default();
    };
    let files = TlsFiles {
        ca,
        certificate,
        key,
    };
    let empty: &[String] = &[];
    let (tls, problems) = files.check(nodes.map_or(empty, |nodes| &nodes.values));
    for (flag, problem) in problems {
        let source = reader.source(flag);
        reader.problem(&source, &problem);
    }
    tls
}

#[cfg(test)]
mod tests;
