//! Hazard: traces that lie, that tell secrets, or that cost requests something. Against a real
//! collector's protocol, and real Redis servers.

mod collector;
mod lost;
mod outage;
mod settings;

use everlock_testkit::{RedisCluster, RedisServer, Signal, eventually};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use self::collector::{Collector, Manner, Span};
use crate::admin::admin_of;
use crate::support::{Client, Proxy, SOON, Wire, init};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];
/// Spans come at once, as far as a test can tell.
const PROMPT: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// A proxy over these nodes that sends its traces there.
async fn traced(
    nodes: &RedisCluster,
    collector: &Collector,
    flags: &[&str],
    env: &[(&str, &str)],
) -> Proxy {
    init(&nodes.urls()).await;
    let endpoint = collector.endpoint();
    let own = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), PROMPT];
    let proxy = Proxy::over_with(&nodes.urls(), flags, &[&own, env].concat()).await;
    proxy.ready().await
}

/// Waits until so many acquires wait.
async fn until_waiting(admin: &Client, count: usize) {
    let line = format!("\neverlock_lock_waiters {count}\n");
    let waiting = eventually(SOON, || async {
        admin.get("/metrics").await.text.contains(&line)
    });
    assert!(waiting.await, "{count} wait");
}

fn is(name: &'static str) -> impl Fn(&Span) -> bool {
    move |span| span.name == name
}

#[tokio::test]
async fn a_request_is_one_trace_with_what_each_node_was_asked_under_the_clients_own_span() {
    let nodes = RedisCluster::start(3);
    let collector = Collector::start(Manner::Takes).await;
    let proxy = traced(&nodes, &collector, &[], &[]).await;
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", &traceparent("01")),
    ];
    let body = json!({"key": "k", "uuid": "u"}).to_string();
    let client = proxy.client();
    let answer = client.send("POST", "/lock/acquire", &headers, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let calls = collector.wait(3, is("EVALSHA acquire")).await;
    let server = collector.one(is("POST /lock/acquire")).await;
    assert_eq!(
        (server.kind, server.trace.as_str()),
        (SpanKind::Server, TRACE)
    );
    assert_eq!(server.parent, PARENT);
    let port = proxy.addr.port().to_string();
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/lock/acquire"),
        ("http.response.status_code", "200"),
        ("url.path", "/lock/acquire"),
        ("url.scheme", "http"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("network.protocol.version", "1.1"),
        ("error.type", ""),
        ("everlock.outcome", "acquired"),
        ("everlock.attempts", "1"),
        ("everlock.waited", "false"),
    ] {
        assert_eq!(server.get(name), value, "{name} of {server:#?}");
    }
    let answered = server.get("everlock.nodes.answered");
    assert!(["2", "3"].contains(&answered), "{server:#?}");
    assert!(!server.is_error);

    let mut ports = Vec::new();
    for call in &calls {
        assert_eq!((call.kind, call.trace.as_str()), (SpanKind::Client, TRACE));
        assert_eq!(call.parent, server.id);
        for (name, value) in [
            ("db.system.name", "redis"),
            ("db.operation.name", "EVALSHA"),
            ("db.query.summary", "EVALSHA acquire"),
            ("db.namespace", "0"),
            ("server.address", "127.0.0.1"),
            ("everlock.command", "acquire"),
            ("everlock.answer", "granted"),
            ("error.type", ""),
        ] {
            assert_eq!(call.get(name), value, "{name} of {call:#?}");
        }
        assert_eq!(call.events, ["sent"]);
        assert!(server.from <= call.from && call.from <= call.until);
        ports.push(call.get("server.port").to_owned());
    }
    ports.sort_unstable();
    let mut expected: Vec<_> = nodes.servers().iter().map(RedisServer::port).collect();
    expected.sort_unstable();
    let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
    assert_eq!(ports, expected, "one call to each node");

    let resource = &server.resource;
    assert_eq!(resource["service.name"], "everlock");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["service.instance.id"].len(), 32);
    assert_eq!(resource["telemetry.sdk.language"], "rust");
    assert_eq!(server.scope, "everlock");
    let (path, head) = collector.heads().remove(0);
    assert_eq!(path, "/v1/traces");
    assert_eq!(head["content-type"], "application/x-protobuf");
}

