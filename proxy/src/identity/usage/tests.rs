//! What travels between a meter and the nodes.

use everlock::NodeTls;
use everlock_testkit::{RedisCluster, RedisServer, SETTLED, eventually};

use super::super::Identity;
use super::super::licence::Bounds;
use super::*;

const KEY: &str = "test~usage:licence:total";

fn licence() -> Licence {
    Licence {
        reference: "licence".to_owned(),
        identity: Identity::new("acme").unwrap(),
        customer: "acme".to_owned(),
        expires: None,
        allowance: None,
        period: Period::Total,
        used_elsewhere: 0,
        bounds: Bounds::default(),
    }
}

fn sent_to(node: &RedisServer) -> u64 {
    let stats = node.command(&["INFO", "stats"]);
    let bytes = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_net_input_bytes:"));
    bytes.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn what_processes_counted_that_are_gone_is_told_to_nodes_that_lack_it_alone() {
    const GONE: usize = 2_000;
    let nodes = RedisCluster::start(3);
    for node in nodes.servers() {
        let fields = (0..GONE).flat_map(|field| [format!("c:{field:016x}"), "1".to_owned()]);
        let all: Vec<_> = ["HSET".to_owned(), KEY.to_owned()]
            .into_iter()
            .chain(fields)
            .collect();
        node.command(&all.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let keepers = Keeper::all(&nodes.urls(), &NodeTls::default()).unwrap();
    let meters = Meters::new("test", keepers);
    let used = async || meters.usage(&licence()).await.unwrap().attempts;
    let gone = u64::try_from(GONE).unwrap();
    assert_eq!(used().await, gone);
    let before = sent_to(&nodes[0]);
    for _ in 0..10 {
        assert_eq!(used().await, gone);
    }
    let bytes = sent_to(&nodes[0]) - before;
    assert!(bytes < 10_000, "{bytes} bytes for ten questions");

    nodes.restart(1);
    let taught = eventually(SETTLED, async || {
        assert_eq!(used().await, gone);
        nodes[1].command(&["HLEN", KEY]) == GONE.to_string()
    });
    assert!(taught.await, "a node that forgot is told again");
}
