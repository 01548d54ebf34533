//! Hazard: a console that obeys other sites, or ends a lock that nobody meant.

use serde_json::{Value, json};

use super::{TOKEN, dev};
use crate::support::{Answer, Client, Proxy, Wire, run};

const LOCAL: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];
const FORCE: [&str; 3] = ["--admin-listen", "127.0.0.1:0", "--allow-force-release"];
const OWN: (&str, &str) = ("x-everlock-console", "1");
const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(admin: &Client, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    admin.send("POST", path, headers, body.to_string()).await
}

async fn inspect(admin: &Client, key: &str) -> Value {
    let body = json!({"key": key});
    let answer = post(admin, "/console/inspect", &[OWN, JSON], &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json
}

async fn force(admin: &Client, key: &str, seen: &Value) -> Answer {
    let body = json!({
        "key": key, "confirm": key, "holder": seen["holder"], "token": seen["token"],
    });
    post(admin, "/console/force-release", &[OWN, JSON], &body).await
}

async fn holds(proxy: &Proxy, key: &str, uuid: &str) -> Value {
    let body = json!({"key": key, "uuid": uuid, "lease": 200_000, "retryAttempts": 0});
    let answer = proxy.client().acquire(body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json
}

#[tokio::test]
async fn the_page_allows_scripts_and_connections_of_its_own_alone() {
    let (_proxy, admin) = dev(&LOCAL, &[]).await;
    let page = admin.get("/").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    for inline in [
        "<script>", "<style", "style=", "onclick=", "onload=", "onerror=",
    ] {
        assert!(!page.text.contains(inline), "{inline}");
    }
}

#[tokio::test]
async fn what_looks_into_a_lock_or_ends_it_is_answered_for_our_own_page_only() {
    let (proxy, admin) = dev(&FORCE, &[]).await;
    holds(&proxy, "k", "holder").await;
    let seen = inspect(&admin, "k").await;
    let body = json!({
        "key": "k", "confirm": "k", "holder": seen["holder"], "token": seen["token"],
    });
    let host = admin.addr().to_string();
    let own = format!("http://{host}");
    let named = ("host", "everlock.example");
    let foreign: [&[(&str, &str)]; 7] = [
        &[JSON],
        &[("x-everlock-console", "0"), JSON],
        &[OWN, JSON, ("origin", "http://evil.example")],
        &[OWN, JSON, ("origin", "null")],
        &[OWN, JSON, ("origin", "http://127.0.0.1:1")],
        &[
            OWN,
            JSON,
            ("origin", &own),
            ("sec-fetch-site", "cross-site"),
        ],
        &[OWN, JSON, ("origin", &own), ("sec-fetch-site", "same-site")],
    ];
    for path in ["/console/inspect", "/console/force-release"] {
        for headers in foreign {
            let answer = post(&admin, path, headers, &body).await;
            assert_eq!(answer.status, 403, "{path} {headers:?}");
        }
        // A name that another site lets resolve to this machine.
        let rebound = [OWN, JSON, named, ("origin", "http://everlock.example")];
        assert_eq!(post(&admin, path, &rebound, &body).await.status, 400);
        let form = [OWN, ("content-type", "text/plain")];
        assert_eq!(post(&admin, path, &form, &body).await.status, 415);
        assert_eq!(admin.get(path).await.status, 405);
    }
    assert_eq!(inspect(&admin, "k").await["verdict"], "held");
    let ours = [
        OWN,
        JSON,
        ("origin", own.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    let answer = post(&admin, "/console/force-release", &ours, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn where_others_reach_it_without_a_token_a_name_is_no_way_into_a_lock() {
    let flags = [
        "--admin-listen",
        "0.0.0.0:0",
        "--allow-unauthenticated-admin",
    ];
    let (_proxy, bound) = dev(&flags, &[]).await;
    let admin = Client::new(([127, 0, 0, 1], bound.addr().port()).into());
    let rebound = [
        OWN,
        JSON,
        ("host", "evil.example"),
        ("origin", "http://evil.example"),
    ];
    let answer = post(&admin, "/console/inspect", &rebound, &json!({"key": "k"})).await;
    assert_eq!(answer.status, 403);
    inspect(&admin, "k").await;
}

#[tokio::test]
async fn locks_are_not_ended_by_force_unless_that_was_allowed() {
    let (proxy, admin) = dev(&LOCAL, &[]).await;
    holds(&proxy, "k", "holder").await;
    let seen = inspect(&admin, "k").await;
    let answer = force(&admin, "k", &seen).await;
    assert_eq!(answer.status, 403);
    assert!(answer.message().contains("--allow-force-release"));
    assert_eq!(inspect(&admin, "k").await["verdict"], "held");
}

#[tokio::test]
async fn to_allow_it_where_others_reach_it_takes_a_token() {
    let flags = [
        "serve",
        "--dev",
        "--allow-force-release",
        "--admin-listen",
        "0.0.0.0:0",
    ];
    let args = [&flags[..], &["--allow-unauthenticated-admin"]].concat();
    let (status, output) = run(&args, &[]).await;
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(
        output.contains("flag --allow-force-release: whoever can reach"),
        "{output}"
    );
    let (status, output) = run(&flags[..3], &[]).await;
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(
        output.contains("is of no use without --admin-listen"),
        "{output}"
    );
}

#[tokio::test]
async fn by_force_ends_the_grant_that_was_seen_and_the_next_token_is_higher() {
    let (mut proxy, admin) = dev(&FORCE, &[]).await;
    let client = proxy.client();
    let held = holds(&proxy, "canary-key", "canary-uuid").await;
    let seen = inspect(&admin, "canary-key").await;
    assert_eq!(seen["token"], held["fencingToken"]);
    assert!(!seen.to_string().contains("canary-uuid"), "{seen}");
    let mut wrong = json!({
        "key": "canary-key", "holder": seen["holder"], "token": seen["token"],
    });
    for confirm in ["canary-ke", "CANARY-KEY", "canary-key "] {
        wrong["confirm"] = confirm.into();
        let answer = post(&admin, "/console/force-release", &[OWN, JSON], &wrong).await;
        assert_eq!(answer.status, 400, "{confirm}");
    }
    let done = force(&admin, "canary-key", &seen).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(inspect(&admin, "canary-key").await["verdict"], "free");
    // The old holder hears of it when it asks.
    assert_eq!(
        client
            .extend("canary-key", "canary-uuid", 1_000)
            .await
            .status,
        404
    );
    let next = holds(&proxy, "canary-key", "canary-next").await;
    assert!(next["fencingToken"].as_u64() > held["fencingToken"].as_u64());
    // The lock has changed hands: what was seen then is no warrant any more.
    assert_eq!(force(&admin, "canary-key", &seen).await.status, 409);
    assert_eq!(inspect(&admin, "canary-key").await["verdict"], "held");
    let line = |line: &str| line.contains("ended by force");
    proxy
        .process
        .wait_for_line(line, crate::support::SOON)
        .await;
    let output = proxy.process.output();
    assert!(
        output.contains("key_sha256") && !output.contains("canary"),
        "{output}"
    );
}

#[tokio::test]
async fn what_is_asked_of_the_inspector_is_bounded() {
    let (_proxy, admin) = dev(&LOCAL, &[]).await;
    let long = "x".repeat(513);
    for body in [
        json!({}),
        json!({"key": ""}),
        json!({"key": long}),
        json!({"key": 7}),
        json!({"key": "k", "identity": "a:b"}),
        json!({"key": "k", "identity": "a~b"}),
        json!([]),
    ] {
        let answer = post(&admin, "/console/inspect", &[OWN, JSON], &body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    let large = json!({"key": "k", "more": "x".repeat(20_000)});
    let answer = post(&admin, "/console/inspect", &[OWN, JSON], &large).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn events_come_each_second_to_a_bounded_number_of_listeners() {
    let (proxy, admin) = dev(&LOCAL, &[]).await;
    holds(&proxy, "<b>hot</b>", "x").await;
    let ask = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut listeners = Vec::new();
    for _ in 0..32 {
        let mut wire = Wire::open(admin.addr()).await;
        wire.send(ask).await;
        let head = wire.read_until("\n\n").await;
        assert!(head.contains("text/event-stream"), "{head}");
        listeners.push(wire);
    }
    let mut first = listeners.pop().unwrap();
    let more = first.read_until("\n\n").await;
    assert!(more.contains("data: {\"at\":"), "{more}");
    assert!(more.contains("<b>hot</b>"), "{more}");
    let taken = {
        let mut over = Wire::open(admin.addr()).await;
        over.send(ask).await;
        over.read_until("\r\n\r\n").await
    };
    assert!(taken.starts_with("HTTP/1.1 429"), "{taken}");
    assert!(taken.to_lowercase().contains("retry-after"), "{taken}");
    // Metrics are there all the same, and who leaves makes room.
    assert_eq!(admin.get("/metrics").await.status, 200);
    drop(listeners);
    let room = everlock_testkit::eventually(crate::support::SOON, || async {
        let mut wire = Wire::open(admin.addr()).await;
        wire.send(ask).await;
        wire.read_until("\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200")
    });
    assert!(room.await, "a seat is given back");
}

#[tokio::test]
async fn tune_reads_a_running_proxy_and_events_need_the_token() {
    let env = [("EVERLOCK_ADMIN_TOKEN", TOKEN)];
    let (_proxy, admin) = dev(&LOCAL, &env).await;
    let url = format!("http://{}", admin.addr());
    let (status, output) = run(&["tune", "--url", &url], &[]).await;
    assert!(
        !status.success() && output.contains("demands the admin token"),
        "{output}"
    );
    let (status, output) = run(&["tune", "--url", &url], &env).await;
    assert!(
        status.success() && output.contains("nothing to advise"),
        "{output}"
    );
    for path in ["/events", "/insights"] {
        assert_eq!(admin.get(path).await.status, 401, "{path}");
    }
    assert_eq!(admin.get("/").await.status, 200, "the page holds nothing");
    let (open, admin) = dev(&LOCAL, &[]).await;
    holds(&open, "order:1", "x").await;
    let url = format!("http://{}", admin.addr());
    let (status, output) = run(&["tune", "--url", &url], &[]).await;
    assert!(status.success(), "{output}");
    for part in ["order:# of anonymous", "1 acquires", "this replica only"] {
        assert!(output.contains(part), "{output}");
    }
}
