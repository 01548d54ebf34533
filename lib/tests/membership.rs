//! Hazard: the set of nodes is changed while locks are held. These are the procedures of
//! docs/operations.md, step by step.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::{AcquireOptions, ConfigError, Grant, Redlock, Vote};
use everlock_testkit::history::{Hold, judge};
use everlock_testkit::{RedisCluster, RedisServer, SETTLED, eventually};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use support::redis::{client, operator, refusal};

const SECOND: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_secs(3);
const MARKS: [&str; 3] = ["DEL", "everlock~marker", "everlock~gate"];

/// A client that was told of these nodes.
async fn told(urls: &[String]) -> Redlock {
    let client = Redlock::builder().node_urls(urls).connect().await;
    client.unwrap()
}

fn once(lease: Duration) -> AcquireOptions {
    AcquireOptions::new().lease(lease).retries(0)
}

/// Tries without a pause until the lock is the caller's.
async fn insist(client: &Redlock, lease: Duration) -> Grant {
    let options = AcquireOptions::new().lease(lease);
    let options = options.retries(2_000).delay(Duration::from_millis(10));
    let insisted = tokio::time::timeout(4 * MAX_LEASE, async {
        loop {
            // An outage of a second is an answer, too, but not the last word here.
            if let Ok(grant) = client.acquire("r", options.clone()).await {
                return grant;
            }
        }
    });
    insisted.await.expect("the lock is to be had again")
}

/// Waits until all nodes of this client vote but so many.
async fn voting_but(client: &Redlock, missing: usize) {
    let reached = eventually(SETTLED + 2 * MAX_LEASE, || async {
        let readiness = client.readiness().await;
        let votes = readiness.nodes.iter();
        let pongs = votes.filter(|(_, vote)| *vote == Vote::Pong).count();
        pongs + missing == readiness.nodes.len()
    });
    assert!(reached.await, "{:?}", client.readiness().await);
}

/// Has a lock, and leaves it on these nodes alone: what a node granted late, or never heard of.
async fn held_on_only(cluster: &RedisCluster, client: &Redlock, nodes: &[usize]) -> Grant {
    let grant = client.acquire("r", once(MAX_LEASE)).await.unwrap();
    let all = cluster.len();
    let held = || async { cluster.count("r", grant.owner().as_str()) == all };
    assert!(eventually(SETTLED, held).await);
    for node in (0..all).filter(|node| !nodes.contains(node)) {
        cluster[node].command(&["DEL", "r"]);
    }
    grant
}

/// The set of nodes with the last one replaced.
fn with_last_replaced(cluster: &RedisCluster, by: &RedisServer) -> Vec<String> {
    let mut urls = cluster.urls();
    *urls.last_mut().unwrap() = by.url();
    urls
}

#[tokio::test]
async fn whoever_replaces_a_node_waits_for_the_locks_that_rest_on_the_one_that_went() {
    let cluster = RedisCluster::start(5);
    let first = client(&cluster, MAX_LEASE).await;
    // The old quorum and the new one have no node in common but those that were exchanged.
    let grant = held_on_only(&cluster, &first, &[2, 3, 4]).await;
    cluster.kill(4);
    let spare = RedisServer::start();
    let urls = with_last_replaced(&cluster, &spare);
    let done = operator(urls.clone()).init(None).await.unwrap();
    assert!(!done.opened && done.guarded.len() == 1, "{done:?}");
    let second = told(&urls).await;
    // Nodes that hold nothing and one that was guarded: only the guard stands in the way.
    cluster.kill(3);
    cluster.kill(2);
    let next = insist(&second, SECOND).await;
    assert!(!grant.is_valid(), "two hold it at once");
    assert!(next.token() > grant.token());
}

/// A client that works under a lock again and again, and may be told of other nodes meanwhile.
struct Worker {
    client: Arc<Mutex<Redlock>>,
    going: Arc<AtomicBool>,
    holds: Arc<Mutex<Vec<Hold>>>,
    task: JoinHandle<()>,
}

impl Worker {
    fn start(number: usize, client: Redlock, began: Instant) -> Self {
        let client = Arc::new(Mutex::new(client));
        let going = Arc::new(AtomicBool::new(true));
        let holds = Arc::default();
        let work = Self::work(
            number,
            Arc::clone(&client),
            Arc::clone(&going),
            Arc::clone(&holds),
            began,
        );
        let task = tokio::spawn(work);
        Self {
            client,
            going,
            holds,
            task,
        }
    }

