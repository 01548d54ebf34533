//! Putting a client together, and refusing what can't work.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;

use super::chores::Chores;
use super::clockwork::{Clockwork, keep_watch};
use super::leaving::Leaving;
use super::line::Lines;
use super::turns::Turns;
use super::{Inner, Redlock};
use crate::clock::{Clock, SystemClock};
use crate::cluster::Cluster;
use crate::config::{NodeTls, Settings};
use crate::core::token::TokenClock;
use crate::core::validity::{DEFAULT_DRIFT_MARGIN, Drift, MAX_DRIFT_FACTOR};
use crate::entropy::{Entropy, SystemEntropy};
use crate::error::ConfigError;
use crate::node::memory::MemoryNode;
use crate::node::redis::{Membership, RedisNode, address};
use crate::node::{Judged, Node, observed};
use crate::observer::{NoObserver, Observer};

/// How long [`RedlockBuilder::connect`] waits for nodes to be judged.
const CONNECT_TIME: Duration = Duration::from_secs(2);

/// Configures a [`Redlock`]. Every default is a named constant of [`crate::config`].
#[must_use]
pub struct RedlockBuilder {
    sources: Vec<Source>,
    settings: Settings,
    tls: NodeTls,
    drift_factor: Option<f64>,
    opening: Opening,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    /// Whether there is an observer, so that nodes' answers are worth telling.
    observed: bool,
}

/// Whether a new set of nodes is opened when connecting, and with which maximum lease.
#[derive(Clone, Copy)]
enum Opening {
    Never,
    AtConnect(Option<Duration>),
}

enum Source {
    Url(String),
    Pool(String, deadpool_redis::Pool),
    #[cfg(feature = "test-util")]
    Streams(String, crate::node::redis::streams::Connector),
    Ready(Arc<dyn Node>),
    Memory(usize),
}

impl Default for RedlockBuilder {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            settings: Settings::default(),
            tls: NodeTls::default(),
            drift_factor: None,
            opening: Opening::Never,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            observer: Arc::new(NoObserver),
            observed: false,
        }
    }
}

impl RedlockBuilder {
    /// Adds Redis nodes by URL: `redis://[user:password@]host:port/[db]`, `rediss://` for TLS.
    pub fn node_urls<U: Into<String>>(mut self, urls: impl IntoIterator<Item = U>) -> Self {
        self.sources
            .extend(urls.into_iter().map(|url| Source::Url(url.into())));
        self
    }

    /// Certificates for nodes at `rediss://` URLs.
    pub fn node_tls(mut self, tls: NodeTls) -> Self {
        self.tls = tls;
        self
    }

    /// Adds a Redis node that is connected to through an application's own pool.
    ///
    /// The name stands for the node in reports and logs. One connection is taken
    /// from the pool for good, and another each time that one breaks.
    pub fn node_pool(mut self, name: impl Into<String>, pool: deadpool_redis::Pool) -> Self {
        self.sources.push(Source::Pool(name.into(), pool));
        self
    }

    /// Adds a Redis node that is connected to over a test's own streams.
    #[cfg(feature = "test-util")]
    pub fn node_streams(
        mut self,
        name: impl Into<String>,
        connector: crate::node::redis::streams::Connector,
    ) -> Self {
        self.sources.push(Source::Streams(name.into(), connector));
        self
    }

    /// Adds nodes of another make.
    pub fn nodes(mut self, nodes: impl IntoIterator<Item = Arc<dyn Node>>) -> Self {
        self.sources.extend(nodes.into_iter().map(Source::Ready));
        self
    }

    /// Adds nodes in this process's memory, which are initialised by themselves.
    /// For development and tests: nothing outside the process can see them.
    pub fn memory_nodes(mut self, count: usize) -> Self {
        self.sources.push(Source::Memory(count));
        self
    }

    /// How long each node is given to answer.
    pub const fn node_timeout(mut self, timeout: Duration) -> Self {
        self.settings.node_timeout = timeout;
        self
    }

    /// The share of every lease that is not relied on, since clocks differ: 0 to 0.5.
    pub const fn drift_factor(mut self, factor: f64) -> Self {
        self.drift_factor = Some(factor);
        self
    }

