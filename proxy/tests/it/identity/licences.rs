//! From a licence to API keys: whoever has it makes and deletes them, while it is good.

use everlock_testkit::{FakePolar, PolarFault, PolarLicence, RedisCluster, eventually};
use serde_json::{Value, json};

use crate::support::{Answer, Client, Proxy, SOON, init, run};

use super::setup::{Holder, SECRET, SECRETS_ENV, Scratch, issue};

pub(crate) const CUSTOMER: &str = "5d0c2f4e-8a17-4b39-9c6d-1e2f3a4b5c6d";
pub(crate) const LICENCE: &str = "CANARY-LICENCE-1";

pub(crate) fn licence(key: &str, limit_usage: Option<u64>) -> PolarLicence {
    PolarLicence {
        key: key.to_owned(),
        id: uuid::Uuid::now_v7().to_string(),
        customer_id: CUSTOMER.to_owned(),
        status: "granted".to_owned(),
        limit_usage,
        usage: 0,
        expires_at: None,
    }
}

/// A proxy that has its licences from this Polar.
pub(crate) async fn licensed(urls: &[String], polar: &FakePolar, flags: &[&str]) -> Proxy {
    let (nodes, url, ca) = (urls.join(","), polar.url(), polar.ca());
    let fixed = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--auth",
        "licence",
        "--polar-url",
        &url,
    ];
    let more = [
        "--polar-organization",
        FakePolar::ORGANISATION,
        "--polar-ca",
        ca.to_str().unwrap(),
    ];
    let args: Vec<_> = fixed.iter().chain(&more).chain(flags).copied().collect();
    let env = [
        ("EVERLOCK_NODES", nodes.as_str()),
        (SECRETS_ENV, SECRET),
        ("EVERLOCK_POLAR_TOKEN", FakePolar::TOKEN),
    ];
    Proxy::spawn(&args, &env).await.ready().await
}

pub(crate) async fn create(client: &Client, licence: &str) -> Answer {
    let body = json!({"licenceKey": licence}).to_string();
    client.send("POST", "/api-key", &[], body).await
}

pub(crate) async fn made(client: &Client, licence: &str) -> String {
    let answer = create(client, licence).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json["apiKey"].as_str().unwrap().to_owned()
}

pub(crate) async fn delete(client: &Client, licence: &str, key: &str) -> Answer {
    let body = json!({"licenceKey": licence, "apiKey": key}).to_string();
    client.send("DELETE", "/api-key", &[], body).await
}

async fn nodes() -> RedisCluster {
    let nodes = RedisCluster::start(3);
    init(&nodes.urls()).await;
    nodes
}

#[tokio::test]
async fn a_licence_makes_keys_that_work_everywhere_and_deletes_them_at_once() {
    let (nodes, polar) = (
        nodes().await,
        FakePolar::start([licence(LICENCE, None)]).await,
    );
    let first = licensed(&nodes.urls(), &polar, &[]).await;
    let second = licensed(&nodes.urls(), &polar, &[]).await;
    let key = made(&first.client(), LICENCE).await;
    let other = made(&second.client(), LICENCE).await;
    assert_ne!(key, other);
    let holder = Holder::new(second.client(), &key);
    assert_eq!(holder.try_acquire("k", "u").await.status, 200);
    let held = format!("Evermind:{CUSTOMER}:k");
    assert!(
        eventually(SOON, || async { nodes.count(&held, "u") == 3 }).await,
        "the customer's key"
    );

    let answer = delete(&first.client(), LICENCE, &key).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    let at_once = Holder::new(first.client(), &key).release("k", "u").await;
    assert_eq!(at_once.status, 401);
    assert!(eventually(SOON, || async { !holder.is_admitted().await }).await);
    assert_eq!(
        delete(&second.client(), LICENCE, &key).await.status,
        204,
        "again is as good"
    );
    let other = Holder::new(second.client(), &other);
    assert_eq!(
        other.release("k", "u").await.status,
        200,
        "its identity is the same"
    );
}

