//! Hazard: real servers that forget unnoticed: by a fail-over, or under load.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::time::Duration;

use everlock::{AcquireOptions, Redlock};
use everlock_testkit::{FaultProxy, Flow, RedisServer, eventually};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn one_attempt(lease: Duration) -> AcquireOptions {
    AcquireOptions::new().lease(lease).retries(0)
}

fn knows_its_marker(server: &RedisServer) -> bool {
    server.command(&["EXISTS", "everlock~marker"]).contains('1')
}

#[tokio::test]
async fn a_promoted_replica_that_missed_a_grant_does_not_make_a_second_holder() {
    // The replica has run for longer than any lease, so that its start says
    // nothing of when its data became old. It is cut off, a lock is granted by
    // its master and another node, the master dies, and the replica takes its place.
    const MAX_LEASE: Duration = Duration::from_secs(3);
    let [master, second, third] = [(); 3].map(|()| RedisServer::start());
    let replica = RedisServer::start();
    let nodes = [master.url(), second.url(), third.url()];
    let builder = Redlock::builder().node_urls(nodes);
    let before = builder.initialise(Some(MAX_LEASE)).connect().await.unwrap();
    master.command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    let port = master.port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    tokio::time::sleep(MAX_LEASE + ms(1_500)).await;
    assert!(knows_its_marker(&replica), "or it can't take the place");
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    third.pause();
    let grant = before.acquire("r", one_attempt(MAX_LEASE)).await.unwrap();
    master.kill();
    third.resume();
    let nodes = [replica.url(), second.url(), third.url()];
    let after = Redlock::builder().node_urls(nodes).connect().await.unwrap();
    // The third node may have read the first client's request after all.
    third.command(&["DEL", "r"]);
    let other = after.acquire("r", one_attempt(MAX_LEASE)).await;
    assert!(grant.is_valid(), "or the test shows nothing");
    assert!(other.is_err(), "{other:?} while {grant:?}");
}

/// Tasks that acquire and release without a pause.
fn load(client: &Redlock, tasks: u32) -> tokio::task::JoinSet<()> {
    let mut load = tokio::task::JoinSet::new();
    for number in 0..tasks {
        let client = client.clone();
        load.spawn(async move {
            loop {
                let name = format!("r{number}");
                if let Ok(grant) = client.acquire(name, one_attempt(ms(900))).await {
                    let _ = client.release(&grant).await;
                } else {
                    tokio::time::sleep(ms(3)).await;
                }
            }
        });
    }
    load
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_loses_its_marker_under_load_is_judged_all_the_same() {
    let servers = [(); 3].map(|()| RedisServer::start());
    let mut proxies = Vec::new();
    for server in &servers {
        proxies.push(FaultProxy::in_front_of(server).await);
    }
    let urls: Vec<_> = proxies.iter().map(FaultProxy::url).collect();
    let builder = Redlock::builder().node_urls(urls);
    let client = builder.initialise(Some(ms(1_000))).connect().await.unwrap();
    for proxy in &proxies {
        proxy.replies(Flow::Delay(ms(5)));
    }
    let load = load(&client, 32);
    tokio::time::sleep(ms(500)).await;
    servers[0].command(&["FLUSHALL"]);
    let judged = eventually(ms(3_000), || async { knows_its_marker(&servers[0]) }).await;
    drop(load);
    assert!(judged, "it was never judged while there was load");
}