#[tokio::test]
async fn what_became_of_the_lock_is_told_whatever_the_status_is() {
    let nodes = RedisCluster::start(3);
    let collector = Collector::start(Manner::Takes).await;
    let proxy = traced(&nodes, &collector, &[], &[]).await;
    let client = proxy.client();
    client.try_acquire("k", "u").await;
    let other =
        json!({"key": "k", "uuid": "v", "retryAttempts": 1, "retryDelay": 10, "softFail": true});
    assert_eq!(client.acquire(other).await.status, 200);
    client.extend("k", "u", 1_000).await;
    client.extend("k", "v", 1_000).await;
    client.release("k", "u").await;
    client.release("k", "u").await;
    client.get("/lock/canary-path").await;

    let contended = |span: &Span| span.get("everlock.outcome") == "contended";
    let span = collector.one(contended).await;
    assert_eq!(span.get("http.response.status_code"), "200");
    assert_eq!(span.get("everlock.attempts"), "2");
    assert_eq!(span.get("everlock.waited"), "true");
    assert_eq!(span.events, ["waiting"]);
    // A lost attempt is cleaned up after, in the background, and still of this request.
    for (verb, outcomes) in [
        ("POST /lock/extend", ["extended", "held_by_another"]),
        ("POST /lock/release", ["released", "not_held"]),
    ] {
        let spans = collector.wait(2, is(verb)).await;
        let told = spans.iter().map(|span| span.get("everlock.outcome"));
        assert_eq!(told.collect::<Vec<_>>(), outcomes);
        assert!(spans.iter().all(|span| !span.is_error), "{spans:#?}");
    }
    let nowhere = collector.one(is("GET")).await;
    assert_eq!(nowhere.get("http.response.status_code"), "404");
    assert_eq!(nowhere.get("http.route"), "");
    assert_eq!(nowhere.get("url.path"), "");
    assert!(nowhere.parent.is_empty());
}

#[tokio::test]
async fn a_proposal_that_another_request_sent_for_a_waiter_is_in_the_waiters_trace() {
    let nodes = RedisCluster::start(3);
    let collector = Collector::start(Manner::Takes).await;
    let mut proxy = traced(&nodes, &collector, &ADMIN, &[]).await;
    let admin = Client::new(admin_of(&mut proxy).await);
    let client = proxy.client();
    client.try_acquire("k", "holder").await;
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let client = client.clone();
        // Nobody tries again by itself within the test.
        let wait = json!({"key": "k", "lease": 60_000, "retryAttempts": 3, "retryDelay": 15_000});
        waiters.spawn(async move { client.acquire(wait).await });
    }
    until_waiting(&admin, 3).await;
    let mut uuid = "holder".to_owned();
    for _ in 0..3 {
        assert_eq!(client.release("k", &uuid).await.status, 200);
        let answer = waiters.join_next().await.unwrap().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json["config"]["uuid"]
            .as_str()
            .unwrap()
            .clone_into(&mut uuid);
    }
    let won = |span: &Span| {
        span.get("everlock.outcome") == "acquired" && span.get("everlock.waited") == "true"
    };
    let won = collector.wait(3, won).await;
    let granted = |span: &Span| span.get("everlock.answer") == "granted";
    // The holder's own, and a quorum for each.
    let granted = collector.wait(4 * 2, granted).await;
    for request in &won {
        let own = granted.iter().filter(|call| call.parent == request.id);
        assert!(own.count() >= 2, "{request:#?} of {granted:#?}");
    }
    for release in collector.wait(3, is("POST /lock/release")).await {
        let foreign = granted.iter().filter(|call| call.parent == release.id);
        assert_eq!(foreign.count(), 0, "{release:#?}");
    }
}

#[tokio::test]
async fn commands_of_many_requests_in_one_call_are_a_span_each_that_says_how_many() {
    let nodes = RedisCluster::start(1);
    let collector = Collector::start(Manner::Takes).await;
    let proxy = traced(
        &nodes,
        &collector,
        &[],
        &[("OTEL_BSP_MAX_QUEUE_SIZE", "20000")],
    )
    .await;
    let client = proxy.client();
    let asking = (0..200).map(|number| {
        let client = client.clone();
        tokio::spawn(async move { client.try_acquire(&format!("k{number}"), "u").await })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap().status, 200);
    }
    let calls = collector.wait(200, is("EVALSHA acquire")).await;
    let requests = collector.wait(200, is("POST /lock/acquire")).await;
    for request in &requests {
        let own = calls.iter().filter(|call| call.parent == request.id);
        assert_eq!(own.count(), 1, "{request:#?}");
    }
    let sizes = calls.iter().map(|call| call.get("db.operation.batch.size"));
    let shared = sizes.filter(|size| !["", "0", "1"].contains(size)).count();
    assert!(shared > 1, "none of 200 at once shared a call");
    let alone = calls
        .iter()
        .any(|call| call.get("db.operation.batch.size") == "1");
    assert!(!alone, "a batch of one is none");
}

