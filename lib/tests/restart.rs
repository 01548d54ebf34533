//! Hazard: nodes that restart, forget, or were never opened.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::observer::{Event, Observer};
use everlock::{AcquireOptions, ConfigError, Error, Redlock, Vote};
use everlock_testkit::{RedisCluster, RedisServer, SETTLED, eventually};
use tokio::time::Instant;

use support::redis::{builder, client, locks_left, operator, refusal};

const SECOND: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_secs(2);
/// Of clusters of which nothing is to expire.
const LONG: Duration = Duration::from_mins(1);

fn lease(lease: Duration) -> AcquireOptions {
    AcquireOptions::new().lease(lease).retries(0)
}

/// Waits until so many nodes vote.
async fn voting(client: &Redlock, nodes: usize, within: Duration) -> bool {
    eventually(within, || async {
        let readiness = client.readiness().await;
        let votes = readiness.nodes.iter();
        votes.filter(|(_, vote)| *vote == Vote::Pong).count() == nodes
    })
    .await
}

/// A holder has two nodes of three; one of them then forgets it. Until the
/// holder's validity is over nobody else may get the lock, and then soon.
async fn a_forgetful_node_does_not_make_a_second_holder(forget: impl Fn(&RedisServer)) {
    let cluster = RedisCluster::start(3);
    let (first, second) = (
        client(&cluster, MAX_LEASE).await,
        client(&cluster, MAX_LEASE).await,
    );
    let grant = first.acquire("r", lease(MAX_LEASE)).await.unwrap();
    let held = || async { cluster.count("r", grant.owner().as_str()) == 3 };
    assert!(eventually(SETTLED, held).await);
    cluster[2].command(&["DEL", "r"]);
    forget(&cluster[0]);
    let lost_at = Instant::now();
    let options = lease(SECOND).retries(200).delay(Duration::from_millis(20));
    let next = second.acquire("r", options).await.unwrap();
    assert!(!grant.is_valid(), "two hold it at once");
    assert!(next.token() > grant.token());
    assert!(
        lost_at.elapsed() < 2 * MAX_LEASE + SECOND,
        "{:?}",
        lost_at.elapsed()
    );
}

#[tokio::test]
async fn a_restart_without_persistence_does_not_make_a_second_holder() {
    a_forgetful_node_does_not_make_a_second_holder(RedisServer::restart).await;
}

#[tokio::test]
async fn a_node_that_was_flushed_does_not_make_a_second_holder() {
    a_forgetful_node_does_not_make_a_second_holder(|node| {
        node.command(&["FLUSHALL"]);
    })
    .await;
}