#[tokio::test]
async fn who_has_no_good_licence_gets_no_key() {
    let (nodes, good) = (nodes().await, licence(LICENCE, None));
    let revoked = PolarLicence {
        status: "revoked".to_owned(),
        ..licence("REVOKED", None)
    };
    let expired = PolarLicence {
        expires_at: Some("2019-01-01T00:00:00Z".to_owned()),
        ..licence("EXPIRED", None)
    };
    let polar = FakePolar::start([good, revoked, expired]).await;
    let proxy = licensed(&nodes.urls(), &polar, &[]).await;
    let client = proxy.client();
    for key in ["REVOKED", "EXPIRED", "UNKNOWN"] {
        let answer = create(&client, key).await;
        let message = "there is no such licence, or it was revoked or has expired";
        assert_eq!((answer.status, answer.message()), (403, message), "{key}");
        assert_eq!(delete(&client, key, "everlock_x").await.status, 403);
    }
    let asked = polar.calls("POST /license-keys/validate");
    assert_eq!(create(&client, "UNKNOWN").await.status, 403);
    assert_eq!(
        polar.calls("POST /license-keys/validate"),
        asked,
        "a refusal is remembered"
    );

    let key = made(&client, LICENCE).await;
    let operators = issue("acme", SECRET).await;
    for foreign in ["everlock_x", "", operators.as_str()] {
        let status = delete(&client, LICENCE, foreign).await.status;
        assert_eq!(
            status,
            if foreign.is_empty() { 400 } else { 404 },
            "{foreign}"
        );
    }
    assert_eq!(delete(&client, "UNKNOWN", &key).await.status, 403);
    let american = json!({"licenseKey": LICENCE, "apiKey": key}).to_string();
    assert_eq!(
        client
            .send("DELETE", "/api-key", &[], american)
            .await
            .status,
        204
    );
    for (body, message) in [
        (
            json!({}),
            "licenceKey is missing: it takes a text of 1 to 512 bytes",
        ),
        (
            json!({"licenceKey": 1}),
            "licenceKey is a number: it takes a text of 1 to 512 bytes",
        ),
        (
            json!({"licenceKey": "a", "licenseKey": "b"}),
            "licenceKey and licenseKey differ: give one of them",
        ),
    ] {
        let answer = client.send("POST", "/api-key", &[], body.to_string()).await;
        assert_eq!((answer.status, answer.message()), (400, message));
    }
    let answer = client.send("GET", "/api-key", &[], "").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("POST, DELETE"))
    );
}

#[tokio::test]
async fn a_backend_that_answers_badly_makes_no_key_and_deletes_all_the_same() {
    let nodes = nodes().await;
    for fault in [
        PolarFault::Broken,
        PolarFault::Silent,
        PolarFault::LostAnswer,
        PolarFault::Throttled,
        PolarFault::Redirect,
        PolarFault::Endless,
    ] {
        let polar = FakePolar::start([licence(LICENCE, None)]).await;
        let proxy = licensed(&nodes.urls(), &polar, &[]).await;
        let client = proxy.client();
        let key = made(&client, LICENCE).await;
        polar.set_fault(fault);
        let answer = create(&client, LICENCE).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("5")),
            "{fault:?}"
        );
        let holder = Holder::new(client.clone(), &key);
        assert!(holder.is_admitted().await, "{fault:?}: known keys go on");
        assert_eq!(
            delete(&client, "UNKNOWN", &key).await.status,
            503,
            "{fault:?}"
        );
        assert_eq!(
            delete(&client, LICENCE, &key).await.status,
            204,
            "{fault:?}"
        );
        assert_eq!(holder.release("k", "u").await.status, 401);
        if fault == PolarFault::Throttled {
            let asked = polar.calls("POST /license-keys/validate");
            assert_eq!(create(&client, LICENCE).await.status, 503);
            assert_eq!(
                polar.calls("POST /license-keys/validate"),
                asked,
                "Polar is left alone"
            );
        }
    }
}