    async fn work(
        number: usize,
        client: Arc<Mutex<Redlock>>,
        going: Arc<AtomicBool>,
        holds: Arc<Mutex<Vec<Hold>>>,
        began: Instant,
    ) {
        let micros = |at: Instant| u64::try_from((at - began).as_micros()).unwrap();
        let options = AcquireOptions::new().lease(SECOND);
        let options = options.retries(100).delay(Duration::from_millis(5));
        while going.load(Ordering::Relaxed) {
            let client = client.lock().unwrap().clone();
            let asked = micros(Instant::now());
            let Ok(grant) = client.acquire("r", options.clone()).await else {
                continue;
            };
            let now = Instant::now();
            let valid_until = micros(now + grant.remaining());
            tokio::time::sleep(Duration::from_millis(10)).await;
            let released = Some(micros(Instant::now()));
            // What the answer is changes nothing for the witness.
            let _ = client.release(&grant).await;
            holds.lock().unwrap().push(Hold {
                client: number,
                resource: 0,
                owner: grant.owner().as_str().to_owned(),
                token: grant.token().as_u64(),
                asked,
                acquired: micros(now),
                valid_until,
                released,
            });
        }
    }

    fn is_told_of(&self, client: Redlock) {
        *self.client.lock().unwrap() = client;
    }

    /// Waits until it has held the lock some more times.
    async fn goes_on(&self) {
        let before = self.holds.lock().unwrap().len();
        let more = || async { self.holds.lock().unwrap().len() > before + 5 };
        assert!(eventually(SETTLED, more).await, "it holds the lock no more");
    }

    async fn stop(self) -> Vec<Hold> {
        self.going.store(false, Ordering::Relaxed);
        self.task.await.unwrap();
        std::mem::take(&mut self.holds.lock().unwrap())
    }
}

#[tokio::test]
async fn a_node_is_replaced_while_clients_of_both_lists_work() {
    let cluster = RedisCluster::start(5);
    let began = Instant::now();
    let first = Worker::start(0, client(&cluster, MAX_LEASE).await, began);
    let second = Worker::start(1, told(&cluster.urls()).await, began);
    first.goes_on().await;
    // First the node goes, for good. Then, and not before, is anybody told of the other.
    cluster.kill(4);
    let spare = RedisServer::start();
    let urls = with_last_replaced(&cluster, &spare);
    operator(urls.clone()).init(None).await.unwrap();
    first.is_told_of(told(&urls).await);
    first.goes_on().await;
    second.goes_on().await;
    voting_but(&told(&urls).await, 0).await;
    first.goes_on().await;
    second.goes_on().await;
    // The other is a node like any: one more may go, for both lists.
    cluster.kill(0);
    first.goes_on().await;
    second.goes_on().await;
    second.is_told_of(told(&urls).await);
    cluster.kill(1);
    first.goes_on().await;
    second.goes_on().await;
    let mut holds = first.stop().await;
    holds.extend(second.stop().await);
    assert!(holds.len() > 40, "only {} holds were seen", holds.len());
    let violations: Vec<_> = judge(&holds).iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{violations:?}");
}

#[tokio::test]
async fn three_nodes_become_five_while_a_lock_is_held_and_nobody_else_gets_it() {
    let cluster = RedisCluster::start(3);
    let first = client(&cluster, MAX_LEASE).await;
    // Three of the five will know nothing of this lock.
    let grant = held_on_only(&cluster, &first, &[0, 1]).await;
    let more = RedisCluster::start(2);
    let mut urls = cluster.urls();
    urls.extend(more.urls());
    // Whoever forgets the way there is told so, and changes nothing.
    let error = operator(urls.clone()).init(None).await.unwrap_err();
    assert!(error.to_string().contains("has 3 nodes"), "{error}");
    assert!(matches!(
        refusal(urls.clone()).await,
        ConfigError::BadNode { .. }
    ));

    // All clients stop; then the longest lease goes by; then the markers go, and nothing else.
    drop(first);
    tokio::time::sleep(MAX_LEASE).await;
    for server in cluster.servers() {
        server.command(&MARKS);
    }
    let done = operator(urls.clone()).init(Some(MAX_LEASE)).await.unwrap();
    assert!(done.opened && done.guarded.is_empty(), "{done:?}");
    assert_eq!(done.cluster.nodes, 5);
    let second = told(&urls).await;
    voting_but(&second, 0).await;
    let next = second.acquire("r", once(SECOND)).await.unwrap();
    assert!(!grant.is_valid(), "two hold it at once");
    assert!(next.token() > grant.token(), "tokens rise over the change");
    // Who still has the old list can do no harm.
    let error = refusal(cluster.urls()).await;
    assert!(error.to_string().contains("has 5 nodes"), "{error}");
}

#[tokio::test]
async fn a_client_that_was_forgotten_keeps_another_set_from_being_opened() {
    let cluster = RedisCluster::start(3);
    let _forgotten = client(&cluster, MAX_LEASE).await;
    let more = RedisCluster::start(2);
    let mut urls = cluster.urls();
    urls.extend(more.urls());
    for server in cluster.servers() {
        server.command(&MARKS);
    }
    // It sees the markers gone, and marks its nodes again for the set that it knows.
    let marked = eventually(SETTLED, || async {
        let mut servers = cluster.servers().iter();
        servers.all(|server| server.command(&["EXISTS", "everlock~marker"]) == "1")
    });
    assert!(marked.await);
    let error = operator(urls).init(Some(MAX_LEASE)).await.unwrap_err();
    assert!(error.to_string().contains("has 3 nodes"), "{error}");
}
