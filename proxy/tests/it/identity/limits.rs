//! One identity's haste is no other's delay.

use std::time::Duration;

use everlock_testkit::{RedisCluster, eventually};
use serde_json::json;

use crate::support::{Proxy, SOON, init};

use super::licences::{LICENCE, made, sha256};
use super::setup::{Holder, SECRET, SECRETS_ENV, Scratch, guarded, issue};

async fn limited(flags: &[&str]) -> (RedisCluster, Proxy) {
    let nodes = RedisCluster::start(3);
    init(&nodes.urls()).await;
    let proxy = guarded(&nodes.urls(), SECRET, flags).await.ready().await;
    (nodes, proxy)
}

#[tokio::test]
async fn an_identity_that_asks_too_often_is_told_when_to_come_again() {
    let (_nodes, proxy) = limited(&["--identity-rate", "2"]).await;
    // Two keys of one identity share its bounds.
    let (one, two) = (issue("hasty", SECRET).await, issue("hasty", SECRET).await);
    let hasty = [one, two].map(|key| Holder::new(proxy.client(), &key));
    let calm = Holder::new(proxy.client(), &issue("calm", SECRET).await);
    let refused = eventually(SOON, || async {
        let (first, second) = tokio::join!(hasty[0].release("k", "u"), hasty[1].release("k", "u"));
        let refused = [first, second]
            .into_iter()
            .find(|answer| answer.status == 429);
        if let Some(answer) = &refused {
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_eq!(
                answer.message(),
                "more requests a second than this identity may make"
            );
            assert_eq!(answer.json["released"], false);
        }
        refused.is_some()
    });
    assert!(refused.await);
    assert_eq!(calm.try_acquire("k", "u").await.status, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(hasty[0].is_admitted().await, "the bucket is full again");
}

#[tokio::test]
async fn waiters_of_one_identity_leave_room_for_others() {
    let (_nodes, proxy) = limited(&["--identity-max-waiters", "2"]).await;
    let many = issue("many", SECRET).await;
    let holder = Holder::new(proxy.client(), &many);
    let body = json!({"key": "k", "uuid": "holder", "lease": 60_000});
    assert_eq!(holder.post("/lock/acquire", &body).await.status, 200);
    let wait = || {
        let holder = Holder::new(proxy.client(), &many);
        let body = json!({"key": "k", "retryAttempts": 1, "retryDelay": 120_000});
        // The probe below may have the seat for a moment.
        tokio::spawn(
            async move { while holder.post("/lock/acquire", &body).await.status == 429 {} },
        )
    };
    let waiting = [wait(), wait()];
    let full = eventually(SOON, || async {
        let answer = holder.try_acquire("other", "u").await;
        let message = "2 acquires are under way, as many as this identity may have";
        answer.status == 429 && answer.message() == message
    });
    assert!(full.await);
    let other = Holder::new(proxy.client(), &issue("other", SECRET).await);
    assert_eq!(other.try_acquire("k", "u").await.status, 200);
    for waiter in &waiting {
        waiter.abort();
    }
    let free = eventually(SOON, || async {
        holder.try_acquire("other", "u").await.status == 200
    });
    assert!(free.await, "who goes away gives the seat back");
}

#[tokio::test]
async fn a_licence_has_bounds_of_its_own() {
    let nodes = RedisCluster::start(3);
    init(&nodes.urls()).await;
    let text = format!(
        "[[licence]]\nkey-sha256 = \"{}\"\nidentity = \"acme\"\nmax-lease = \"4s\"\nmax-wait = \"1s\"\nmax-waiters = 1\n",
        sha256(LICENCE)
    );
    let file = Scratch::with(&text, "bounds.toml");
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--auth",
        "licence",
        "--licence-file",
        file.path(),
    ];
    let urls = nodes.urls().join(",");
    let env = [("EVERLOCK_NODES", urls.as_str()), (SECRETS_ENV, SECRET)];
    let proxy = Proxy::spawn(&args, &env).await.ready().await;
    let licensed = Holder::new(proxy.client(), &made(&proxy.client(), LICENCE).await);
    let operators = Holder::new(proxy.client(), &issue("free", SECRET).await);
    for (body, message) in [
        (
            json!({"key": "a", "lease": 4_001, "retryAttempts": 0}),
            "lease is 4001: it takes a whole number from 10 to 4000",
        ),
        (
            json!({"key": "b", "retryAttempts": 2, "retryDelay": 501}),
            "retryAttempts × (retryDelay + retryJitter) is 1002: the whole wait takes up to 1000 milliseconds",
        ),
        (
            json!({"key": "c", "retryAttempts": 1001, "retryDelay": 0}),
            "retryAttempts × (retryDelay + retryJitter), with a millisecond each, is 1001: the whole wait takes up to 1000 milliseconds",
        ),
    ] {
        let answer = licensed.post("/lock/acquire", &body).await;
        assert_eq!((answer.status, answer.message()), (400, message));
        assert_eq!(operators.post("/lock/acquire", &body).await.status, 200);
    }
    let answer = licensed.try_acquire("k", "u").await;
    assert_eq!(
        (answer.status, &answer.json["config"]["lease"]),
        (200, &json!(4000))
    );
    let body = json!({"key": "k", "uuid": "u", "extendBy": 4_001});
    assert_eq!(licensed.post("/lock/extend", &body).await.status, 400);
}