#[tokio::test]
async fn an_outage_of_the_backend_stops_known_keys_after_the_grace_alone() {
    let (nodes, polar) = (
        nodes().await,
        FakePolar::start([licence(LICENCE, None)]).await,
    );
    let flags = ["--licence-refresh", "1s", "--licence-grace", "4s"];
    let proxy = licensed(&nodes.urls(), &polar, &flags).await;
    let holder = Holder::new(proxy.client(), &made(&proxy.client(), LICENCE).await);
    polar.set_fault(PolarFault::Broken);
    let tried = || polar.calls("GET /license-keys/{id}");
    let asked_again = eventually(SOON, || async { holder.is_admitted().await && tried() > 0 });
    assert!(
        asked_again.await,
        "it is admitted while the backend is tried again"
    );
    let ended = eventually(SOON, || async {
        holder.release("k", "u").await.status == 503
    });
    assert!(ended.await, "the grace ends");
    polar.set_fault(PolarFault::None);
    assert!(eventually(SOON, || holder.is_admitted()).await);
    polar.change(LICENCE, |licence| licence.status = "revoked".to_owned());
    let revoked = eventually(SOON, || async {
        holder.release("k", "u").await.status == 403
    });
    assert!(revoked.await, "{:?}", holder.release("k", "u").await);
}

#[tokio::test]
async fn strangers_that_use_up_polars_patience_cost_those_it_knows_nothing() {
    let (nodes, polar) = (
        nodes().await,
        FakePolar::start([licence(LICENCE, None)]).await,
    );
    let flags = ["--licence-refresh", "1s"];
    let proxy = licensed(&nodes.urls(), &polar, &flags).await;
    let client = proxy.client();
    let holder = Holder::new(client.clone(), &made(&client, LICENCE).await);
    polar.set_fault(PolarFault::ThrottledValidations);
    assert_eq!(create(&client, "STRANGERS").await.status, 503);
    let asked = polar.calls("POST /license-keys/validate");
    assert_eq!(create(&client, "STRANGERS").await.status, 503);
    assert_eq!(polar.calls("POST /license-keys/validate"), asked);

    assert_eq!(holder.try_acquire("k", "u").await.status, 200);
    let reported = eventually(SOON, || async { polar.metered(CUSTOMER, "attempts") == 1 });
    assert!(reported.await, "usage is reported");
    polar.change(LICENCE, |licence| licence.status = "revoked".to_owned());
    let revoked = eventually(SOON, || async {
        holder.release("k", "u").await.status == 403
    });
    assert!(revoked.await, "known licences are looked up");
}

/// A proxy with this licence file.
async fn with_file(nodes: &RedisCluster, file: &Scratch) -> Proxy {
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--auth",
        "licence",
        "--licence-file",
        file.path(),
        "--licence-refresh",
        "1s",
    ];
    let urls = nodes.urls().join(",");
    let env = [("EVERLOCK_NODES", urls.as_str()), (SECRETS_ENV, SECRET)];
    Proxy::spawn(&args, &env).await.ready().await
}

