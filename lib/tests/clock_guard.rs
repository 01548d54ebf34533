//! Hazard: nodes whose clocks jump, and what must not be taken for that.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::observer::{Event, Observer};
use everlock::{AcquireOptions, Cause, Redlock, Vote};
use everlock_testkit::{RedisCluster, SETTLED, eventually};
use tokio::time::Instant;

use support::redis::{builder, client, operator};

const SECOND: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_secs(8);
const MINUTE: i64 = 60_000;

fn once(lease: Duration) -> AcquireOptions {
    AcquireOptions::new().lease(lease).retries(0)
}

/// The guards that a client has told or heard of.
#[derive(Clone, Debug, Default)]
struct Guards(Arc<Mutex<Vec<String>>>);

impl Observer for Guards {
    fn event(&self, event: &Event<'_>) {
        if let Event::NodeGuarded { cause, .. } = event {
            self.0.lock().unwrap().push(format!("{cause:?}"));
        }
    }
}

impl Guards {
    fn told(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

async fn votes(client: &Redlock) -> Vec<bool> {
    let readiness = client.readiness().await;
    let nodes = readiness.nodes.iter();
    nodes.map(|(_, vote)| *vote == Vote::Pong).collect()
}

/// Why nodes are guarded, by their place.
async fn causes(client: &Redlock) -> Vec<Option<Cause>> {
    let readiness = client.readiness().await;
    let cause = |node| {
        let guards = readiness.guards.iter();
        guards
            .filter(|(id, _)| id == node)
            .map(|(_, cause)| *cause)
            .next()
    };
    readiness
        .nodes
        .iter()
        .map(|(node, _)| cause(node))
        .collect()
}

/// A holder has the first three of five nodes, of which two are then thrown, so
/// that without a guard four would grant. Until its validity is over nobody else
/// may get the lock, and all else goes on.
async fn a_thrown_minority_makes_no_second_holder(by: i64, fresh: bool) {
    let cluster = RedisCluster::start_with_clocks(5);
    let first = client(&cluster, MAX_LEASE).await;
    let second = client(&cluster, MAX_LEASE).await;
    let other = first.acquire("other", once(MAX_LEASE)).await.unwrap();
    let grant = first.acquire("r", once(MAX_LEASE)).await.unwrap();
    let held = || async { cluster.count("r", grant.owner().as_str()) == 5 };
    assert!(eventually(SETTLED, held).await);
    for node in [3, 4] {
        cluster[node].command(&["DEL", "r"]);
    }
    for node in [0, 1] {
        cluster.set_clock_offset(node, by);
    }
    let thrown = Instant::now();
    let second = if fresh {
        client(&cluster, MAX_LEASE).await
    } else {
        second
    };
    let options = once(SECOND).retries(2_000).delay(Duration::from_millis(10));
    let next = tokio::spawn({
        let second = second.clone();
        async move { second.acquire("r", options).await }
    });
    // What a quorum of the rest can do goes on meanwhile.
    let took = Instant::now();
    first.extend(&other, SECOND).await.unwrap();
    for round in 0..20 {
        let name = format!("new-{round}");
        let grant = second.acquire(name.as_str(), once(SECOND)).await.unwrap();
        second.extend(&grant, SECOND).await.unwrap();
        second.release(&grant).await.unwrap();
    }
    assert!(took.elapsed() < 3 * SECOND, "{:?}", took.elapsed());
    let next = next.await.unwrap().unwrap();
    assert!(!grant.is_valid(), "two hold it at once");
    assert!(next.token() > grant.token());
    assert!(thrown.elapsed() < 3 * MAX_LEASE, "{:?}", thrown.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_thrown_ahead_makes_no_second_holder() {
    a_thrown_minority_makes_no_second_holder(MINUTE, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_thrown_ahead_makes_no_second_holder_among_those_who_come_later() {
    a_thrown_minority_makes_no_second_holder(MINUTE, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_thrown_back_makes_no_second_holder() {
    a_thrown_minority_makes_no_second_holder(-MINUTE, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_is_guarded_for_the_longest_lease_and_says_why() {
    let max_lease = Duration::from_secs(4);
    let cluster = RedisCluster::start_with_clocks(5);
    let told = Guards::default();
    let client = builder(&cluster)
        .initialise(Some(max_lease))
        .observer(Arc::new(told.clone()))
        .connect()
        .await
        .unwrap();
    cluster.set_clock_offset(2, MINUTE);
    let thrown = Instant::now();
    // The first votes that disagree are looked into at once.
    client.acquire("r", once(SECOND)).await.unwrap();
    let noted = || async { causes(&client).await[2].is_some() };
    assert!(eventually(SETTLED, noted).await);
    let guarded = Instant::now();
    let Some(Cause::Jumped { by }) = causes(&client).await[2] else {
        panic!("{:?}", causes(&client).await)
    };
    assert!(by.abs_diff(60_000_000) < 500_000, "{by}");
    assert!(
        told.told().iter().any(|told| told.contains("Jumped")),
        "{:?}",
        told.told()
    );
    // Others look, too, and prolong nothing.
    for _ in 0..3 {
        let late = support::redis::client(&cluster, max_lease).await;
        late.acquire("s", once(SECOND)).await.ok();
    }
    let all = || async { votes(&client).await == [true; 5] };
    assert!(eventually(max_lease + SETTLED, all).await);
    assert!(thrown.elapsed() >= max_lease);
    assert!(
        guarded.elapsed() < max_lease + 2 * SECOND,
        "{:?}",
        guarded.elapsed()
    );
    // And its votes count again: with two others away it is needed.
    cluster.kill(0);
    cluster.kill(1);
    let grants = || async { client.acquire("t", once(SECOND)).await.is_ok() };
    assert!(eventually(SETTLED, grants).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_hours_from_the_clients_work_from_the_first_acquire() {
    let hours = 5 * 3_600_000;
    let cluster = RedisCluster::start_with_clocks(5);
    for node in 0..5 {
        let apart = i64::try_from(node).unwrap() * 1_000;
        cluster.set_clock_offset(node, hours + apart);
    }
    let told = Guards::default();
    let client = builder(&cluster)
        .initialise(Some(MAX_LEASE))
        .observer(Arc::new(told.clone()))
        .connect()
        .await
        .unwrap();
    for _ in 0..5 {
        let grant = client.acquire("r", once(SECOND)).await.unwrap();
        assert_eq!(grant.attempts(), 1);
        client.extend(&grant, SECOND).await.unwrap();
        client.release(&grant).await.unwrap();
        tokio::time::sleep(SECOND + SECOND / 2).await;
    }
    assert_eq!(votes(&client).await, [true; 5]);
    assert_eq!(told.told(), Vec::<String>::new());
    for status in operator(cluster.urls()).status().await {
        let (_, state) = status.answer.unwrap();
        let clock = state.marker.unwrap().clock;
        assert!(clock.baseline.is_some(), "{}", status.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_stand_still_did_not_jump() {
    let cluster = RedisCluster::start_with_clocks(5);
    let told = Guards::default();
    let client = builder(&cluster)
        .initialise(Some(MAX_LEASE))
        .observer(Arc::new(told.clone()))
        .connect()
        .await
        .unwrap();
    for stopped in [[0, 1], [1, 2]] {
        for node in stopped {
            cluster[node].pause();
        }
        let until = Instant::now() + 3 * SECOND;
        while Instant::now() < until {
            let soon = once(SECOND).retries(50).delay(Duration::from_millis(10));
            let grant = client.acquire("r", soon).await.unwrap();
            client.release(&grant).await.unwrap();
        }
        for node in stopped {
            cluster[node].resume();
        }
        let all = || async { votes(&client).await == [true; 5] };
        assert!(eventually(SETTLED, all).await);
        for round in 0..20 {
            let name = format!("{round}-{}", stopped[0]);
            let grant = client.acquire(name.as_str(), once(SECOND)).await.unwrap();
            client.release(&grant).await.unwrap();
        }
    }
    assert_eq!(told.told(), Vec::<String>::new());
}
