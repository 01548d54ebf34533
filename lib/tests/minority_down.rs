//! Hazard: a minority of nodes that is dead or hung costs others their locks, or their time.
//!
//! Over five real servers, two of which are taken away in the middle of the load.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::time::Duration;

use everlock::config::DEFAULT_NODE_TIMEOUT;
use everlock::{AcquireOptions, Redlock};
use everlock_testkit::{FaultProxy, Flow, RedisCluster};
use futures_util::future::join_all;
use tokio::time::Instant;

const MAX_LEASE: Duration = Duration::from_mins(1);
/// Enough for a share of 99.99 %: one may fail.
const ACQUIRES: usize = 10_000;
const MAY_FAIL: usize = ACQUIRES / 10_000;
const TASKS: usize = 8;

/// Five nodes, a client of them, and the links that it goes through.
struct Five {
    nodes: RedisCluster,
    links: Vec<FaultProxy>,
    client: Redlock,
}

impl Five {
    async fn start() -> Self {
        let nodes = RedisCluster::start(5);
        let mut links = Vec::new();
        for node in nodes.servers() {
            links.push(FaultProxy::in_front_of(node).await);
        }
        let client = Redlock::builder()
            .node_urls(links.iter().map(FaultProxy::url))
            .initialise(Some(MAX_LEASE));
        let client = client.connect().await.unwrap();
        Self {
            nodes,
            links,
            client,
        }
    }
}

/// Takes two nodes away.
type Trouble = fn(&Five);

/// What a load has seen.
#[derive(Debug)]
struct Load {
    failed: usize,
    median: Duration,
    p99: Duration,
}

/// Acquires and releases locks that nobody else wants, `ACQUIRES` times; at a tenth of that
/// `trouble` begins.
async fn load(five: &Five, name: &str, trouble: impl FnOnce(&Five)) -> Load {
    let each = ACQUIRES / TASKS;
    let lap = async |from: usize, to: usize| {
        let tasks = (0..TASKS).map(async |task| {
            let mut took = Vec::new();
            let mut failed = 0;
            for number in from..to {
                let resource = format!("{name}-{task}-{number}");
                let options = AcquireOptions::new().lease(MAX_LEASE);
                let started = Instant::now();
                match five.client.acquire(resource.as_str(), options).await {
                    Ok(grant) => {
                        took.push(started.elapsed());
                        failed += usize::from(five.client.release(&grant).await.is_err());
                    }
                    Err(_) => failed += 1,
                }
            }
            (took, failed)
        });
        join_all(tasks).await
    };
    let mut laps = lap(0, each / 10).await;
    trouble(five);
    laps.extend(lap(each / 10, each).await);
    let failed = laps.iter().map(|(_, failed)| failed).sum();
    let mut took: Vec<_> = laps.into_iter().flat_map(|(took, _)| took).collect();
    took.sort_unstable();
    let load = Load {
        failed,
        median: took[took.len() / 2],
        p99: took[took.len() * 99 / 100],
    };
    println!("{name}: {load:?}");
    load
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_of_five_nodes_dead_or_hung_locks_are_had_as_before() {
    let healthy = load(&Five::start().await, "healthy", |_| {}).await;
    assert!(healthy.failed <= MAY_FAIL, "{healthy:?}");
    let troubles: [(&str, Trouble); 4] = [
        ("killed", |five| {
            five.nodes.kill(1);
            five.nodes.kill(3);
        }),
        ("stopped", |five| {
            five.nodes.pause(0);
            five.nodes.pause(4);
        }),
        ("stalled links", |five| {
            five.links[2].both(Flow::Stall);
            five.links[3].both(Flow::Stall);
        }),
        ("one killed, one swallows", |five| {
            five.nodes.kill(0);
            five.links[1].requests(Flow::Swallow);
        }),
    ];
    for (name, trouble) in troubles {
        let load = load(&Five::start().await, name, trouble).await;
        assert!(load.failed <= MAY_FAIL, "{name}: {load:?}");
        let most = healthy.p99 + DEFAULT_NODE_TIMEOUT;
        assert!(load.p99 <= most, "{name}: {load:?}, at most {most:?}");
        // Nor does everybody wait for what is hung.
        assert!(load.median < DEFAULT_NODE_TIMEOUT, "{name}: {load:?}");
    }
}
