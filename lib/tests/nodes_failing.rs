//! Hazard: nodes that are dead, hung, slow or refuse to be reached.
//!
//! Real servers, which are killed, stopped and cut off. Errors that a server
//! answers with are in `nodes_refusing.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::time::Duration;

use everlock::{AcquireOptions, Error, FaultKind, NodeId, Redlock, Vote};
use everlock_testkit::{Door, FaultProxy, Flow, RedisCluster, SETTLED, eventually};
use support::redis::{client, locks_left};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_mins(2);
/// How soon a node that is back must be used: reconnecting, on a busy machine.
const BACK: Duration = Duration::from_millis(1_500);
/// A connection that is silent for two seconds is given up.
const SILENCE: Duration = Duration::from_secs(2);

fn attempt() -> AcquireOptions {
    AcquireOptions::new()
        .lease(Duration::from_mins(1))
        .retries(0)
}

/// Real servers, each behind a proxy, and a client that knows only the proxies.
struct Network {
    cluster: RedisCluster,
    proxies: Vec<FaultProxy>,
    client: Redlock,
}

impl Network {
    async fn of(nodes: usize) -> Self {
        let cluster = RedisCluster::start_durable(nodes);
        let mut proxies = Vec::new();
        for server in cluster.servers() {
            proxies.push(FaultProxy::in_front_of(server).await);
        }
        let builder = Redlock::builder().node_urls(proxies.iter().map(FaultProxy::url));
        let client = builder.initialise(Some(MAX_LEASE)).connect().await.unwrap();
        Self {
            cluster,
            proxies,
            client,
        }
    }

    async fn shut(&self, nodes: impl IntoIterator<Item = usize>, door: Door) {
        for node in nodes {
            self.proxies[node].door(door).await;
            self.proxies[node].reset_connections();
        }
    }

    async fn heal(&self) {
        for proxy in &self.proxies {
            proxy.heal().await;
        }
    }
}

/// What an operation came to, which must not take longer than this.
#[track_caller]
fn within<T>(limit: Duration, started: Instant, result: T) -> T {
    let took = started.elapsed();
    assert!(took < limit, "it took {took:?}");
    result
}

/// The kinds of the faults that these nodes had.
#[track_caller]
fn faults(error: &Error, nodes: &[usize]) -> Vec<FaultKind> {
    let report = error.report().expect("the nodes were asked");
    let kind = |node: &usize| match &report.nodes[*node].1 {
        Some(Vote::Failed(fault)) => fault.kind,
        other => panic!("node {node} has no fault but {other:?}: {report}"),
    };
    nodes.iter().map(kind).collect()
}

/// Acquires, extends and releases, each within a second.
async fn full_turn(client: &Redlock, resource: &str) {
    let started = Instant::now();
    let grant = client.acquire(resource, attempt()).await;
    let grant = within(SECOND, started, grant).unwrap();
    let started = Instant::now();
    let extended = client.extend(&grant, SECOND).await;
    let extended = within(SECOND, started, extended).unwrap();
    assert_eq!(extended.token(), Some(grant.token()));
    let started = Instant::now();
    let released = client.release(&grant).await;
    within(SECOND, started, released).unwrap();
}

/// Waits until so many nodes vote.
async fn voting(client: &Redlock, nodes: usize, limit: Duration) -> bool {
    eventually(limit, || async {
        let votes = client.readiness().await.nodes;
        let up = |(_, vote): &&(NodeId, Vote)| *vote == Vote::Pong;
        votes.iter().filter(up).count() == nodes
    })
    .await
}

/// No quorum: every operation says so in time, and names these faults on nodes 0 to 2.
async fn nothing_works(client: &Redlock, held: &everlock::Grant, kinds: &[FaultKind]) {
    let gone = [0, 1, 2];
    let started = Instant::now();
    let result = client.acquire("another", attempt()).await;
    let error = within(SECOND, started, result).unwrap_err();
    let acquire = (error, "acquire");
    let started = Instant::now();
    let result = client.extend(held, SECOND).await;
    let extend = (within(SECOND, started, result).unwrap_err(), "extend");
    let started = Instant::now();
    let result = client.release((held.resource(), held.owner())).await;
    let release = (within(SECOND, started, result).unwrap_err(), "release");
    for (error, operation) in [acquire, extend, release] {
        assert!(
            matches!(error, Error::Unavailable { .. }),
            "{operation}: {error}"
        );
        for kind in faults(&error, &gone) {
            assert!(kinds.contains(&kind), "{operation}: {kind:?} in {error}");
        }
    }
}

