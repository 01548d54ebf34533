//! What all requests share: the locks, the bounds, and whether the end is near.

use std::sync::Arc;
use std::time::Duration;

use everlock::protocol::MAX_MAX_LEASE;
use everlock::{Redlock, Resource};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Limits;
use crate::identity::{Accounts, Bounds, Caller, Gate, Identity};
use crate::insights::Insights;
use crate::metrics::{Metrics, Sample};
use crate::readiness::Readiness;
use crate::traces::Traces;

/// Who looks on at what a proxy does; nobody unless said otherwise.
#[derive(Clone)]
pub struct Watchers {
    /// Counts.
    pub metrics: Metrics,
    /// Records what is seen of the locks.
    pub insights: Arc<Insights>,
    /// Follows single requests.
    pub traces: Traces,
}

impl Default for Watchers {
    fn default() -> Self {
        Self {
            metrics: Metrics::off(),
            insights: Insights::off(),
            traces: Traces::off(),
        }
    }
}

/// The proxy, without a listener.
pub struct App {
    pub(crate) redlock: Redlock,
    pub(crate) limits: Limits,
    pub(crate) gate: Gate,
    /// What each identity may ask of this proxy.
    pub(crate) accounts: Accounts,
    pub(crate) readiness: Readiness,
    /// What was seen of the locks.
    pub(crate) insights: Arc<Insights>,
    /// One permit for each acquire that is under way.
    pub(crate) waiters: Arc<Semaphore>,
    /// Requests that are being answered.
    pub(crate) requests: TaskTracker,
    /// Connections that are open.
    pub(crate) connections: TaskTracker,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    /// The end was asked for, and all is still served.
    leaving: CancellationToken,
    drain: CancellationToken,
    prefix: String,
}

impl App {
    /// A proxy for these locks, whose keys begin with `prefix`, that lets in whom `gate` does.
    #[must_use]
    pub fn new(redlock: Redlock, prefix: &str, limits: Limits, gate: Gate) -> Arc<Self> {
        Self::watched(redlock, prefix, limits, gate, Watchers::default())
    }

    /// The same, of whose requests and locks these hear.
    #[must_use]
    pub fn watched(
        redlock: Redlock,
        prefix: &str,
        limits: Limits,
        gate: Gate,
        watchers: Watchers,
    ) -> Arc<Self> {
        Arc::new(Self {
            metrics: watchers.metrics,
            insights: watchers.insights,
            traces: watchers.traces,
            gate,
            accounts: Accounts::new(Bounds {
                rate: limits.identity_rate,
                max_waiters: limits.identity_max_waiters,
                ..Bounds::default()
            }),
            readiness: Readiness::new(redlock.clone()),
            redlock,
            waiters: Arc::new(Semaphore::new(limits.max_waiters)),
            limits,
            requests: TaskTracker::new(),
            connections: TaskTracker::new(),
            leaving: CancellationToken::new(),
            drain: CancellationToken::new(),
            prefix: prefix.to_owned(),
        })
    }

    /// Serving => Leaving: not ready any more, but everybody is served.
    pub(crate) fn begin_leaving(&self) {
        self.leaving.cancel();
    }

    /// Leaving => Draining: nobody waits for a lock any more.
    pub(crate) fn begin_drain(&self) {
        self.leaving.cancel();
        self.drain.cancel();
    }

    /// Cancelled once the end was asked for.
    pub(crate) fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Whether the end was asked for.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Whether nobody may wait any more.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Completes once nobody may wait any more.
    pub(crate) async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// What metrics tell of this moment.
    pub(crate) fn sample(&self) -> Sample {
        Sample {
            draining: self.is_leaving(),
            knows_callers: self.gate.is_ready(),
            requests: self.requests.len(),
            acquires: self.limits.max_waiters - self.waiters.available_permits(),
            acquires_limit: self.limits.max_waiters,
            connections: self.connections.len(),
            connections_limit: self.limits.max_connections,
            cleanups: self.redlock.pending_cleanups(),
        }
    }

    /// The longest lease that this caller may ask for, as far as it is known.
    pub(crate) fn max_lease(&self, caller: &Caller) -> Duration {
        let known = self.redlock.max_lease().unwrap_or(MAX_MAX_LEASE);
        let bounds = [self.limits.max_lease, caller.bounds().max_lease];
        bounds.into_iter().flatten().fold(known, Duration::min)
    }

    /// The longest wait that this caller may ask for.
    pub(crate) fn max_wait(&self, caller: &Caller) -> Duration {
        let own = caller.bounds().max_wait;
        own.map_or(self.limits.max_wait, |own| own.min(self.limits.max_wait))
    }

    /// The key on the nodes. Users control its last part alone: neither prefix
    /// nor identity holds a `:`, so nobody reaches another identity's keys.
    pub(crate) fn resource(&self, identity: &Identity, key: &str) -> Resource {
        resource(&self.prefix, identity, key)
    }
}

/// As [`App::resource`], without an app.
pub(crate) fn resource(prefix: &str, identity: &Identity, key: &str) -> Resource {
    let identity = identity.as_str();
    Resource::new(format!("{prefix}:{identity}:{key}"))
        .expect("prefix, identity and key are bounded, and the prefix has no '~'")
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("redlock", &self.redlock)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// All texts of one to four of these characters.
    fn texts(alphabet: &[char]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        let mut last = vec![String::new()];
        for _ in 0..4 {
            let longer = |text: &String| {
                let text = text.clone();
                alphabet.iter().map(move |next| format!("{text}{next}"))
            };
            last = last.iter().flat_map(longer).collect();
            all.extend(last.iter().cloned());
        }
        all
    }

    #[test]
    fn no_two_identities_have_a_key_in_common_not_even_one_that_is_kept_beside_it() {
        let mut owners: HashMap<String, (String, String)> = HashMap::new();
        let identities = texts(&['a', '-', '_']);
        let keys = texts(&['a', ':', '~', '-']);
        for identity in identities.iter().filter_map(|name| Identity::new(name)) {
            for key in &keys {
                let resource = resource("P", &identity, key);
                let beside = [
                    resource.fence_key(),
                    resource.queue_key(),
                    resource.beats_key(),
                    resource.ticket_key(),
                ];
                let beside = beside.map(|key| key.to_string());
                let all = beside.into_iter().chain([resource.as_str().to_owned()]);
                let owner = (identity.as_str().to_owned(), key.clone());
                for name in all {
                    let first = name.split(':').next().unwrap_or_default();
                    assert!(
                        !["P~usage", "P~unreported", "P~revoked", "P~revoked-mark"]
                            .contains(&first)
                    );
                    let other = owners.insert(name.clone(), owner.clone());
                    assert_eq!(other, None, "{name} is of {owner:?}, too");
                }
            }
        }
        assert!(owners.len() > 100_000, "{}", owners.len());
    }
}
