//! Deleted API keys: refused everywhere within five seconds, whatever becomes of a minority.

use std::time::Duration;

use everlock_testkit::{RedisCluster, eventually};

use crate::support::{Proxy, SOON, init};

use super::setup::{Holder, SECRET, deployment, guarded, issue, revoke};

/// What is documented.
const BOUND: Duration = Duration::from_secs(5);

/// Asks without a pause, and fails if anybody who asks after the bound is let in. What a proxy
/// knows is its own business before; afterwards it must refuse, or say that it can't tell.
async fn ends(holders: &[Holder]) {
    let deleted = tokio::time::Instant::now();
    while deleted.elapsed() < BOUND + Duration::from_secs(2) {
        for holder in holders {
            let asked = deleted.elapsed();
            let admitted = holder.is_admitted().await;
            assert!(
                !admitted || asked < BOUND,
                "admitted {asked:?} after its end"
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for holder in holders {
        assert_eq!(
            holder.release("k", "u").await.status,
            401,
            "refused, not unknown"
        );
    }
}

fn holders(proxies: &[Proxy], key: &str) -> Vec<Holder> {
    let holders = proxies.iter().map(|proxy| Holder::new(proxy.client(), key));
    holders.collect()
}

#[tokio::test]
async fn a_deleted_key_ends_on_every_proxy_also_while_a_minority_of_nodes_is_gone() {
    let (nodes, proxies) = deployment(2).await;
    let (kept, deleted) = (issue("acme", SECRET).await, issue("acme", SECRET).await);
    let deleted_holders = holders(&proxies, &deleted);
    for holder in &deleted_holders {
        assert!(holder.is_admitted().await);
    }
    nodes.kill(0);
    nodes.pause(1);
    assert_eq!(revoke(&nodes.urls(), &deleted).await.0, Some(0));
    ends(&deleted_holders).await;
    for holder in holders(&proxies, &kept) {
        let admitted = eventually(SOON, || holder.is_admitted());
        assert!(
            admitted.await,
            "the other key of the identity is not touched"
        );
    }
    nodes.resume(1);
}

#[tokio::test]
async fn a_node_that_forgot_is_taught_and_counts_for_nothing_before() {
    let (nodes, proxies) = deployment(1).await;
    let deleted = issue("acme", SECRET).await;
    // Three nodes alone know of the deletion.
    nodes.kill(3);
    nodes.kill(4);
    assert_eq!(revoke(&nodes.urls(), &deleted).await.0, Some(0));
    nodes.restart(3);
    nodes.restart(4);
    let set = nodes[0]
        .keys()
        .into_iter()
        .find(|key| key.starts_with("Evermind~revoked:"));
    let set = set.expect("the deletion is on the node");
    let known_by = |nodes: &RedisCluster| {
        let knows = |node| nodes[node].command(&["ZCARD", &set]) == "1";
        (0..5).filter(|node| knows(*node)).count()
    };
    let taught = eventually(SOON, || async { known_by(&nodes) == 5 });
    assert!(taught.await, "{}", known_by(&nodes));

    // Now two of those that were told forget it, and nobody but the nodes can teach them.
    drop(proxies);
    nodes.restart(0);
    nodes.restart(1);
    assert_eq!(known_by(&nodes), 3);
    let fresh = guarded(&nodes.urls(), SECRET, &[]).await;
    // It may not know yet, and says so; what it never does is let the key in.
    ends(&holders(std::slice::from_ref(&fresh), &deleted)).await;
    let taught = eventually(SOON, || async { known_by(&nodes) == 5 });
    assert!(taught.await, "{}", known_by(&nodes));
    // A flush is a loss without a restart.
    nodes[2].command(&["FLUSHALL"]);
    let taught = eventually(SOON, || async { known_by(&nodes) == 5 });
    assert!(taught.await, "{}", known_by(&nodes));
}

#[tokio::test]
async fn what_a_majority_forgot_is_taught_by_a_proxy_that_knows() {
    let (nodes, proxies) = deployment(1).await;
    let deleted = issue("acme", SECRET).await;
    assert_eq!(revoke(&nodes.urls(), &deleted).await.0, Some(0));
    let holder = Holder::new(proxies[0].client(), &deleted);
    let ended = eventually(SOON, || async {
        holder.release("k", "u").await.status == 401
    });
    assert!(ended.await);
    for node in 0..5 {
        let ours = nodes[node]
            .keys()
            .into_iter()
            .filter(|key| key.starts_with("Evermind~revoked"));
        let ours: Vec<_> = ours.collect();
        assert_eq!(ours.len(), 2, "{ours:?}");
        nodes[node].command(&["DEL", &ours[0], &ours[1]]);
    }
    let fresh = guarded(&nodes.urls(), SECRET, &[]).await;
    let holder = Holder::new(fresh.client(), &deleted);
    let ended = eventually(SOON, || async {
        holder.release("k", "u").await.status == 401
    });
    assert!(ended.await);
}

#[tokio::test]
async fn a_proxy_that_can_not_tell_what_was_deleted_lets_nobody_in() {
    let (nodes, proxies) = deployment(1).await;
    let key = issue("acme", SECRET).await;
    let holder = Holder::new(proxies[0].client(), &key);
    assert!(holder.is_admitted().await);
    for node in 0..3 {
        nodes.pause(node);
    }
    let unsure = "no quorum of nodes answers: whether API keys were deleted is not known";
    let refused = eventually(SOON, || async {
        let answer = holder.release("k", "u").await;
        answer.status == 503
            && answer.message() == unsure
            && answer.header("retry-after") == Some("1")
    });
    assert!(refused.await, "{:?}", holder.release("k", "u").await);
    // Nor is it deleted where no majority can say so.
    let (code, output) = revoke(&nodes.urls(), &key).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("the API key may live on"), "{output}");
    for node in 0..3 {
        nodes.resume(node);
    }
    // What a minority took is taught to all, later than it was asked for.
    let ended = eventually(SOON, || async {
        holder.release("k", "u").await.status == 401
    });
    assert!(ended.await);
}

#[tokio::test]
async fn a_set_of_nodes_is_first_used_while_one_of_them_is_away() {
    let nodes = RedisCluster::start(3);
    init(&nodes.urls()).await;
    nodes.kill(2);
    let proxy = guarded(&nodes.urls(), SECRET, &[]).await;
    let holder = Holder::new(proxy.client(), &issue("acme", SECRET).await);
    let admitted = eventually(SOON, || holder.is_admitted());
    assert!(admitted.await, "once the node was waited for");
}

#[tokio::test]
async fn a_node_that_forgot_does_not_help_to_make_up_a_majority() {
    let (nodes, proxies) = deployment(1).await;
    let deleted = issue("acme", SECRET).await;
    drop(proxies);
    assert_eq!(revoke(&nodes.urls(), &deleted).await.0, Some(0));
    let named = |start: &str| {
        let keys = nodes[0].keys();
        let key = keys.into_iter().find(|key| key.starts_with(start));
        key.unwrap_or_else(|| panic!("no {start}"))
    };
    let (set, mark) = (named("Evermind~revoked:"), named("Evermind~revoked-mark:"));
    // As if two nodes had been cut off when the key was deleted, and one of the rest forgot it.
    for node in [3, 4] {
        nodes[node].command(&["ZREMRANGEBYRANK", &set, "0", "-1"]);
    }
    nodes[0].command(&["DEL", &set, &mark]);
    nodes.pause(1);
    nodes.pause(2);
    let fresh = guarded(&nodes.urls(), SECRET, &[]).await;
    let holder = Holder::new(fresh.client(), &deleted);
    let started = tokio::time::Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        let answer = holder.release("k", "u").await;
        assert_eq!(answer.status, 503, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    nodes.resume(1);
    nodes.resume(2);
    let ended = eventually(SOON, || async {
        holder.release("k", "u").await.status == 401
    });
    assert!(ended.await);
    let taught = eventually(SOON, || async {
        (0..5).all(|node| nodes[node].command(&["ZCARD", &set]) == "1")
    });
    assert!(taught.await);
}
