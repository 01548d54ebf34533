//! Options, their defaults with the reasons, and their bounds.

mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use self::tls::NodeTls;
use crate::core::types::OwnerId;
use crate::core::validity::Drift;
use crate::error::ConfigError;

/// Long enough for most critical sections, short enough to recover from a crash.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);
/// Below this, drift and a round trip leave nothing.
pub const MIN_LEASE: Duration = Duration::from_millis(10);
/// With the default delay, two to three seconds of waiting.
pub const DEFAULT_RETRIES: u32 = 10;
/// More is a mistake: it would be hours at any sensible delay.
pub const MAX_RETRIES: u32 = 100_000;
/// A compromise between the load of polling and the wait after a release.
pub const DEFAULT_DELAY: Duration = Duration::from_millis(200);
/// As long as the delay, so that waiters that began together spread out.
pub const DEFAULT_JITTER: Duration = Duration::from_millis(100);
/// The longest delay and the longest jitter.
pub const MAX_DELAY: Duration = Duration::from_hours(1);
/// Long enough for a stalled virtual machine or a new TLS session near by,
/// short enough that an outage of a quorum is answered within a second or two.
pub const DEFAULT_NODE_TIMEOUT: Duration = Duration::from_millis(300);
/// The shortest time a node can be given.
pub const MIN_NODE_TIMEOUT: Duration = Duration::from_millis(1);
/// The longest.
pub const MAX_NODE_TIMEOUT: Duration = Duration::from_secs(30);
/// Nodes that restart or reconnect are back within this; a longer outage is the caller's to know.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(1);

/// How long to hold a lock, and how long to try for it.
///
/// Bounds are checked when an operation is given the options: an error names the
/// field and the bound.
#[derive(Clone, Debug)]
pub struct AcquireOptions {
    pub(crate) lease: Duration,
    pub(crate) retries: u32,
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    pub(crate) deadline: Option<Duration>,
    pub(crate) min_validity: Duration,
    pub(crate) owner: Option<OwnerId>,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) counter: Option<AttemptCounter>,
    pub(crate) fifo: bool,
}

impl Default for AcquireOptions {
    fn default() -> Self {
        Self {
            lease: DEFAULT_LEASE,
            retries: DEFAULT_RETRIES,
            delay: DEFAULT_DELAY,
            jitter: DEFAULT_JITTER,
            deadline: None,
            min_validity: Duration::ZERO,
            owner: None,
            max_hold: None,
            counter: None,
            fifo: false,
        }
    }
}

impl AcquireOptions {
    /// The defaults: see the constants of this module.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the lock is held unless it is extended or released: [`MIN_LEASE`] to the cluster's maximum.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Retries after the first attempt; 0 is one attempt. At most [`MAX_RETRIES`].
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The time between attempts. At most [`MAX_DELAY`]; of less than a millisecond, a
    /// millisecond is made.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// A random time up to this is added to each delay. At most [`MAX_DELAY`].
    #[must_use]
    pub const fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// No attempt is begun this long after the request or later, whatever retries are left.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The validity that must be left of a won lock for it to count. Less than the lease.
    #[must_use]
    pub const fn min_validity(mut self, min_validity: Duration) -> Self {
        self.min_validity = min_validity;
        self
    }

    /// The owner id; a fresh UUID of version 7 if none is given. Asking again under the id
    /// that holds the lock succeeds with the same token.
    #[must_use]
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// How long a [`Guard`](crate::Guard) renews the lock before it lets it run
    /// out; for ever if this is not given. What is not renewed takes no notice.
    #[must_use]
    pub const fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// Whether to wait in strict order: first in, first out, among all who ask for it, in
    /// whatever process. Each waiter has a ticket on the nodes, renewed once a second; one
    /// that died keeps those behind it waiting for three to four seconds. At most
    /// [`MAX_QUEUE`](crate::protocol::MAX_QUEUE) wait for one lock. Acquires without this
    /// may take the lock out of turn.
    #[must_use]
    pub const fn fifo(mut self, fifo: bool) -> Self {
        self.fifo = fifo;
        self
    }

    /// Counts the attempts while they are made, for callers that may drop the acquire.
    #[must_use]
    pub fn count_attempts(mut self, counter: AttemptCounter) -> Self {
        self.counter = Some(counter);
        self
    }

    pub(crate) fn check(&self, max_lease: Duration) -> Result<(), ConfigError> {
        if !(MIN_LEASE..=max_lease).contains(&self.lease) {
            return Err(ConfigError::bounds(
                "lease", self.lease, MIN_LEASE, max_lease,
            ));
        }
        if self.retries > MAX_RETRIES {
            return Err(ConfigError::OutOfBounds {
                field: "retries",
                value: self.retries.to_string(),
                bounds: format!("0 to {MAX_RETRIES}"),
            });
        }
        for (field, value) in [("delay", self.delay), ("jitter", self.jitter)] {
            if value > MAX_DELAY {
                return Err(ConfigError::bounds(field, value, Duration::ZERO, MAX_DELAY));
            }
        }
        if self.min_validity >= self.lease {
            return Err(ConfigError::OutOfBounds {
                field: "min_validity",
                value: format!("{} ms", self.min_validity.as_millis()),
                bounds: format!("less than the lease of {} ms", self.lease.as_millis()),
            });
        }
        Ok(())
    }
}

/// How many attempts an acquire request has made so far; clones show the same.
#[derive(Clone, Debug, Default)]
pub struct AttemptCounter(Arc<AtomicU32>);

impl AttemptCounter {
    /// Attempts made; never more than 1 + retries.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, made: u32) {
        self.0.store(made, Ordering::Relaxed);
    }
}

/// How the nodes are dealt with: the same for all operations of one client.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long each node is given to answer.
    pub node_timeout: Duration,
    /// What is taken off each lease.
    pub drift: Drift,
    /// For how long an acquire request bears a missing quorum.
    pub patience: Duration,
    /// A bound on leases below the cluster's own; `None` for the cluster's.
    pub max_lease: Option<Duration>,
    /// Whether nodes may be set to evict keys.
    pub allow_eviction: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node_timeout: DEFAULT_NODE_TIMEOUT,
            drift: Drift::default(),
            patience: DEFAULT_PATIENCE,
            max_lease: None,
            allow_eviction: false,
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if !(MIN_NODE_TIMEOUT..=MAX_NODE_TIMEOUT).contains(&self.node_timeout) {
            return Err(ConfigError::bounds(
                "node timeout",
                self.node_timeout,
                MIN_NODE_TIMEOUT,
                MAX_NODE_TIMEOUT,
            ));
        }
        if let Some(max_lease) = self.max_lease.filter(|max_lease| *max_lease < MIN_LEASE) {
            return Err(ConfigError::bounds(
                "maximum lease",
                max_lease,
                MIN_LEASE,
                crate::core::marker::MAX_MAX_LEASE,
            ));
        }
        Ok(())
    }
}
