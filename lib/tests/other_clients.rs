//! Hazard: others who know nothing of us on the same keys, and ways in that
//! applications bring along: their own pools.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadpool_redis::{Config, Pool, PoolConfig, Runtime};
use everlock::{AcquireOptions, Error, Grant, OwnerId, Redlock, Resource, Vote};
use everlock_testkit::{RedisCluster, SETTLED, eventually};
use rslock::LockManager;
use support::redis::{client, locks_left};
use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_mins(2);
const LEASE: Duration = Duration::from_secs(30);

fn attempt() -> AcquireOptions {
    AcquireOptions::new().lease(LEASE).retries(0)
}

/// Another Redlock client that tries once.
fn other_client(cluster: &RedisCluster) -> LockManager {
    let mut other = LockManager::new(cluster.urls());
    other.set_retry(1, Duration::from_millis(50));
    other
}

/// Waits until all nodes hold what a quorum granted.
async fn everywhere(cluster: &RedisCluster, grant: &Grant) {
    let (key, owner) = (grant.resource().as_str(), grant.owner().as_str());
    let held = || async { cluster.count(key, owner) == cluster.len() };
    assert!(eventually(SETTLED, held).await);
}

#[tokio::test]
async fn our_lock_excludes_another_redlock_client_until_it_is_released() {
    let cluster = RedisCluster::start(5);
    let (ours, other) = (client(&cluster, MAX_LEASE).await, other_client(&cluster));
    let grant = ours.acquire("r", attempt()).await.unwrap();
    for _ in 0..3 {
        assert!(other.lock("r", LEASE).await.is_err(), "two hold it");
    }
    everywhere(&cluster, &grant).await;
    ours.extend(&grant, SECOND).await.unwrap();
    ours.release(&grant).await.unwrap();
    assert!(eventually(SETTLED, || async { locks_left(&cluster).is_empty() }).await);
    let lock = other.lock("r", LEASE).await.unwrap();
    other.unlock(&lock).await;
}

#[tokio::test]
async fn another_redlock_clients_lock_excludes_ours_until_it_is_released() {
    let cluster = RedisCluster::start(5);
    let (ours, other) = (client(&cluster, MAX_LEASE).await, other_client(&cluster));
    let before = ours.acquire("r", attempt()).await.unwrap();
    ours.release(&before).await.unwrap();
    assert!(eventually(SETTLED, || async { locks_left(&cluster).is_empty() }).await);
    let lock = other.lock("r", LEASE).await.unwrap();
    let error = ours.acquire("r", attempt()).await.unwrap_err();
    let Error::Contended {
        retry_after: Some(left),
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert!(left <= LEASE && left + 5 * SECOND > LEASE, "{left:?}");
    // Nothing of ours touches it: no undo, no release, no extension.
    let (resource, owner) = (Resource::new("r").unwrap(), OwnerId::new("us").unwrap());
    for error in [
        ours.release((&resource, &owner)).await.unwrap_err(),
        ours.release(&before).await.unwrap_err(),
        ours.extend((&resource, &owner), SECOND).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::HeldByAnother { .. }), "{error}");
    }
    assert!(ours.drained(SECOND).await);
    for server in cluster.servers() {
        assert!(server.ttl_ms("r") > 0, "it is still held");
    }
    for (_, vote) in ours.inspect(&resource).await {
        assert!(matches!(vote, Vote::Holder { token: None, .. }), "{vote:?}");
    }
    other.unlock(&lock).await;
    let after = ours.acquire("r", attempt()).await.unwrap();
    assert!(after.token() > before.token());
}

#[tokio::test]
async fn rivals_of_both_kinds_never_hold_the_lock_at_once() {
    let cluster = RedisCluster::start(5);
    let inside = Arc::new(AtomicUsize::new(0));
    let enter = |inside: &AtomicUsize| assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
    let work = Duration::from_millis(5);
    let mut rivals = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let ours = client(&cluster, MAX_LEASE).await;
        let inside_ours = Arc::clone(&inside);
        rivals.spawn(async move {
            for _ in 0..5 {
                let options = attempt().retries(10_000).delay(Duration::from_millis(20));
                let grant = ours.acquire("r", options).await.unwrap();
                enter(&inside_ours);
                tokio::time::sleep(work).await;
                inside_ours.fetch_sub(1, Ordering::SeqCst);
                ours.release(&grant).await.unwrap();
            }
        });
        let (other, inside) = (other_client(&cluster), Arc::clone(&inside));
        rivals.spawn(async move {
            for _ in 0..5 {
                let lock = loop {
                    if let Ok(lock) = other.lock("r", LEASE).await {
                        break lock;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                };
                enter(&inside);
                tokio::time::sleep(work).await;
                inside.fetch_sub(1, Ordering::SeqCst);
                other.unlock(&lock).await;
            }
        });
    }
    while let Some(done) = rivals.join_next().await {
        done.unwrap();
    }
    assert!(eventually(SETTLED, || async { locks_left(&cluster).is_empty() }).await);
}

#[tokio::test]
async fn a_plain_set_nx_px_excludes_ours_and_is_excluded_by_ours() {
    let cluster = RedisCluster::start(3);
    let ours = client(&cluster, MAX_LEASE).await;
    let set = ["SET", "r", "theirs", "NX", "PX", "30000"];
    for server in cluster.servers() {
        assert_eq!(server.command(&set), "OK");
    }
    let error = ours.acquire("r", attempt()).await.unwrap_err();
    assert!(matches!(error, Error::Contended { .. }), "{error}");
    assert_eq!(cluster.count("r", "theirs"), 3);
    for server in cluster.servers() {
        server.command(&["DEL", "r"]);
    }
    let grant = ours.acquire("r", attempt()).await.unwrap();
    everywhere(&cluster, &grant).await;
    for server in cluster.servers() {
        assert_eq!(server.command(&set), "(nil)");
    }
}

