//! More connections than there are file descriptors.

use everlock_testkit::{ProcessUnderTest, RedisCluster};

use super::{peak_kib, serves};
use crate::support::{BINARY, Client, SOON, Wire, init};

/// Some above what the proxy keeps for itself.
const DESCRIPTORS: &str = "100";

#[tokio::test]
async fn a_flood_leaves_the_descriptors_that_the_nodes_need() {
    let nodes = RedisCluster::start_durable(3);
    init(&nodes.urls()).await;
    let urls = nodes.urls().join(",");
    // The hard limit, too: it can't be raised.
    let limited = "ulimit -n $0 && exec \"$@\"";
    let args = [
        "-c",
        limited,
        DESCRIPTORS,
        BINARY,
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--header-timeout",
        "2s",
    ];
    let env = [("EVERLOCK_NODES", urls.as_str())];
    let mut process = ProcessUnderTest::spawn("sh", &args, &env);
    let says = |line: &str| line.contains("fewer file descriptors than --max-connections needs");
    process.wait_for_line(says, SOON).await;
    let line = process
        .wait_for_line(|line| line.contains("listening"), SOON)
        .await;
    let addr = line.split_once("listen=").unwrap().1;
    let addr = addr.split(' ').next().unwrap().parse().unwrap();
    let client = Client::new(addr);
    client.until_ready(200).await;
    let before = peak_kib(process.pid());

    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.push(Wire::open(addr).await);
    }
    serves(&client, "who was here before").await;
    // Connections to nodes can be made all the same.
    nodes.restart(0);
    nodes.restart(1);
    client.until_ready(200).await;
    // Whoever comes late is served once the silent ones have had their time.
    let newcomer = Client::new(addr);
    assert_eq!(newcomer.get("/healthz").await.status, 200);
    drop(flood);
    let log = process.output();
    assert!(!log.contains("can't be accepted"), "{log}");
    assert!(peak_kib(process.pid()) - before < 32 * 1_024);
}