/// Two of five gone change nothing; three gone are unavailable, with these faults;
/// and all are used again once they are back.
async fn gone_and_back(
    network: &Network,
    gone: impl AsyncFn(&Network, usize),
    back: impl AsyncFn(&Network),
    kinds: &[FaultKind],
) {
    let client = &network.client;
    let held = client.acquire("held", attempt()).await.unwrap();
    let everywhere = || async { network.cluster.count("held", held.owner().as_str()) == 5 };
    assert!(eventually(SETTLED, everywhere).await);
    gone(network, 0).await;
    gone(network, 1).await;
    for round in 0..5 {
        full_turn(client, &format!("r{round}")).await;
    }
    gone(network, 2).await;
    nothing_works(client, &held, kinds).await;
    back(network).await;
    assert!(
        voting(client, 5, BACK).await,
        "{:?}",
        client.readiness().await
    );
    full_turn(client, "r").await;
    // What the failed acquire and release had begun is done on all nodes.
    let cleared = eventually(BACK, || async { locks_left(&network.cluster).is_empty() });
    assert!(cleared.await, "{:?}", locks_left(&network.cluster));
}

const TIMEOUT: &[FaultKind] = &[FaultKind::Timeout];

#[tokio::test]
async fn dead_nodes_stop_nobody_while_they_are_a_minority() {
    let network = Network::of(5).await;
    let gone = async |network: &Network, node: usize| {
        network.cluster.kill(node);
        // A dead machine's address refuses, rather than a proxy that can't reach it.
        network.shut([node], Door::Closed).await;
    };
    let back = async |network: &Network| {
        for node in 0..3 {
            network.cluster.restart(node);
        }
        network.heal().await;
    };
    let kinds = [FaultKind::Refused, FaultKind::Disconnected];
    gone_and_back(&network, gone, back, &kinds).await;
}

#[tokio::test]
async fn hung_nodes_stop_nobody_while_they_are_a_minority() {
    let network = Network::of(5).await;
    let gone = async |network: &Network, node| network.cluster.pause(node);
    let back = async |network: &Network| {
        for node in 0..3 {
            network.cluster.resume(node);
        }
    };
    gone_and_back(&network, gone, back, TIMEOUT).await;
}

#[tokio::test]
async fn slow_nodes_stop_nobody_while_they_are_a_minority() {
    let network = Network::of(5).await;
    let gone = async |network: &Network, node: usize| {
        network.proxies[node].replies(Flow::Delay(Duration::from_millis(1_200)));
    };
    let back = async |network: &Network| network.heal().await;
    gone_and_back(&network, gone, back, TIMEOUT).await;
}

#[tokio::test]
async fn nodes_that_reset_every_connection_stop_nobody_while_they_are_a_minority() {
    let network = Network::of(5).await;
    let gone = async |network: &Network, node| network.shut([node], Door::Reset).await;
    let back = async |network: &Network| network.heal().await;
    let kinds = [FaultKind::Unreachable, FaultKind::Disconnected];
    gone_and_back(&network, gone, back, &kinds).await;
}

#[tokio::test]
async fn nodes_that_refuse_every_connection_stop_nobody_while_they_are_a_minority() {
    let network = Network::of(5).await;
    let gone = async |network: &Network, node| network.shut([node], Door::Closed).await;
    let back = async |network: &Network| network.heal().await;
    let kinds = [FaultKind::Refused, FaultKind::Disconnected];
    gone_and_back(&network, gone, back, &kinds).await;
}

#[tokio::test]
async fn nodes_that_answer_no_handshake_stop_nobody_while_they_are_a_minority() {
    let network = Network::of(5).await;
    let gone = async |network: &Network, node| network.shut([node], Door::Hang).await;
    let back = async |network: &Network| network.heal().await;
    let kinds = [
        FaultKind::Timeout,
        FaultKind::Unreachable,
        FaultKind::Disconnected,
    ];
    gone_and_back(&network, gone, back, &kinds).await;
}

#[tokio::test]
async fn a_slow_majority_within_the_node_timeout_costs_time_and_nothing_else() {
    let network = Network::of(5).await;
    for proxy in &network.proxies {
        proxy.both(Flow::Delay(Duration::from_millis(40)));
    }
    let started = Instant::now();
    let grant = network.client.acquire("r", attempt()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(80));
    let left = grant.remaining() + Duration::from_millis(80);
    assert!(left <= Duration::from_mins(1), "counted from the start");
    network.client.release(&grant).await.unwrap();
}

#[tokio::test]
async fn a_missing_quorum_is_the_answer_after_the_patience_however_many_retries_are_left() {
    let cluster = RedisCluster::start(5);
    let client = client(&cluster, MAX_LEASE).await;
    for node in 0..3 {
        cluster.pause(node);
    }
    for delay in [Duration::from_millis(50), Duration::from_mins(1)] {
        let options = attempt().retries(10_000).delay(delay);
        let started = Instant::now();
        let error = client.acquire("r", options).await.unwrap_err();
        let took = started.elapsed();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        // The patience, and an attempt or two at both ends of it.
        let patience = everlock::config::DEFAULT_PATIENCE;
        assert!(took >= patience, "{took:?}");
        assert!(took < patience + 2 * SECOND, "{took:?}");
    }
}