    /// For how long an acquire request bears a missing quorum before that is its answer.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// A bound on this client's leases below that of the cluster.
    pub const fn max_lease(mut self, max_lease: Duration) -> Self {
        self.settings.max_lease = Some(max_lease);
        self
    }

    /// Whether nodes may be set to evict keys (`maxmemory-policy` other than
    /// `noeviction`), which may drop locks and floors. They are refused otherwise.
    pub const fn allow_eviction(mut self, allow: bool) -> Self {
        self.settings.allow_eviction = allow;
        self
    }

    /// Opens a new set of nodes when connecting, as `everlock cluster init` does.
    /// Safe at every start. `None` takes the cluster's maximum lease, or five
    /// minutes if it is new.
    pub const fn initialise(mut self, max_lease: Option<Duration>) -> Self {
        self.opening = Opening::AtConnect(max_lease);
        self
    }

    /// Another source of time, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of randomness, for tests.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Receives events.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self.observed = true;
        self
    }

    /// Everything that is wrong with the nodes' URLs and certificates, found
    /// without connecting to any. Nodes are counted from 1; no URL is repeated.
    #[must_use]
    pub fn node_problems(&self) -> Vec<ConfigError> {
        let mut problems = Vec::new();
        let mut index = 0;
        let mut seen: Vec<(String, usize)> = Vec::new();
        for source in &self.sources {
            index += source.count();
            let Source::Url(url) = source else { continue };
            match address(url) {
                Err(problem) => problems.push(ConfigError::BadUrl { index, problem }),
                Ok(address) => match seen.iter().find(|(other, _)| *other == address) {
                    Some((_, other)) => {
                        let problem = format!("the same server as node {other}");
                        problems.push(ConfigError::BadUrl { index, problem });
                    }
                    None => seen.push((address, index)),
                },
            }
        }
        let tls = self.tls.problem();
        problems.extend(tls.map(|problem| ConfigError::BadTls { problem }));
        problems
    }

    /// The nodes as a cluster, for its operator: nothing is judged or refused yet.
    ///
    /// Must be called within a tokio runtime.
    pub fn cluster(self) -> Result<Cluster, ConfigError> {
        let settings = self.checked()?;
        let (nodes, _) = self.build_nodes(&settings)?;
        let cluster = Cluster::of(nodes, self.clock, self.entropy);
        Ok(cluster.allow_eviction(settings.allow_eviction))
    }

    /// Connects to the nodes, and refuses what can't work: no nodes, the same
    /// server twice, replicas, cluster mode, eviction, nodes of different clusters,
    /// nodes that were never initialised.
    ///
    /// Nodes that don't answer are no error: they are used as soon as they do.
    /// Must be called within a tokio runtime, which then runs the connections.
    pub async fn connect(self) -> Result<Redlock, ConfigError> {
        let settings = self.checked()?;
        let (nodes, memory_only) = self.build_nodes(&settings)?;
        let opening = match self.opening {
            Opening::Never if memory_only => Opening::AtConnect(None),
            opening => opening,
        };
        if let Opening::AtConnect(max_lease) = opening {
            let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
            Cluster::of(nodes.clone(), clock, entropy)
                .allow_eviction(settings.allow_eviction)
                .init(max_lease)
                .await?;
        }
        let serving = judge(&nodes).await?;
        let chores = Chores::new(&nodes, &self.clock, &self.observer, Handle::current());
        let clocks = Clockwork::of(nodes.len());
        let inner = Inner {
            nodes,
            settings,
            clock: self.clock,
            entropy: self.entropy,
            observer: self.observer,
            tokens: Mutex::new(TokenClock::default()),
            cluster: OnceLock::new(),
            chores,
            lines: Lines::new(),
            turns: Turns::default(),
            leaving: Leaving::default(),
            clocks,
            runtime: Handle::current(),
        };
        let redlock = Redlock {
            inner: Arc::new(inner),
        };
        redlock.inner.check_own_bound()?;
        let inner = &redlock.inner;
        tokio::join!(inner.learn_time(), inner.learn_clocks(&serving));
        let inner = Arc::downgrade(&redlock.inner);
        redlock.inner.runtime.spawn(keep_watch(inner));
        Ok(redlock)
    }

    fn checked(&self) -> Result<Settings, ConfigError> {
        let mut settings = self.settings;
        if let Some(factor) = self.drift_factor {
            settings.drift = Drift::new(factor, DEFAULT_DRIFT_MARGIN).ok_or_else(|| {
                ConfigError::OutOfBounds {
                    field: "drift factor",
                    value: factor.to_string(),
                    bounds: format!("0 to {MAX_DRIFT_FACTOR}"),
                }
            })?;
        }
        settings.check()?;
        Ok(settings)
    }

    /// The nodes, and whether all of them are in memory.
    fn build_nodes(&self, settings: &Settings) -> Result<(Vec<Arc<dyn Node>>, bool), ConfigError> {
        let count = self.sources.iter().map(Source::count).sum();
        if count == 0 {
            return Err(ConfigError::NoNodes);
        }
        if let Some(problem) = self.tls.problem() {
            return Err(ConfigError::BadTls { problem });
        }
        let membership = Arc::new(Membership::new(count));
        let mut nodes: Vec<Arc<dyn Node>> = Vec::with_capacity(count);
        let mut memory_only = true;
        for source in &self.sources {
            let index = nodes.len();
            let seat = || {
                let (clock, observer) = (Arc::clone(&self.clock), Arc::clone(&self.observer));
                membership.seat(index, settings, clock, observer)
            };
            memory_only &= matches!(source, Source::Memory(_));
            match source {
                Source::Url(url) => {
                    nodes.push(Arc::new(RedisNode::from_url(url, &self.tls, seat())?));
                }
                Source::Pool(name, pool) => {
                    nodes.push(Arc::new(RedisNode::from_pool(name, pool.clone(), seat())));
                }
                #[cfg(feature = "test-util")]
                Source::Streams(name, connector) => {
                    let node = RedisNode::over(name, Arc::clone(connector), seat());
                    nodes.push(Arc::new(node));
                }
                Source::Ready(node) => nodes.push(Arc::clone(node)),
                Source::Memory(count) => {
                    for number in 1..=*count {
                        let name = format!("memory-{number}");
                        nodes.push(Arc::new(MemoryNode::new(&name, Arc::clone(&self.clock))));
                    }
                }
            }
        }
        if self.observed {
            nodes = observed(nodes, &self.clock, &self.observer);
        }
        Ok((nodes, memory_only))
    }
}

