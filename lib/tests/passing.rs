//! Hazard: a lock whose changes of hands cost the nodes more than they must.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::time::Duration;

use everlock::{AcquireOptions, Redlock};
use everlock_testkit::{RedisCluster, RedisServer};
use support::redis::client;

const TASKS: u64 = 8;
const SECTIONS: u64 = 20;

/// The calls of scripts that a server has taken.
fn calls(server: &RedisServer) -> u64 {
    let stats = server.command(&["INFO", "commandstats"]);
    let of = |line: &str| {
        let rest = line.strip_prefix("cmdstat_evalsha:calls=")?;
        rest.split(',').next()?.parse::<u64>().ok()
    };
    stats.lines().find_map(of).unwrap_or_default()
}

/// Sections of several tasks that want one lock, each a moment long.
async fn sections(client: &Redlock, options: &AcquireOptions) {
    let task = || async {
        for _ in 0..SECTIONS {
            let grant = client.acquire("r", options.clone()).await.unwrap();
            tokio::task::yield_now().await;
            client.release(&grant).await.unwrap();
        }
    };
    futures_util::future::join_all((0..TASKS).map(|_| task())).await;
}

/// How many calls of scripts a section costs each of three nodes.
#[allow(clippy::cast_precision_loss, reason = "counts are small")]
async fn calls_a_section(fifo: bool) -> f64 {
    let cluster = RedisCluster::start(3);
    let minute = Duration::from_mins(1);
    let client = client(&cluster, minute).await;
    let options = AcquireOptions::new().lease(minute).retries(1_000);
    let options = options.delay(minute).fifo(fifo);
    let before: u64 = cluster.servers().iter().map(calls).sum();
    sections(&client, &options).await;
    assert!(client.drained(minute).await);
    let after: u64 = cluster.servers().iter().map(calls).sum();
    (after - before) as f64 / (3 * TASKS * SECTIONS) as f64
}

#[tokio::test]
async fn a_lock_goes_from_one_to_the_next_of_a_process_in_one_call_a_node() {
    let calls = calls_a_section(false).await;
    // Where others get their turn, the release and the next attempt are apart.
    assert!(calls < 1.5, "{calls}");
}

#[tokio::test]
async fn a_lock_goes_along_a_line_in_one_call_a_node_and_one_for_the_place() {
    let calls = calls_a_section(true).await;
    assert!(calls < 2.5, "{calls}");
}