#[tokio::test]
async fn a_key_that_never_expires_is_held_and_nobody_knows_until_when() {
    let cluster = RedisCluster::start(3);
    let ours = client(&cluster, MAX_LEASE).await;
    for server in cluster.servers() {
        server.command(&["SET", "r", "for ever"]);
    }
    let error = ours.acquire("r", attempt()).await.unwrap_err();
    let Error::Contended { retry_after, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(retry_after, None);
    assert_eq!(cluster.count("r", "for ever"), 3);
}

#[tokio::test]
async fn who_knows_the_value_of_a_plain_lock_can_extend_and_release_it() {
    let cluster = RedisCluster::start(3);
    let ours = client(&cluster, MAX_LEASE).await;
    for server in cluster.servers() {
        server.command(&["SET", "r", "theirs", "PX", "5000"]);
    }
    let held = (
        &Resource::new("r").unwrap(),
        &OwnerId::new("theirs").unwrap(),
    );
    let extended = ours.extend(held, 20 * SECOND).await.unwrap();
    assert_eq!(extended.token(), None, "no grant of ours");
    assert!(extended.remaining() > 20 * SECOND);
    ours.release(held).await.unwrap();
    assert!(eventually(SETTLED, || async { locks_left(&cluster).is_empty() }).await);
}

#[tokio::test]
async fn the_key_holds_the_uuid_alone_for_about_the_lease() {
    let cluster = RedisCluster::start(5);
    let ours = client(&cluster, MAX_LEASE).await;
    let grant = ours.acquire("tenant:r", attempt()).await.unwrap();
    let uuid = Uuid::try_parse(grant.owner().as_str()).unwrap();
    assert_eq!(uuid.get_version_num(), 7);
    assert_eq!(uuid.to_string(), grant.owner().as_str());
    everywhere(&cluster, &grant).await;
    for server in cluster.servers() {
        assert_eq!(server.command(&["TYPE", "tenant:r"]), "string");
        let left = Duration::from_millis(server.ttl_ms("tenant:r").try_into().unwrap());
        assert!(left <= LEASE && left + 5 * SECOND > LEASE, "{left:?}");
    }
    assert!(grant.remaining() <= LEASE.mul_f64(0.99));
    let custom = OwnerId::new("my own id: 7 {x}").unwrap();
    let options = attempt().owner(custom.clone());
    let grant = ours.acquire("r", options).await.unwrap();
    assert_eq!(grant.owner(), &custom);
    everywhere(&cluster, &grant).await;
}

fn pool(url: &str, size: usize) -> Pool {
    let mut config = Config::from_url(url);
    config.pool = Some(PoolConfig::new(size));
    config.create_pool(Some(Runtime::Tokio1)).unwrap()
}

/// A client that is handed pools of one connection each.
async fn with_pools(cluster: &RedisCluster) -> (Redlock, Vec<Pool>) {
    let mut builder = Redlock::builder();
    let mut pools = Vec::new();
    for (number, url) in (1..).zip(cluster.urls()) {
        let pool = pool(&url, 1);
        builder = builder.node_pool(format!("pooled-{number}"), pool.clone());
        pools.push(pool);
    }
    let client = builder.initialise(Some(MAX_LEASE)).connect().await;
    (client.unwrap(), pools)
}

async fn full_turn(client: &Redlock, retries: u32) {
    let options = attempt().retries(retries);
    let grant = client.acquire("r", options).await.unwrap();
    client.extend(&grant, SECOND).await.unwrap();
    client.release(&grant).await.unwrap();
}

#[tokio::test]
async fn an_applications_own_pools_work_and_stay_the_applications() {
    let cluster = RedisCluster::start(3);
    let (client, pools) = with_pools(&cluster).await;
    full_turn(&client, 0).await;
    // Its only connection is there for the application, while we work.
    for pool in &pools {
        let mut own = pool.get().await.unwrap();
        let pong: String = redis::cmd("PING").query_async(&mut own).await.unwrap();
        assert_eq!(pong, "PONG");
        full_turn(&client, 0).await;
    }
    let names = client.readiness().await.nodes;
    let names: Vec<_> = names.iter().map(|(node, _)| node.to_string()).collect();
    assert_eq!(names, ["pooled-1", "pooled-2", "pooled-3"]);
}

#[tokio::test]
async fn pools_work_also_after_their_connections_broke() {
    let cluster = RedisCluster::start_durable(3);
    let (client, _pools) = with_pools(&cluster).await;
    for _ in 0..3 {
        for server in cluster.servers() {
            server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        }
        full_turn(&client, 5).await;
    }
    for node in 0..3 {
        cluster.restart(node);
        full_turn(&client, 5).await;
    }
    let all = eventually(2 * SECOND, || async {
        let votes = client.readiness().await.nodes;
        votes.iter().all(|(_, vote)| *vote == Vote::Pong)
    });
    assert!(all.await);
}

#[tokio::test]
async fn a_pool_that_is_used_up_or_closed_is_a_fault_of_its_node_only() {
    let cluster = RedisCluster::start(3);
    let (client, pools) = with_pools(&cluster).await;
    let _taken = pools[0].get().await.unwrap();
    pools[1].close();
    full_turn(&client, 0).await;
    cluster[0].command(&["CLIENT", "KILL", "TYPE", "normal"]);
    full_turn(&client, 5).await;
    full_turn(&client, 5).await;
}
