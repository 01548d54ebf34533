//! Hazard: the power of a node fails, and takes what was written and not yet synced.
//!
//! One node is the whole quorum here, so that every loss shows.
//!
//! More of them: `EVERLOCK_POWER_LOSSES=1000 cargo test -p everlock --test power_loss -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::entropy::{Entropy as _, SystemEntropy};
use everlock::{AcquireOptions, Error, Grant, Redlock, Resource, Vote};
use everlock_testkit::{RedisBuilder, RedisServer, SETTLED, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
/// Where nothing is to expire.
const LONG: Duration = Duration::from_mins(5);
/// Where a guard is waited for.
const SHORT: Duration = SECOND;
/// For disks that are slow to sync.
const PATIENT: Duration = Duration::from_secs(5);
/// How often the power fails, unless the environment says otherwise.
const LOSSES: usize = 48;
/// How many nodes suffer that side by side.
const LANES: usize = 8;
/// How many acquire at once while the power goes.
const TAKERS: usize = 6;

fn losses() -> usize {
    let wanted = std::env::var("EVERLOCK_POWER_LOSSES").ok();
    wanted.map_or(LOSSES, |number| number.parse().unwrap())
}

/// What was seen, over all nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    losses: usize,
    /// Grants that clients were told of.
    told: usize,
    /// Those of them that the node did not have any more.
    forgotten: usize,
    /// Attempts that the node answered by being guarded.
    guarded: usize,
    /// Locks granted before every lease of before the loss was over.
    too_early: usize,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.losses += other.losses;
        self.told += other.told;
        self.forgotten += other.forgotten;
        self.guarded += other.guarded;
        self.too_early += other.too_early;
    }
}

/// One node and a client of it.
struct Lane {
    server: Arc<RedisServer>,
    client: Redlock,
    losses: usize,
}

impl Lane {
    async fn start(builder: RedisBuilder, max_lease: Duration) -> Self {
        let server = tokio::task::spawn_blocking(|| builder.with_power().start());
        let server = Arc::new(server.await.unwrap());
        let client = Redlock::builder()
            .node_urls([server.url()])
            .node_timeout(PATIENT)
            .initialise(Some(max_lease));
        Self {
            server,
            client: client.connect().await.unwrap(),
            losses: 0,
        }
    }

    /// Takes locks from several tasks at once until the power goes, at any moment; it returns.
    /// The grants that were told, and a moment before the power went.
    async fn lose_power(&mut self, lease: Duration) -> (Vec<Grant>, Instant) {
        self.losses += 1;
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut takers = JoinSet::new();
        for taker in 0..TAKERS {
            let (client, told) = (self.client.clone(), Arc::clone(&told));
            let name = format!("r-{}-{taker}", self.losses);
            takers.spawn(async move {
                for number in 0.. {
                    let resource = Resource::new(format!("{name}-{number}")).unwrap();
                    match client.try_acquire(resource, options(lease)).await {
                        Ok(grant) => told.lock().unwrap().push(grant),
                        Err(_) => return,
                    }
                }
            });
        }
        sleep(Duration::from_micros(SystemEntropy.bits() % 20_000)).await;
        let before = Instant::now();
        let server = Arc::clone(&self.server);
        tokio::task::spawn_blocking(move || server.power_loss())
            .await
            .unwrap();
        takers.shutdown().await;
        let told = std::mem::take(&mut *told.lock().unwrap());
        (told, before)
    }

    fn forgotten(&self, told: &[Grant]) -> usize {
        let held = |grant: &&Grant| {
            let owner = self.server.get(grant.resource().as_str());
            owner.as_deref() != Some(grant.owner().as_str())
        };
        told.iter().filter(held).count()
    }

    async fn votes(&self, within: Duration) -> bool {
        let votes = async || self.client.readiness().await.is_ready();
        eventually(within, votes).await
    }