#[tokio::test]
async fn a_licence_file_that_hangs_is_used_as_it_was_and_holds_nobody_up() {
    let nodes = nodes().await;
    let mine = format!(
        "[[licence]]\nkey-sha256 = \"{}\"\nidentity = \"acme\"\n",
        sha256(LICENCE)
    );
    let file = Scratch::with(&mine, "hangs.toml");
    let mut proxy = with_file(&nodes, &file).await;
    let holder = Holder::new(proxy.client(), &made(&proxy.client(), LICENCE).await);
    // Whoever opens it waits for somebody who writes.
    std::fs::remove_file(file.path()).unwrap();
    let made_pipe = std::process::Command::new("mkfifo")
        .arg(file.path())
        .status();
    assert!(made_pipe.unwrap().success());
    // Longer than from one look at the file to the next.
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(6);
    while tokio::time::Instant::now() < until {
        let asked = tokio::time::timeout(SOON, async {
            made(&proxy.client(), LICENCE).await;
            holder.is_admitted().await
        });
        assert_eq!(asked.await, Ok(true));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    proxy.process.signal(everlock_testkit::Signal::TERM);
    assert!(proxy.process.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn licences_of_ones_own_are_in_a_file_and_end_with_their_line() {
    let nodes = nodes().await;
    let hash = "d2a55a3a08b4b37f2d6f6a64c1a7a0f9ea40a19f02c9e5f5aac0d5a1ce2a9db5";
    let mine = format!(
        "[[licence]]\nkey-sha256 = \"{}\"\nidentity = \"acme\"\n",
        sha256(LICENCE)
    );
    let file = Scratch::with(&mine, "licences.toml");
    let mut proxy = with_file(&nodes, &file).await;
    let client = proxy.client();
    assert_eq!(create(&client, "OTHER").await.status, 403);
    let key = made(&client, LICENCE).await;
    let holder = Holder::new(client.clone(), &key);
    assert_eq!(holder.try_acquire("k", "u").await.status, 200);
    // What can't be read changes nothing.
    std::fs::write(file.path(), "[[licence]\n").unwrap();
    let said = |line: &str| line.contains("the licence file is used as it was");
    proxy.process.wait_for_line(said, SOON).await;
    assert!(holder.is_admitted().await);
    std::fs::write(file.path(), mine.replace(&sha256(LICENCE), hash)).unwrap();
    let ended = eventually(SOON, || async {
        holder.release("k", "u").await.status == 403
    });
    assert!(ended.await);
    assert_eq!(
        delete(&client, LICENCE, &key).await.status,
        204,
        "its keys can go all the same"
    );
}

#[tokio::test]
async fn the_command_line_makes_and_deletes_keys_with_evermind_s_flags_and_variables() {
    let (nodes, polar) = (
        nodes().await,
        FakePolar::start([licence(LICENCE, None)]).await,
    );
    let proxy = licensed(&nodes.urls(), &polar, &[]).await;
    let url = format!("http://{}", proxy.addr);
    let base = ("EVERMIND_BASE_URL", url.as_str());
    let padded = format!("  {LICENCE}\n");
    let mut keys = Vec::new();
    for (args, env) in [
        (
            vec!["keys", "create"],
            vec![base, ("EVERMIND_LICENCE_KEY", padded.as_str())],
        ),
        (vec!["keys", "create", "--licenceKey", LICENCE], vec![base]),
        (
            vec!["keys", "create", "-l", LICENCE, "--base-url", &url],
            vec![],
        ),
    ] {
        let (status, output) = run(&args, &env).await;
        assert!(status.success(), "{output}");
        keys.push(output.trim().to_owned());
    }
    let (status, output) = run(&["keys", "create", "-l", LICENCE, "--json"], &[base]).await;
    let json: Value = serde_json::from_str(&output).unwrap();
    assert!(status.success() && json["apiKey"].is_string(), "{output}");
    for key in &keys {
        assert!(Holder::new(proxy.client(), key).is_admitted().await);
        let (status, output) = run(&["keys", "delete", key, "-l", LICENCE], &[base]).await;
        assert!(status.success() && output.is_empty(), "{output}");
        assert!(!Holder::new(proxy.client(), key).is_admitted().await);
    }
    let expected =
        "Expected EVERMIND_LICENCE_KEY to be set or passed in via the --licenceKey (-l) flag.\n";
    for args in [&["keys", "create"][..], &["keys", "delete", "x"]] {
        let (status, output) = run(args, &[base, ("EVERMIND_LICENCE_KEY", " ")]).await;
        assert_eq!((status.code(), output.as_str()), (Some(1), expected));
    }
    for args in [
        &["keys", "create", "-l", "CANARY-WRONG"][..],
        &["keys", "delete", "x", "-l", LICENCE],
    ] {
        let (status, output) = run(args, &[base]).await;
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(
            output.contains("(status 40") && !output.contains("CANARY"),
            "{output}"
        );
    }
    let (status, output) = run(
        &[
            "keys",
            "create",
            "-l",
            LICENCE,
            "--base-url",
            "http://127.0.0.1:1",
        ],
        &[],
    )
    .await;
    assert!(
        status.code() == Some(1) && output.contains("can't be asked"),
        "{output}"
    );
}

/// By the program that the documentation names.
pub(crate) fn sha256(text: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}
