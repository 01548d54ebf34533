//! API keys: who has a valid one is let in, on any proxy, and all others hear one and the same.

use std::collections::BTreeMap;

use crate::support::{Answer, Local, SOON, init, run};
use everlock_testkit::{RedisCluster, eventually};

use super::setup::{
    Holder, OTHER_SECRET, SECRET, SECRETS_ENV, Scratch, deployment, guarded, issue, revoke,
};

/// All that a client can see of an answer, but what differs with each.
fn seen(answer: &Answer) -> (u16, BTreeMap<String, Vec<u8>>, String) {
    let headers = answer.headers.iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    let mut headers: BTreeMap<_, _> = headers.collect();
    headers.remove("date");
    headers.remove("x-request-id");
    (answer.status, headers, answer.text.clone())
}

#[tokio::test]
async fn nobody_learns_which_api_keys_there_were() {
    let (nodes, proxies) = deployment(1).await;
    let client = proxies[0].client();
    let good = issue("acme", SECRET).await;
    let deleted = issue("acme", SECRET).await;
    let foreign = issue("acme", OTHER_SECRET).await;
    assert_eq!(revoke(&nodes.urls(), &deleted).await.0, Some(0));
    let holder = Holder::new(client.clone(), &deleted);
    let ended = eventually(SOON, || async { !holder.is_admitted().await });
    assert!(ended.await, "the key is deleted");

    let bearer = |key: &str| vec![("authorization", format!("Bearer {key}"))];
    let attempts = [
        vec![],
        bearer(""),
        bearer("YOUR_API_KEY"),
        bearer(&deleted),
        bearer(&foreign),
        bearer(&good[..good.len() - 1]),
        bearer(&format!("{good}a")),
        bearer(&good.to_uppercase()),
        bearer(&"x".repeat(8_000)),
        vec![("authorization", good.clone())],
        vec![("authorization", format!("Basic {good}"))],
        [bearer(&good), bearer(&good)].concat(),
    ];
    for path in ["/lock/acquire", "/lock/extend", "/lock/release"] {
        let mut first = None;
        for headers in &attempts {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let answer = client
                .send("POST", path, &headers, r#"{"key":"k","uuid":"u"}"#)
                .await;
            assert_eq!(answer.status, 401, "{headers:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            let first = first.get_or_insert_with(|| seen(&answer));
            assert_eq!(*first, seen(&answer), "{headers:?}");
        }
    }
    // And the good one is good, in any case of the scheme.
    let headers = [("authorization", format!("bEaReR  {good}"))];
    let headers = [(headers[0].0, headers[0].1.as_str())];
    let answer = client
        .send("POST", "/lock/acquire", &headers, r#"{"key":"k"}"#)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_key_works_on_every_proxy_and_its_locks_are_its_identitys_own() {
    let (nodes, proxies) = deployment(2).await;
    let (acme, other) = (issue("acme", SECRET).await, issue("other", SECRET).await);
    let [first, second] =
        [&proxies[0], &proxies[1]].map(|proxy| Holder::new(proxy.client(), &acme));
    let stranger = Holder::new(proxies[1].client(), &other);

    assert_eq!(first.try_acquire("k", "u").await.status, 200);
    assert_eq!(
        second.try_acquire("k", "other").await.status,
        409,
        "one identity, one lock"
    );
    assert_eq!(stranger.extend("k", "u").await.status, 404);
    assert_eq!(stranger.release("k", "u").await.status, 404);
    assert_eq!(
        stranger.try_acquire("k", "u").await.status,
        200,
        "a lock of its own"
    );
    for key in ["Evermind:acme:k", "Evermind:other:k"] {
        let held = eventually(SOON, || async { nodes.count(key, "u") == 5 });
        assert!(held.await, "{key}: {:?}", nodes.get(key));
    }
    assert_eq!(second.release("k", "u").await.status, 200);
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_moment_at_which_a_key_fails() {
    let nodes = RedisCluster::start(3);
    init(&nodes.urls()).await;
    let old = issue("acme", SECRET).await;
    let both = Scratch::with(
        &format!("# the new one first\n{OTHER_SECRET}\n\n{SECRET}\n"),
        "secrets",
    );
    let args = [
        "keys",
        "issue",
        "--identity",
        "acme",
        "--json",
        "--api-key-secret-file",
        both.path(),
    ];
    let (status, output) = run(&args, &[]).await;
    assert!(status.success(), "{output}");
    let output: serde_json::Value = serde_json::from_str(&output).unwrap();
    let new = output["apiKey"].as_str().unwrap();
    for (secrets, takes_old, takes_new) in [
        (SECRET.to_owned(), true, false),
        (format!("{SECRET},{OTHER_SECRET}"), true, true),
        (format!("{OTHER_SECRET},{SECRET}"), true, true),
        (OTHER_SECRET.to_owned(), false, true),
    ] {
        let proxy = guarded(&nodes.urls(), &secrets, &[]).await.ready().await;
        let admitted = async |key| Holder::new(proxy.client(), key).is_admitted().await;
        assert_eq!(
            (admitted(&old).await, admitted(new).await),
            (takes_old, takes_new),
            "{secrets}"
        );
    }
}

#[tokio::test]
async fn without_a_flag_nobody_has_to_authenticate_and_all_are_anonymous() {
    let proxy = Local::start(&[]).await;
    let key = issue("acme", SECRET).await;
    let holder = Holder::new(proxy.client(), &key);
    assert_eq!(holder.try_acquire("k", "u").await.status, 200);
    assert_eq!(
        proxy.client().release("k", "u").await.status,
        200,
        "the same lock"
    );
}

#[tokio::test]
async fn what_is_wrong_with_secrets_and_identities_is_said_by_name_and_never_shown() {
    let nodes = ("EVERLOCK_NODES", "redis://127.0.0.1:1");
    let short = "canary-too-short";
    let keys = ["serve", "--auth", "keys"];
    let none = ["serve"];
    for (args, env, problem) in [
        (
            &keys[..],
            vec![nodes],
            "flag --auth: needs the secret that signs API keys",
        ),
        (
            &keys[..],
            vec![nodes, (SECRETS_ENV, short)],
            "EVERLOCK_API_KEY_SECRETS: a secret has 16 bytes: it takes 32 to 512",
        ),
        (
            &keys[..],
            vec![nodes, (SECRETS_ENV, " , ")],
            "EVERLOCK_API_KEY_SECRETS: there is no secret in it",
        ),
        (
            &none[..],
            vec![nodes, (SECRETS_ENV, SECRET)],
            "EVERLOCK_API_KEY_SECRETS: is of no use",
        ),
        (
            &["keys", "issue", "--identity", "a:b"],
            vec![(SECRETS_ENV, SECRET)],
            "--identity: \"a:b\" is no identity",
        ),
        (
            &["keys", "issue", "--identity", "anonymous"],
            vec![(SECRETS_ENV, SECRET)],
            "and is not anonymous",
        ),
        (
            &["keys", "issue", "--identity", "a"],
            vec![],
            "the secret that signs API keys is needed",
        ),
    ] {
        let (status, output) = run(args, &env).await;
        assert_eq!(status.code(), Some(2), "{output}");
        assert!(output.contains(problem), "{output}");
        assert!(
            !output.contains(short) && !output.contains(SECRET),
            "{output}"
        );
    }
    let (code, output) = revoke(&["redis://127.0.0.1:1".to_owned()], "everlock_nonsense").await;
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("none of the secrets signed this API key"),
        "{output}"
    );
}

#[tokio::test]
async fn an_address_that_others_reach_needs_no_permission_where_keys_are_demanded() {
    let proxy = {
        let args = [
            "serve",
            "--listen",
            "0.0.0.0:0",
            "--auth",
            "keys",
            "--node",
            "redis://127.0.0.1:1",
        ];
        let nodes = RedisCluster::start(3);
        init(&nodes.urls()).await;
        let urls = nodes.urls().join(",");
        let env = [("EVERLOCK_NODES", urls.as_str()), (SECRETS_ENV, SECRET)];
        crate::support::Proxy::spawn(&args[..5], &env).await
    };
    assert!(proxy.addr.ip().is_unspecified());
}