    /// The power fails while the node syncs each write: it goes on at once, with all it granted.
    async fn survive(&mut self) -> Seen {
        let (told, _) = self.lose_power(LONG).await;
        let forgotten = self.forgotten(&told);
        assert!(self.votes(SETTLED).await, "it has lost nothing and waits");
        if let Some(grant) = told.first() {
            let resource = grant.resource().clone();
            let refused = self.client.try_acquire(resource, options(LONG)).await;
            assert!(
                matches!(refused, Err(Error::Contended { .. })),
                "{refused:?}"
            );
        }
        for grant in &told {
            self.client.release(grant).await.unwrap();
        }
        if let Some(grant) = told.first() {
            let resource = grant.resource().clone();
            let next = self.client.try_acquire(resource, options(LONG)).await;
            let next = next.unwrap();
            assert!(next.token() > grant.token());
            self.client.release(&next).await.unwrap();
        }
        Seen {
            losses: 1,
            told: told.len(),
            forgotten,
            ..Seen::default()
        }
    }

    /// The power fails, and the node may have forgotten: asks until it grants again.
    async fn wait_out(&mut self) -> Seen {
        assert!(self.votes(SHORT * 10 + SETTLED).await);
        let (told, before) = self.lose_power(SHORT).await;
        let forgotten = self.forgotten(&told);
        let guarded = AtomicUsize::new(0);
        let name = format!("after-{}", self.losses);
        let granted = eventually(SHORT * 10 + SETTLED, || async {
            let answer = self.client.try_acquire(name.as_str(), options(SHORT)).await;
            if let Err(Error::Unavailable { report, .. }) = &answer {
                let votes = report.nodes.iter().map(|(_, vote)| vote);
                let of_guards = votes.filter(|vote| matches!(vote, Some(Vote::Guarded { .. })));
                guarded.fetch_add(of_guards.count(), Ordering::Relaxed);
            }
            answer.is_ok()
        });
        assert!(granted.await, "it votes again in the end");
        let too_early = before.elapsed() < SHORT || told.iter().any(Grant::is_valid);
        Seen {
            losses: 1,
            told: told.len(),
            forgotten,
            guarded: guarded.into_inner(),
            too_early: usize::from(too_early),
        }
    }
}

fn options(lease: Duration) -> AcquireOptions {
    AcquireOptions::new().lease(lease)
}

/// Lets the power of nodes fail side by side, each of them in turn.
async fn run(
    max_lease: Duration,
    node: impl Fn(usize) -> RedisBuilder,
    round: impl AsyncFn(&mut Lane) -> Seen,
) -> Seen {
    let lanes = (0..LANES).map(async |lane| {
        let mut seen = Seen::default();
        let mut at = Lane::start(node(lane), max_lease).await;
        // What opened the node is to be on its disk, whichever way it syncs.
        sleep(3 * SECOND).await;
        for _ in 0..losses().div_ceil(LANES) {
            seen += round(&mut at).await;
        }
        seen
    });
    let mut all = Seen::default();
    for seen in futures_util::future::join_all(lanes).await {
        all += seen;
    }
    println!("{all:?}");
    all
}

fn each_second() -> RedisBuilder {
    RedisServer::builder()
        .config("appendonly", "yes")
        .config("appendfsync", "everysec")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_syncs_each_write_loses_no_grant_with_its_power() {
    let durable = |_| RedisServer::builder().durable();
    let seen = run(LONG, durable, Lane::survive).await;
    assert!(seen.told > seen.losses, "{seen:?}");
    assert_eq!(seen.forgotten, 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_may_have_lost_something_grants_nothing_until_all_leases_are_over() {
    let forgetful = |lane: usize| match lane % 2 {
        0 => RedisServer::builder(),
        _ => each_second(),
    };
    let seen = run(SHORT, forgetful, Lane::wait_out).await;
    assert!(seen.guarded >= seen.losses, "{seen:?}");
    // Else there was nothing to wait for.
    assert!(seen.forgotten > seen.losses, "{seen:?}");
    assert_eq!(seen.too_early, 0, "{seen:?}");
}
