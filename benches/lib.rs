//! What the benchmarks share: nodes to lock on, lockers to compare, and the
//! processor time that both sides used.
//!
//! A run counts only what was verified: each cycle acquired and released, tokens
//! of one key rise, and no key is left at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use everlock::{AcquireOptions, Redlock};
use everlock_testkit::{RedisCluster, eventually};

/// The lease of every benchmark: long enough never to end within a cycle.
pub const LEASE: Duration = Duration::from_secs(10);

/// A lock client under measurement.
#[derive(Clone)]
pub enum Locker {
    /// This project.
    Everlock(Redlock),
    /// rslock with its defaults, or with another retry delay.
    Rslock(rslock::LockManager),
}

impl Locker {
    /// This project over these nodes.
    ///
    /// # Panics
    ///
    /// When the nodes can't be opened.
    pub async fn everlock(nodes: &RedisCluster) -> Self {
        let redlock = Redlock::builder()
            .node_urls(nodes.urls())
            .initialise(None)
            .connect()
            .await
            .expect("fresh nodes can be opened");
        Self::Everlock(redlock)
    }

    /// rslock over these nodes, its retry delay its own default unless one is given.
    #[must_use]
    pub fn rslock(nodes: &RedisCluster, retry_delay: Option<Duration>) -> Self {
        let mut manager = rslock::LockManager::new(nodes.urls());
        if let Some(delay) = retry_delay {
            manager.set_retry(100_000, delay);
        }
        Self::Rslock(manager)
    }

    /// The client's name in tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Everlock(_) => "everlock",
            Self::Rslock(_) => "rslock",
        }
    }

    /// Acquires, runs the section, releases. Whether the lock was acquired.
    ///
    /// # Panics
    ///
    /// When a lock that was acquired cannot be released.
    pub async fn cycle(
        &self,
        key: &str,
        retry_delay: Duration,
        section: impl AsyncFnOnce(u64),
    ) -> bool {
        match self {
            Self::Everlock(redlock) => {
                let options = AcquireOptions::new()
                    .lease(LEASE)
                    .retries(1_000)
                    .delay(retry_delay)
                    .jitter(retry_delay);
                let Ok(grant) = redlock.acquire(key, options).await else {
                    return false;
                };
                section(grant.token().as_u64()).await;
                redlock
                    .release(&grant)
                    .await
                    .expect("what was acquired can be released");
                true
            }
            Self::Rslock(manager) => {
                let Ok(lock) = manager.acquire_no_guard(key.as_bytes(), LEASE).await else {
                    return false;
                };
                section(0).await;
                manager.unlock(&lock).await;
                true
            }
        }
    }
}

/// Nobody is ever in the section beside another, and tokens rise.
#[derive(Debug, Default)]
pub struct Witness {
    inside: AtomicUsize,
    last_token: AtomicU64,
}

impl Witness {
    /// Enters and leaves the section.
    ///
    /// # Panics
    ///
    /// When somebody else is inside, or the token is not above the last one.
    pub async fn section(&self, token: u64, hold: Duration) {
        assert_eq!(
            self.inside.fetch_add(1, Ordering::SeqCst),
            0,
            "two holders at once"
        );
        if token > 0 {
            let last = self.last_token.swap(token, Ordering::SeqCst);
            assert!(token > last, "token {token} after {last}");
        }
        if !hold.is_zero() {
            tokio::time::sleep(hold).await;
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Five nodes without persistence, as in the peers' own benchmarks.
#[must_use]
pub fn five_nodes() -> RedisCluster {
    RedisCluster::start(5)
}

/// Runs cycles on `tasks` tasks, each on keys of its own, `cycles` in all.
///
/// # Panics
///
/// When a cycle fails: without contention none may.
pub async fn uncontended(locker: &Locker, tasks: usize, cycles: u64) {
    let left = Arc::new(AtomicU64::new(cycles));
    let mut running = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let (locker, left) = (locker.clone(), Arc::clone(&left));
        running.spawn(async move {
            let key = format!("bench:{task}");
            let witness = Witness::default();
            let one = |n: u64| n.checked_sub(1);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one)
                .is_ok()
            {
                let section = async |token| witness.section(token, Duration::ZERO).await;
                assert!(
                    locker.cycle(&key, Duration::from_millis(1), section).await,
                    "refused"
                );
            }
        });
    }
    while let Some(done) = running.join_next().await {
        done.expect("a task does not fail");
    }
}

/// Waits until no lock is left on any node; companion keys may stay.
///
/// # Panics
///
/// When a lock stays.
pub async fn nothing_left(nodes: &RedisCluster) {
    let clean = eventually(Duration::from_secs(5), || async {
        nodes
            .servers()
            .iter()
            .all(|node| node.keys().iter().all(|key| key.contains('~')))
    });
    assert!(clean.await, "a lock was left behind");
}

/// Processor time of this process, in microseconds, in steps of ten milliseconds.
#[must_use]
pub fn own_cpu_micros() -> u64 {
    cpu_micros("self")
}

/// Processor time of the nodes together.
#[must_use]
pub fn nodes_cpu_micros(nodes: &RedisCluster) -> u64 {
    let pids = nodes
        .servers()
        .iter()
        .filter_map(everlock_testkit::RedisServer::pid);
    pids.map(|pid| cpu_micros(&pid.to_string())).sum()
}

fn cpu_micros(process: &str) -> u64 {
    const MICROS_PER_TICK: u64 = 10_000;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, which may hold anything, ends at the last parenthesis.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<u64> = fields
        .split_whitespace()
        .map(|f| f.parse().unwrap_or(0))
        .collect();
    let (user, system) = (fields.get(11).unwrap_or(&0), fields.get(12).unwrap_or(&0));
    (user + system) * MICROS_PER_TICK
}
