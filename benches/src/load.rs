//! Load on a locker, with every section witnessed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everlock_testkit::{RedisCluster, eventually};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{Locker, Witness};

/// What was seen under load.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How many cycles of acquire, section and release.
    pub cycles: u64,
    /// How long they took together.
    pub took: Duration,
    /// How long each acquire took, in microseconds.
    pub waits: Histogram<u64>,
    /// The cycles of each task.
    pub shares: Vec<u64>,
}

/// How one key is contended for.
#[derive(Clone, Copy, Debug)]
pub struct Contention {
    /// By so many tasks.
    pub tasks: usize,
    /// How long each holds it.
    pub hold: Duration,
    /// What clients that poll are told to wait between attempts.
    pub delay: Duration,
    /// For so long, or until `cycles` are done.
    pub time: Duration,
    /// At most so many cycles.
    pub cycles: u64,
}

struct Share {
    cycles: u64,
    waits: Histogram<u64>,
}

impl Share {
    fn new() -> Self {
        let waits = Histogram::new(3).expect("three digits are possible");
        Self { cycles: 0, waits }
    }

    fn add(&mut self, wait: Duration) {
        self.cycles += 1;
        self.waits += u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    }
}

/// Runs cycles on `tasks` tasks, each on a key of its own, `cycles` in all.
///
/// # Panics
///
/// When a cycle fails, or a section is not alone.
pub async fn uncontended(locker: &Locker, tasks: usize, cycles: u64) -> Seen {
    let left = Arc::new(AtomicU64::new(cycles));
    run(tasks, |task| {
        let (locker, left) = (locker.clone(), Arc::clone(&left));
        async move {
            let (key, witness) = (format!("bench:{task}"), Witness::default());
            let mut share = Share::new();
            while take(&left) {
                let section = async |token| witness.section(token, Duration::ZERO).await;
                share.add(locker.cycle(&key, Duration::from_millis(1), section).await);
            }
            share
        }
    })
    .await
}

/// Runs cycles on one key.
///
/// # Panics
///
/// When a cycle fails, or a section is not alone.
pub async fn contended(locker: &Locker, terms: Contention) -> Seen {
    let witness = Arc::new(Witness::default());
    let left = Arc::new(AtomicU64::new(terms.cycles));
    let until = Instant::now() + terms.time;
    run(terms.tasks, |_| {
        let (locker, witness) = (locker.clone(), Arc::clone(&witness));
        let left = Arc::clone(&left);
        async move {
            let mut share = Share::new();
            while Instant::now() < until && take(&left) {
                let section = async |token| witness.section(token, terms.hold).await;
                share.add(locker.cycle("bench:one", terms.delay, section).await);
            }
            share
        }
    })
    .await
}

fn take(left: &AtomicU64) -> bool {
    let one = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one)
        .is_ok()
}

async fn run<F>(tasks: usize, work: impl Fn(usize) -> F) -> Seen
where
    F: Future<Output = Share> + Send + 'static,
{
    let started = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        running.spawn(work(task));
    }
    let mut all = Share::new();
    let mut shares = Vec::new();
    while let Some(done) = running.join_next().await {
        let share = done.expect("a task does not fail");
        all.cycles += share.cycles;
        all.waits += share.waits;
        shares.push(share.cycles);
    }
    Seen {
        cycles: all.cycles,
        took: started.elapsed(),
        waits: all.waits,
        shares,
    }
}

/// Waits until no lock is left on any node; companion keys may stay.
///
/// # Panics
///
/// When a lock stays.
pub async fn nothing_left(nodes: &RedisCluster) {
    let lock = |key: &String| !key.contains('~') && !key.starts_with("fence:");
    let clean = eventually(Duration::from_secs(8), || async {
        let mut servers = nodes.servers().iter();
        servers.all(|node| !node.keys().iter().any(lock))
    });
    assert!(clean.await, "a lock was left behind");
}
