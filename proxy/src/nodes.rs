//! From settings to locks, and to those who may ask for them.

use std::sync::Arc;

use everlock::{ConfigError, Redlock};

use crate::config::{AuthMode, Nodes, Settings};
use crate::identity::{Gate, Keeper, Secrets};
use crate::telemetry::LogObserver;

/// As many as a small production cluster has, so that development meets the same quorum.
const DEV_NODES: usize = 5;

/// Connects to the nodes of these settings. Those that don't answer are no
/// error; those that were never opened for voting are.
pub async fn connect(settings: &Settings) -> Result<Redlock, ConfigError> {
    let mut builder = Redlock::builder()
        .observer(Arc::new(LogObserver::default()))
        .node_timeout(settings.node_timeout)
        .drift_factor(settings.drift_factor)
        .node_tls(settings.node_tls.clone())
        .allow_eviction(settings.allow_eviction);
    if let Some(max_lease) = settings.limits.max_lease {
        builder = builder.max_lease(max_lease);
    }
    match &settings.nodes {
        Nodes::Redis(urls) => builder.node_urls(urls).connect().await,
        Nodes::Memory => builder.memory_nodes(DEV_NODES).connect().await,
    }
}

/// Lets in whom these settings say. It begins to watch the nodes, and needs a runtime.
pub fn gate(settings: &Settings) -> Result<Gate, ConfigError> {
    if settings.auth.mode == AuthMode::None {
        return Ok(Gate::open());
    }
    let keepers = match &settings.nodes {
        Nodes::Redis(urls) => Keeper::all(urls, &settings.node_tls)?,
        Nodes::Memory => Vec::new(),
    };
    let secrets = Secrets::new(&settings.auth.secrets);
    Ok(Gate::guarded(&settings.global_prefix, secrets, keepers))
}
