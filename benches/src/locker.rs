//! The lock clients under measurement.

use std::time::Duration;

use everlock::{AcquireOptions, Held, Redlock};
use everlock_testkit::RedisCluster;
use tokio::time::Instant;

use crate::{LEASE, Naive, Raw};

/// More than any benchmark needs: who gives up would count as fast.
const ATTEMPTS: u32 = 100_000;

/// How this project's lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Acquired and released.
    Grants,
    /// The same, in strict turn across processes.
    InTurn,
    /// By `with_lock`, which hands it on inside the process.
    Sections,
}

/// A lock client under measurement.
#[derive(Clone)]
pub enum Locker {
    /// This project.
    Everlock {
        /// The client.
        redlock: Redlock,
        /// What of it is used.
        way: Way,
    },
    /// rslock with its own defaults, or with another retry delay.
    Rslock {
        /// The client.
        manager: rslock::LockManager,
        /// What it is called in tables.
        name: &'static str,
    },
    /// A connection checked out of a pool for each command.
    Naive(Naive),
    /// Pipelined by hand.
    Raw(Raw),
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
        Self::Everlock {
            redlock,
            way: Way::Grants,
        }
    }

    /// The same, used in another way.
    #[must_use]
    pub fn by(self, way: Way) -> Self {
        match self {
            Self::Everlock { redlock, .. } => Self::Everlock { redlock, way },
            other => other,
        }
    }

    /// rslock over these nodes: its retry delay its own default, with as many retries
    /// as are needed, unless one is given.
    #[must_use]
    pub fn rslock(nodes: &RedisCluster, retry_delay: Option<Duration>) -> Self {
        const DEFAULT_DELAY: Duration = Duration::from_millis(200);
        let mut manager = rslock::LockManager::new(nodes.urls());
        manager.set_retry(10 * ATTEMPTS, retry_delay.unwrap_or(DEFAULT_DELAY));
        Self::Rslock {
            manager,
            name: if retry_delay.is_some() {
                "rslock, tuned"
            } else {
                "rslock"
            },
        }
    }

    /// The client's name in tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Everlock { way, .. } => match way {
                Way::Grants => "everlock",
                Way::InTurn => "everlock, FIFO",
                Way::Sections => "everlock, with_lock",
            },
            Self::Rslock { name, .. } => name,
            Self::Naive(_) => "pool checkout",
            Self::Raw(raw) if raw.is_fenced() => "pipelined by hand, fenced",
            Self::Raw(_) => "pipelined by hand",
        }
    }

    /// The commands by which it talks to nodes.
    #[must_use]
    pub const fn commands(&self) -> &'static [&'static str] {
        match self {
            Self::Everlock { .. } => &["evalsha"],
            _ => &["set", "eval", "evalsha"],
        }
    }

    /// Acquires, runs the section with the fencing token, releases. How long it took
    /// to acquire.
    ///
    /// # Panics
    ///
    /// When the lock cannot be had, or cannot be released.
    pub async fn cycle(
        &self,
        key: &str,
        retry_delay: Duration,
        section: impl AsyncFnOnce(Option<u64>),
    ) -> Duration {
        let asked = Instant::now();
        match self {
            Self::Everlock { redlock, way } => {
                let options = AcquireOptions::new()
                    .lease(LEASE)
                    .retries(ATTEMPTS)
                    .delay(retry_delay)
                    .jitter(retry_delay)
                    .fifo(*way == Way::InTurn);
                if *way == Way::Sections {
                    let work = async |held: Held| {
                        let took = asked.elapsed();
                        section(Some(held.token().as_u64())).await;
                        took
                    };
                    let outcome = redlock.with_lock(key, options, work).await;
                    let outcome = outcome.expect("a lock is to be had");
                    outcome.release.expect("what was acquired can be released");
                    return outcome.value;
                }
                let grant = redlock.acquire(key, options).await;
                let grant = grant.expect("a lock is to be had");
                let took = asked.elapsed();
                section(Some(grant.token().as_u64())).await;
                let released = redlock.release(&grant).await;
                released.expect("what was acquired can be released");
                took
            }
            Self::Rslock { manager, .. } => {
                let lock = manager.acquire_no_guard(key.as_bytes(), LEASE).await;
                let lock = lock.expect("a lock is to be had");
                let took = asked.elapsed();
                section(None).await;
                manager.unlock(&lock).await;
                took
            }
            Self::Naive(naive) => {
                let owner = uuid::Uuid::new_v4().to_string();
                while !naive.acquire(key, &owner).await {
                    naive.release(key, &owner).await;
                    tokio::time::sleep(retry_delay).await;
                }
                let took = asked.elapsed();
                section(None).await;
                assert!(naive.release(key, &owner).await, "it was held");
                took
            }
            Self::Raw(raw) => {
                let owner = uuid::Uuid::new_v4().to_string();
                while !raw.acquire(key, &owner).await {
                    raw.release(key, &owner).await;
                    tokio::time::sleep(retry_delay).await;
                }
                let took = asked.elapsed();
                section(None).await;
                assert!(raw.release(key, &owner).await, "it was held");
                took
            }
        }
    }
}