#[tokio::test]
async fn undos_that_wait_for_dead_nodes_reach_them_when_they_are_back() {
    let network = Network::of(5).await;
    let far = [0, 1, 2];
    for node in far {
        network.proxies[node].replies(Flow::Swallow);
    }
    let options = AcquireOptions::new().lease(MAX_LEASE).retries(0);
    let mut acquiring = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (client, options) = (network.client.clone(), options.clone());
        acquiring.spawn(async move { client.acquire(format!("r{number}"), options).await });
    }
    // The grants arrive; then the nodes are gone before the undos do.
    let granted = eventually(SETTLED, || async {
        locks_left(&network.cluster).len() == 250
    });
    assert!(granted.await, "{}", locks_left(&network.cluster).len());
    network.shut(far, Door::Closed).await;
    for result in acquiring.join_all().await {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        locks_left(&network.cluster).len(),
        150,
        "three hold them still"
    );
    network.heal().await;
    let cleared = eventually(BACK, || async { locks_left(&network.cluster).is_empty() });
    assert!(cleared.await, "{}", locks_left(&network.cluster).len());
    full_turn(&network.client, "r1").await;
}

#[tokio::test]
async fn a_half_open_connection_is_given_up_and_replaced() {
    for flow in [Flow::Swallow, Flow::Stall] {
        let network = Network::of(3).await;
        let before: Vec<_> = network
            .proxies
            .iter()
            .map(FaultProxy::connections)
            .collect();
        for proxy in &network.proxies[..2] {
            proxy.both(flow);
        }
        let error = network.client.acquire("r", attempt()).await.unwrap_err();
        assert_eq!(faults(&error, &[0, 1]), [FaultKind::Timeout; 2]);
        tokio::time::sleep(SILENCE + SECOND).await;
        network.heal().await;
        assert!(voting(&network.client, 3, BACK).await, "{flow:?}");
        full_turn(&network.client, "r").await;
        for (proxy, before) in network.proxies[..2].iter().zip(before) {
            assert!(
                proxy.connections() > before,
                "{flow:?}: the old one is dead"
            );
        }
        let cleared = eventually(BACK, || async { locks_left(&network.cluster).is_empty() });
        assert!(
            cleared.await,
            "{flow:?}: {:?}",
            locks_left(&network.cluster)
        );
    }
}

#[tokio::test]
async fn a_connection_that_dies_while_nobody_uses_it_is_replaced_before_it_is_needed() {
    let network = Network::of(3).await;
    for proxy in &network.proxies {
        // What is lost is lost for good, though the network is well again soon.
        proxy.replies(Flow::Swallow);
    }
    tokio::time::sleep(2 * SECOND).await;
    network.heal().await;
    tokio::time::sleep(SILENCE + SECOND).await;
    full_turn(&network.client, "r").await;
}

#[tokio::test]
async fn connections_that_servers_close_when_idle_cost_no_acquire_its_quorum() {
    let cluster = RedisCluster::start_with(3, |_, server| server.config("timeout", "1"));
    let client = client(&cluster, MAX_LEASE).await;
    for millis in [600, 1_100, 1_900, 2_600, 3_300] {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        full_turn(&client, &format!("after {millis} ms")).await;
    }
}

#[tokio::test]
async fn an_acquire_right_after_all_connections_broke_succeeds() {
    let network = Network::of(5).await;
    for round in 0..10 {
        for proxy in &network.proxies {
            proxy.reset_connections();
        }
        let name = format!("r{round}");
        let started = Instant::now();
        let options = attempt().retries(3);
        let grant = network.client.acquire(name.as_str(), options).await;
        let grant = within(2 * SECOND, started, grant).unwrap();
        network.client.release(&grant).await.unwrap();
    }
}

#[tokio::test]
async fn a_reply_that_is_cut_off_is_a_fault_and_leaves_nothing() {
    let network = Network::of(3).await;
    for keep in [0, 1, 7, 23] {
        for proxy in &network.proxies[..2] {
            proxy.truncate_next_reply(keep);
        }
        let error = network.client.acquire("r", attempt()).await.unwrap_err();
        assert_eq!(faults(&error, &[0, 1]), [FaultKind::Disconnected; 2]);
        assert!(voting(&network.client, 3, BACK).await);
        let cleared = eventually(BACK, || async { locks_left(&network.cluster).is_empty() });
        assert!(cleared.await, "{:?}", locks_left(&network.cluster));
        full_turn(&network.client, "r").await;
    }
}
