//! A release in one process wakes waiters in another, and what becomes of those
//! that it does not reach.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use everlock::observer::{Event, Observer};
use everlock::{AcquireOptions, Grant, Redlock};
use everlock_testkit::{RedisCluster, SETTLED, eventually};
use support::redis::{builder, client, locks_left};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const MAX_LEASE: Duration = Duration::from_mins(2);

/// So patient that polling would show.
fn patient() -> AcquireOptions {
    AcquireOptions::new().lease(MINUTE).retries(5).delay(MINUTE)
}

fn waiter(client: &Redlock) -> tokio::task::JoinHandle<Grant> {
    let client = client.clone();
    tokio::spawn(async move { client.acquire("r", patient()).await.unwrap() })
}

async fn listened_for(cluster: &RedisCluster, nodes: usize) -> bool {
    eventually(SETTLED, || async {
        let listening = cluster.servers().iter().filter(|server| {
            let answer = server.command(&["PUBSUB", "CHANNELS"]);
            answer.contains("everlock~free:r")
        });
        listening.count() == nodes
    })
    .await
}

#[tokio::test]
async fn a_release_wakes_a_waiter_in_another_process() {
    let cluster = RedisCluster::start(5);
    let (one, other) = (
        client(&cluster, MAX_LEASE).await,
        client(&cluster, MAX_LEASE).await,
    );
    let mut held = one.acquire("r", patient()).await.unwrap();
    for _ in 0..20 {
        let waiting = waiter(&other);
        assert!(listened_for(&cluster, 5).await);
        one.release(&held).await.unwrap();
        let won = tokio::time::timeout(SETTLED, waiting)
            .await
            .unwrap()
            .unwrap();
        assert!(won.token() > held.token());
        other.release(&won).await.unwrap();
        held = one.acquire("r", patient()).await.unwrap();
    }
    one.release(&held).await.unwrap();
    // Nobody waits any more: nobody listens for long.
    assert!(eventually(4 * SETTLED, || async { listened_for(&cluster, 0).await }).await);
    let cleared = eventually(SETTLED, || async { locks_left(&cluster).is_empty() });
    assert!(cleared.await, "{:?}", locks_left(&cluster));
}

#[tokio::test]
async fn a_guard_that_is_dropped_wakes_a_waiter_in_another_process() {
    let cluster = RedisCluster::start(3);
    let (one, other) = (
        client(&cluster, MAX_LEASE).await,
        client(&cluster, MAX_LEASE).await,
    );
    let guard = one.lock("r", patient()).await.unwrap();
    let waiting = waiter(&other);
    assert!(listened_for(&cluster, 3).await);
    drop(guard);
    tokio::time::timeout(SETTLED, waiting)
        .await
        .unwrap()
        .unwrap();
}

/// Counts attempts that ended.
#[derive(Default)]
struct Attempts(AtomicUsize);

impl Observer for Attempts {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Attempted { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test]
async fn who_went_away_with_the_lock_just_won_wakes_a_waiter_in_another_process() {
    let cluster = RedisCluster::start(3);
    let one = client(&cluster, MAX_LEASE).await;
    let attempts = Arc::new(Attempts::default());
    let other = builder(&cluster).observer(attempts.clone());
    let other = other.connect().await.unwrap();
    // Its attempt is on its way, and nobody reads the answers.
    let mut going = Box::pin(one.acquire("r", patient()));
    let mut context = Context::from_waker(Waker::noop());
    assert!(going.as_mut().poll(&mut context).is_pending());
    let granted = || async { locks_left(&cluster).len() == 3 };
    assert!(eventually(SETTLED, granted).await);
    let waiting = waiter(&other);
    assert!(listened_for(&cluster, 3).await);
    // The first one, and another when the waiter could hear: it is told of a minute's lease.
    let refused = || async { attempts.0.load(Ordering::Relaxed) >= 2 };
    assert!(eventually(SETTLED, refused).await);
    tokio::time::sleep(SECOND / 2).await;
    drop(going);
    tokio::time::timeout(SETTLED, waiting)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_minority_of_nodes_that_is_away_hushes_nobody() {
    let cluster = RedisCluster::start(5);
    let (one, other) = (
        client(&cluster, MAX_LEASE).await,
        client(&cluster, MAX_LEASE).await,
    );
    let held = one.acquire("r", patient()).await.unwrap();
    cluster.kill(1);
    cluster.pause(3);
    let waiting = waiter(&other);
    assert!(
        eventually(SETTLED, || async {
            let channels = |node: usize| cluster.servers()[node].command(&["PUBSUB", "CHANNELS"]);
            [0, 2, 4]
                .into_iter()
                .all(|node| channels(node).contains("everlock~free:r"))
        })
        .await
    );
    one.release(&held).await.unwrap();
    tokio::time::timeout(SETTLED, waiting)
        .await
        .unwrap()
        .unwrap();
    cluster.resume(3);
}

#[tokio::test]
async fn who_listens_again_after_its_connections_broke_missed_nothing() {
    let cluster = RedisCluster::start(3);
    let (one, other) = (
        client(&cluster, MAX_LEASE).await,
        client(&cluster, MAX_LEASE).await,
    );
    for _ in 0..5 {
        let held = one.acquire("r", patient()).await.unwrap();
        let waiting = waiter(&other);
        assert!(listened_for(&cluster, 3).await);
        for server in cluster.servers() {
            server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        // Whether it is heard or came too early, it is not missed.
        one.release(&held).await.unwrap();
        let won = tokio::time::timeout(SETTLED, waiting)
            .await
            .unwrap()
            .unwrap();
        other.release(&won).await.unwrap();
    }
}

#[tokio::test]
async fn two_processes_that_pass_a_lock_on_within_themselves_both_get_their_turns() {
    let cluster = RedisCluster::start(5);
    let stop = Arc::new(AtomicUsize::new(0));
    let mut counts = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let client = client(&cluster, MAX_LEASE).await;
        let count = Arc::new(AtomicUsize::new(0));
        for _ in 0..4 {
            let (client, count, stop) = (client.clone(), Arc::clone(&count), Arc::clone(&stop));
            running.spawn(async move {
                while stop.load(Ordering::Relaxed) == 0 {
                    let held = client.acquire("r", patient()).await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                    client.release(&held).await.unwrap();
                }
            });
        }
        counts.push(count);
    }
    let both = |least: usize| {
        counts
            .iter()
            .all(|count| count.load(Ordering::Relaxed) >= least)
    };
    // Without turns, one of them would wait for a minute.
    assert!(
        eventually(MINUTE / 2, || async { both(100) }).await,
        "{counts:?}"
    );
    stop.store(1, Ordering::Relaxed);
    tokio::time::timeout(MINUTE / 2, running.join_all())
        .await
        .unwrap();
    tokio::time::sleep(SECOND / 10).await;
    let cleared = eventually(SETTLED, || async { locks_left(&cluster).is_empty() });
    assert!(cleared.await, "{:?}", locks_left(&cluster));
}