#[tokio::test]
async fn a_node_that_lost_everything_waits_the_longest_lease_and_then_votes() {
    for restart in [true, false] {
        let cluster = RedisCluster::start(3);
        let client = client(&cluster, MAX_LEASE).await;
        let lost = Instant::now();
        if restart {
            cluster.restart(1);
        } else {
            cluster[1].command(&["FLUSHALL"]);
        }
        while lost.elapsed() < MAX_LEASE.mul_f64(0.95) {
            let readiness = client.readiness().await;
            assert_ne!(readiness.nodes[1].1, Vote::Pong, "{:?}", lost.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(voting(&client, 3, MAX_LEASE + SECOND).await);
        assert!(lost.elapsed() >= MAX_LEASE);
    }
}

#[tokio::test]
async fn a_guarded_minority_stops_nobody() {
    let cluster = RedisCluster::start(5);
    let client = client(&cluster, LONG).await;
    cluster[0].command(&["FLUSHALL"]);
    cluster.restart(3);
    for round in 0..20 {
        let started = Instant::now();
        let name = format!("r{round}");
        let options = lease(10 * SECOND);
        let grant = client.acquire(name.as_str(), options).await.unwrap();
        client.extend(&grant, SECOND).await.unwrap();
        client.release(&grant).await.unwrap();
        assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    }
    let cleared = eventually(SETTLED, || async { locks_left(&cluster).is_empty() });
    assert!(cleared.await, "{:?}", locks_left(&cluster));
}

#[tokio::test]
async fn a_restart_that_loses_nothing_rejoins_at_once() {
    let cluster = RedisCluster::start_durable(3);
    let client = client(&cluster, LONG).await;
    let grant = client.acquire("r", lease(LONG)).await.unwrap();
    let held = || async { cluster.count("r", grant.owner().as_str()) == 3 };
    assert!(eventually(SETTLED, held).await);
    for node in 0..3 {
        cluster.restart(node);
        assert!(voting(&client, 3, 2 * SECOND).await, "node {node}");
        assert_eq!(cluster.count("r", grant.owner().as_str()), 3);
    }
    let extended = client.extend(&grant, SECOND).await.unwrap();
    assert_eq!(extended.token(), Some(grant.token()));
    let other = client.acquire("r", lease(SECOND)).await;
    assert!(matches!(other, Err(Error::Contended { .. })), "{other:?}");
    client.release(&grant).await.unwrap();
    let next = client.acquire("r", lease(SECOND)).await.unwrap();
    assert!(next.token() > grant.token(), "the floors were kept");
}

#[tokio::test]
async fn guarded_nodes_neither_grant_nor_extend_nor_count_but_release() {
    // Two of three keep their data through a restart that counts as a loss.
    let cluster = RedisCluster::start_with(3, |_, node| node.durable().config("appendfsync", "no"));
    let client = client(&cluster, LONG).await;
    let grant = client.acquire("r", lease(LONG)).await.unwrap();
    let held = || async { cluster.count("r", grant.owner().as_str()) == 3 };
    assert!(eventually(SETTLED, held).await);
    cluster.restart(0);
    cluster.restart(1);
    let guarded = |nodes: &[(everlock::NodeId, Vote)]| {
        let votes = nodes.iter();
        votes
            .filter(|(_, vote)| matches!(vote, Vote::Guarded { remaining: Some(_) }))
            .count()
    };
    let both = eventually(2 * SECOND, || async {
        guarded(&client.readiness().await.nodes) == 2
    });
    assert!(both.await);
    assert!(!client.readiness().await.is_ready());
    for error in [
        client.acquire("another", lease(SECOND)).await.unwrap_err(),
        client.extend(&grant, SECOND).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
    assert_eq!(cluster.count("r", grant.owner().as_str()), 3);
    client.release(&grant).await.unwrap();
    let cleared = eventually(SETTLED, || async { locks_left(&cluster).is_empty() });
    assert!(cleared.await, "{:?}", locks_left(&cluster));
}

#[tokio::test]
async fn opening_twice_changes_nothing() {
    let cluster = RedisCluster::start(3);
    let operator = operator(cluster.urls());
    let first = operator.init(Some(LONG)).await.unwrap();
    assert!(first.opened && first.guarded.is_empty() && first.away.is_empty());
    for max_lease in [Some(LONG), None] {
        let again = operator.init(max_lease).await.unwrap();
        assert_eq!(again.cluster, first.cluster);
        assert!(!again.opened && again.guarded.is_empty(), "{again:?}");
    }
    let error = operator.init(Some(2 * LONG)).await.unwrap_err();
    assert!(matches!(error, ConfigError::OutOfBounds { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_openings_at_once_agree_and_guard_nobody() {
    for round in 0..5 {
        let cluster = RedisCluster::start(5);
        let openings: Vec<_> = (0..8)
            .map(|_| {
                let operator = operator(cluster.urls());
                tokio::spawn(async move { operator.init(Some(LONG)).await })
            })
            .collect();
        let mut agreed = None;
        for opening in openings {
            let done = opening.await.unwrap().unwrap();
            assert_eq!(done.guarded, [], "round {round}");
            assert_eq!(done.away, [], "round {round}");
            let cluster = agreed.get_or_insert_with(|| done.cluster.clone());
            assert_eq!(*cluster, done.cluster, "round {round}");
        }
        let client = builder(&cluster).connect().await.unwrap();
        assert!(voting(&client, 5, SECOND).await, "round {round}");
    }
}

#[tokio::test]
async fn clients_that_connect_while_the_set_is_being_opened_guard_nobody() {
    let cluster = RedisCluster::start(5);
    let early: Vec<_> = (0..4)
        .map(|_| tokio::spawn(builder(&cluster).connect()))
        .collect();
    let opened = operator(cluster.urls()).init(Some(LONG)).await.unwrap();
    assert_eq!(opened.guarded, []);
    for connecting in early {
        // Too early for the marker of any node is an answer too.
        let connected = connecting.await.unwrap();
        if let Err(error) = connected {
            assert_eq!(error, ConfigError::NotInitialised);
        }
    }
    let client = builder(&cluster).connect().await.unwrap();
    assert!(voting(&client, 5, SECOND).await);
}

#[tokio::test]
async fn an_unmarked_node_among_marked_ones_waits_like_any_other() {
    let cluster = RedisCluster::start(3);
    let operator = operator(cluster.urls());
    operator.init(Some(MAX_LEASE)).await.unwrap();
    cluster[2].command(&["FLUSHALL"]);
    let lost = Instant::now();
    let again = operator.init(None).await.unwrap();
    assert!(!again.opened);
    let [(_, left)] = again.guarded.as_slice() else {
        panic!("one node is guarded: {again:?}")
    };
    assert!(*left <= MAX_LEASE && *left + SECOND > MAX_LEASE, "{left:?}");
    let client = builder(&cluster).connect().await.unwrap();
    assert!(voting(&client, 3, MAX_LEASE + 2 * SECOND).await);
    assert!(lost.elapsed() >= MAX_LEASE);
}

#[tokio::test]
async fn a_new_set_is_opened_only_while_all_of_it_answers() {
    let cluster = RedisCluster::start(3);
    cluster.kill(1);
    let operator = operator(cluster.urls());
    let error = operator.init(Some(LONG)).await.unwrap_err();
    assert!(
        matches!(error, ConfigError::CannotInitialise { .. }),
        "{error}"
    );
    cluster.restart(1);
    let done = eventually(5 * SECOND, || async {
        operator.init(Some(LONG)).await.is_ok()
    });
    assert!(done.await);
    // Once open, a minority may be away.
    cluster.kill(1);
    let again = operator.init(Some(LONG)).await.unwrap();
    assert_eq!((again.opened, again.away.len()), (false, 1));
    let client = builder(&cluster).connect().await.unwrap();
    client.acquire("r", lease(SECOND)).await.unwrap();
}

#[tokio::test]
async fn no_nodes_are_refused() {
    assert_eq!(refusal(Vec::<String>::new()).await, ConfigError::NoNodes);
}

#[tokio::test]
async fn nodes_that_were_never_opened_are_refused() {
    let cluster = RedisCluster::start(3);
    assert_eq!(refusal(cluster.urls()).await, ConfigError::NotInitialised);
}

fn bad_node(error: &ConfigError) -> &str {
    match error {
        ConfigError::BadNode { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_same_server_twice_is_refused_however_it_is_spelt() {
    let cluster = RedisCluster::start(2);
    let [first, second] = cluster.urls().try_into().unwrap();
    let spellings = [
        first.clone(),
        first.replace("127.0.0.1", "localhost"),
        format!("{first}1"),
    ];
    for twin in spellings {
        let urls = [first.clone(), second.clone(), twin.clone()];
        let error = operator(urls.clone()).init(Some(LONG)).await.unwrap_err();
        assert!(bad_node(&error).contains("same server"), "{twin}: {error}");
        let error = refusal(urls).await;
        assert!(bad_node(&error).contains("same server"), "{twin}: {error}");
    }
}

#[tokio::test]
async fn a_replica_is_refused() {
    let cluster = RedisCluster::start(3);
    operator(cluster.urls()).init(Some(LONG)).await.unwrap();
    let master = cluster[0].port().to_string();
    cluster[2].command(&["REPLICAOF", "127.0.0.1", &master]);
    let error = refusal(cluster.urls()).await;
    assert!(bad_node(&error).contains("replica"), "{error}");
    let error = operator(cluster.urls()).init(None).await.unwrap_err();
    assert!(bad_node(&error).contains("replica"), "{error}");
}

#[tokio::test]
async fn cluster_mode_is_refused() {
    let cluster = RedisCluster::start_with(3, |node, server| {
        if node == 1 {
            server.config("cluster-enabled", "yes")
        } else {
            server
        }
    });
    let error = operator(cluster.urls()).init(None).await.unwrap_err();
    assert!(bad_node(&error).contains("cluster mode"), "{error}");
    let error = refusal(cluster.urls()).await;
    assert!(bad_node(&error).contains("cluster mode"), "{error}");
}

#[tokio::test]
async fn fewer_nodes_than_the_cluster_has_are_refused() {
    let cluster = RedisCluster::start(3);
    operator(cluster.urls()).init(Some(LONG)).await.unwrap();
    let error = refusal(cluster.urls().into_iter().take(2)).await;
    assert!(bad_node(&error).contains("3 nodes"), "{error}");
}

#[tokio::test]
async fn nodes_of_two_clusters_are_refused() {
    let (one, other) = (RedisCluster::start(3), RedisCluster::start(3));
    operator(one.urls()).init(Some(LONG)).await.unwrap();
    operator(other.urls()).init(Some(LONG)).await.unwrap();
    let mut mixed = one.urls();
    mixed[2] = other.urls()[2].clone();
    let error = refusal(mixed.clone()).await;
    assert!(bad_node(&error).contains("belongs to cluster"), "{error}");
    let error = operator(mixed).init(None).await.unwrap_err();
    assert!(bad_node(&error).contains("belongs to cluster"), "{error}");
}

#[tokio::test]
async fn a_bound_above_the_clusters_is_refused_and_one_below_is_kept() {
    let cluster = RedisCluster::start(1);
    operator(cluster.urls()).init(Some(LONG)).await.unwrap();
    let above = builder(&cluster).max_lease(2 * LONG).connect().await;
    assert!(matches!(above, Err(ConfigError::OutOfBounds { .. })));
    let below = builder(&cluster).max_lease(SECOND).connect().await.unwrap();
    assert_eq!(below.max_lease(), Some(SECOND));
    let error = below.acquire("r", lease(2 * SECOND)).await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: &Event<'_>) {
        if let Event::NodeUp { warnings, .. } = event {
            self.0.lock().unwrap().extend_from_slice(warnings);
        }
    }
}

fn one_evicting(policy: &'static str) -> RedisCluster {
    RedisCluster::start_with(3, |node, server| {
        let server = server.durable();
        if node == 1 {
            server.config("maxmemory-policy", policy)
        } else {
            server
        }
    })
}

#[tokio::test]
async fn an_eviction_policy_that_may_drop_keys_is_refused_unless_it_is_allowed() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let cluster = one_evicting(policy);
        let refused = |error: ConfigError| {
            let text = error.to_string();
            assert!(matches!(error, ConfigError::BadNode { .. }), "{text}");
            assert!(
                text.contains(policy) && text.contains("noeviction"),
                "{text}"
            );
        };
        refused(operator(cluster.urls()).init(Some(LONG)).await.unwrap_err());
        let opening = builder(&cluster).initialise(Some(LONG));
        refused(opening.connect().await.unwrap_err());

        let warnings = Arc::new(Warnings::default());
        let allowed = builder(&cluster).allow_eviction(true);
        let allowed = allowed.initialise(Some(LONG)).observer(warnings.clone());
        let client = allowed.connect().await.unwrap();
        assert!(client.readiness().await.is_ready());
        let seen = warnings.0.lock().unwrap().clone();
        assert!(seen.iter().any(|text| text.contains(policy)), "{seen:?}");
        let statuses = operator(cluster.urls()).status().await;
        for (node, status) in statuses.iter().enumerate() {
            let (facts, _) = status.answer.as_ref().unwrap();
            assert_eq!(facts.warnings().len(), usize::from(node == 1));
            assert!(status.votes());
        }
        // The set is open now, and that changes nothing for those who don't allow it.
        refused(builder(&cluster).connect().await.unwrap_err());
    }
}

#[tokio::test]
async fn a_node_that_begins_to_evict_serves_no_longer_until_it_stops() {
    let cluster = RedisCluster::start_durable(3);
    let client = client(&cluster, LONG).await;
    let set = |policy: &str| {
        let done = cluster[1].command(&["CONFIG", "SET", "maxmemory-policy", policy]);
        assert_eq!(done, "OK");
    };
    let votes = async || client.readiness().await.nodes[1].1 == Vote::Pong;
    assert!(votes().await);
    set("allkeys-random");
    // A client looks every five seconds.
    let out = eventually(20 * SECOND, async || !votes().await);
    assert!(out.await);
    let why = client.readiness().await.nodes[1].1.to_string();
    assert!(why.contains("allkeys-random"), "{why}");
    let grant = client.acquire("r", lease(SECOND)).await.unwrap();
    client.release(&grant).await.unwrap();
    set("noeviction");
    assert!(eventually(20 * SECOND, votes).await);
}

#[tokio::test]
async fn an_even_number_of_nodes_works_and_is_warned_of() {
    let cluster = RedisCluster::start(2);
    let client = client(&cluster, LONG).await;
    assert_eq!(client.warnings().len(), 1);
    let grant = client.acquire("r", lease(SECOND)).await.unwrap();
    client.release(&grant).await.unwrap();
}
