//! From settings to locks, and to those who may ask for them.

use std::sync::Arc;

use everlock::{ConfigError, Redlock};

use crate::app::Watchers;
use crate::config::{AuthMode, LicenceSource, Licensing, Nodes, Settings};
use crate::identity::{
    self, Backend, Gate, Https, Keeper, LicenceFile, Licences, Meters, POLAR_DEADLINE, Polar,
    Reporter, Secrets,
};
use crate::telemetry::{LogObserver, Observers};

/// As many as a small production cluster has, so that development meets the same quorum.
const DEV_NODES: usize = 5;

/// Connects to the nodes of these settings. Those that don't answer are no
/// error; those that were never opened for voting are.
pub async fn connect(settings: &Settings) -> Result<Redlock, ConfigError> {
    connect_watched(settings, &Watchers::default()).await
}

/// The same; these hear of what happens to the locks, and of the nodes' troubles.
pub async fn connect_watched(
    settings: &Settings,
    watchers: &Watchers,
) -> Result<Redlock, ConfigError> {
    let observers = Observers {
        log: LogObserver::default(),
        metrics: watchers.metrics.locks(),
        insights: Arc::clone(&watchers.insights),
        traces: watchers.traces.observer(),
    };
    let mut builder = Redlock::builder()
        .observer(Arc::new(observers))
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

/// Lets in whom these settings say; or says what is wrong with them. It begins to watch the nodes,
/// and needs a runtime.
pub fn gate(settings: &Settings, redlock: &Redlock) -> Result<Gate, String> {
    if settings.auth.mode == AuthMode::None {
        return Ok(Gate::open());
    }
    let keepers = match &settings.nodes {
        Nodes::Redis(urls) => Keeper::all(urls, &settings.node_tls),
        Nodes::Memory => Ok(Vec::new()),
    };
    let keepers = keepers.map_err(|error| error.to_string())?;
    let licensing = settings.auth.licensing.as_ref();
    let licences = licensing.map(licences).transpose()?;
    let prefix = &settings.global_prefix;
    let licensing = licences.map(|licences| {
        let meters = Meters::new(prefix, keepers.clone());
        let backend = Arc::clone(licences.backend());
        let reporter = Reporter::start(prefix, redlock.clone(), Arc::clone(&meters), backend);
        identity::Licensing {
            licences,
            meters,
            _reporter: reporter,
        }
    });
    let secrets = Secrets::new(&settings.auth.secrets);
    Ok(Gate::guarded(prefix, secrets, keepers, licensing))
}

fn licences(licensing: &Licensing) -> Result<Arc<Licences>, String> {
    let backend: Arc<dyn Backend> = match &licensing.source {
        LicenceSource::File(path) => {
            let file = LicenceFile::open(path);
            Arc::new(file.map_err(|problem| format!("the licence file: {problem}"))?)
        }
        LicenceSource::Polar(account) => {
            let https = Https::new(&account.url, account.ca.as_deref(), POLAR_DEADLINE);
            let https = https.map_err(|problem| format!("--polar-url: {problem}"))?;
            if https.is_plain_to_others() {
                return Err("--polar-url: the token would be sent without TLS".to_owned());
            }
            Arc::new(Polar::new(https, &account.organisation, &account.token))
        }
    };
    let (refresh, grace) = (licensing.refresh, licensing.grace);
    Ok(Arc::new(Licences::new(backend, refresh, grace)))
}