#[tokio::test]
async fn a_node_that_fails_and_a_client_that_goes_away_are_told() {
    let nodes = RedisCluster::start(3);
    let collector = Collector::start(Manner::Takes).await;
    let mut proxy = traced(&nodes, &collector, &ADMIN, &[]).await;
    let admin = Client::new(admin_of(&mut proxy).await);
    let client = proxy.client();
    nodes.kill(2);
    client.try_acquire("k", "u").await;
    let failed = collector
        .one(|span| span.kind == SpanKind::Client && span.is_error)
        .await;
    assert!(!failed.get("error.type").is_empty(), "{failed:#?}");
    assert_eq!(failed.get("everlock.answer"), "");
    let server = collector.one(is("POST /lock/acquire")).await;
    assert_eq!(
        (server.is_error, server.get("everlock.nodes.answered")),
        (false, "2")
    );

    let mut wire = Wire::open(proxy.addr).await;
    let wait = json!({"key": "k", "retryAttempts": 50, "retryDelay": 1_000}).to_string();
    wire.post("/lock/acquire", &wait).await;
    until_waiting(&admin, 1).await;
    drop(wire);
    let gone = collector
        .one(|span| span.get("error.type") == "client_gone")
        .await;
    assert_eq!(gone.get("http.response.status_code"), "");
    assert_eq!(gone.get("everlock.outcome"), "cancelled");

    nodes.kill(1);
    let refused = client.try_acquire("l", "u").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let refused = collector.one(|span| span.get("error.type") == "503").await;
    assert!(refused.is_error);
    assert_eq!(refused.get("everlock.outcome"), "unavailable");
}

#[tokio::test]
async fn no_span_and_no_log_holds_a_key_a_uuid_or_a_secret() {
    const CANARY: &str = "canary";
    let nodes = RedisCluster::start(3);
    let collector = Collector::start(Manner::Takes).await;
    let flags = ["--log-level", "trace", "--admin-listen", "127.0.0.1:0"];
    let headers = (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "x-token=canary-otlp%2Ctoken,b=2",
    );
    let mut proxy = traced(&nodes, &collector, &flags, &[headers]).await;
    let admin = Client::new(admin_of(&mut proxy).await);
    let client = proxy.client();
    client.try_acquire("canary-key", "canary-uuid").await;
    client.try_acquire("canary-key", "canary-other").await;
    client.extend("canary-key", "canary-uuid", 1_000).await;
    let given = [
        ("authorization", "Bearer canary-api-key"),
        ("user-agent", "canary-agent"),
        ("x-request-id", "id-of-the-client"),
    ];
    for path in ["/canary-path?canary-query", "/usage?canary-query"] {
        client.send("CANARY", path, &given, "canary-body").await;
        client.send("GET", path, &given, "canary-body").await;
    }
    client.release("canary-key", "canary-uuid").await;
    let config = admin.get("/config").await;
    assert!(
        config.text.contains("OTEL_EXPORTER_OTLP_HEADERS"),
        "{}",
        config.text
    );
    assert!(
        config.text.contains(&collector.endpoint()),
        "{}",
        config.text
    );
    assert!(!config.text.contains(CANARY), "{}", config.text);
    proxy.process.signal(Signal::TERM);
    assert!(proxy.process.wait_exit(SOON).await.success());
    // All of it was sent before the end.
    assert_eq!(
        collector
            .spans()
            .iter()
            .filter(|span| is("GET /usage")(span))
            .count(),
        1
    );
    assert_eq!(
        collector
            .spans()
            .iter()
            .filter(|span| is("HTTP /usage")(span))
            .count(),
        1
    );
    assert_eq!(
        collector
            .spans()
            .iter()
            .filter(|span| is("POST /lock/release")(span))
            .count(),
        1
    );
    let sent = collector.bytes();
    let sent = String::from_utf8_lossy(&sent);
    assert!(
        sent.contains("everlock.outcome") && !sent.contains(CANARY),
        "{:#?}",
        collector.spans()
    );
    let output = proxy.process.output();
    assert!(
        output.contains("trace_id") && !output.contains(CANARY),
        "{output}"
    );
    let (_, head) = collector.heads().remove(0);
    assert_eq!(head["x-token"], "canary-otlp,token");
    assert_eq!(head["b"], "2");
}