impl Source {
    const fn count(&self) -> usize {
        match self {
            Self::Memory(count) => *count,
            _ => 1,
        }
    }
}

/// Waits for the nodes to be judged, refuses what is wrong for good, and says which
/// of them serve.
async fn judge(nodes: &[Arc<dyn Node>]) -> Result<Vec<bool>, ConfigError> {
    let all = nodes.iter().map(|node| async move {
        (
            node.id(),
            tokio::time::timeout(CONNECT_TIME, node.judge()).await.ok(),
        )
    });
    let judged = futures_util::future::join_all(all).await;
    let mut uninitialised = false;
    let mut serving = Vec::with_capacity(nodes.len());
    for (id, judged) in judged {
        serving.push(matches!(judged, Some(Judged::Serving(_))));
        match judged {
            Some(Judged::Refused(problem)) => {
                return Err(ConfigError::BadNode {
                    node: id.to_string(),
                    problem,
                });
            }
            Some(Judged::Uninitialised) => uninitialised = true,
            Some(Judged::Serving(_) | Judged::Away(_)) | None => {}
        }
    }
    if uninitialised && !serving.contains(&true) {
        return Err(ConfigError::NotInitialised);
    }
    Ok(serving)
}

impl Inner {
    /// A client may only lower the bound on leases.
    fn check_own_bound(&self) -> Result<(), ConfigError> {
        let (Some(own), Some(cluster)) = (self.settings.max_lease, self.cluster()) else {
            return Ok(());
        };
        if own > cluster.max_lease {
            let least = crate::config::MIN_LEASE;
            return Err(ConfigError::bounds(
                "maximum lease",
                own,
                least,
                cluster.max_lease,
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for RedlockBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedlockBuilder")
            .field(
                "nodes",
                &self.sources.iter().map(Source::count).sum::<usize>(),
            )
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
