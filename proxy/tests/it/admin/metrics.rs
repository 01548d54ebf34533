//! `/metrics`: every name, with figures that are what was done; bounded; and without secrets.

use std::io::Write as _;
use std::process::{Command, Stdio};

use everlock::metrics::NAMES;
use everlock_testkit::{RedisCluster, eventually};
use serde_json::json;

use super::admin_of;
use super::exposition::Exposition;
use crate::identity::setup::{Holder, SECRET, guarded, issue};
use crate::support::{Client, Proxy, SOON, Wire, init};

const ATTEMPTS: &str = "everlock_lock_attempts_total";
const ACQUIRES: &str = "everlock_lock_acquires_total";
const RELEASES: &str = "everlock_lock_releases_total";
const EXTENDS: &str = "everlock_lock_extends_total";
const EXPIRED: &str = "everlock_lock_expired_before_release_total";
const HOLDS: &str = "everlock_lock_hold_duration_seconds_count";
const HTTP: &str = "http_server_request_duration_seconds_count";
const QUORUM: &str = "everlock_quorum_available";
/// Beside those of the library.
const OWN: [&str; 13] = [
    "everlock_build_info",
    "everlock_ready",
    "everlock_draining",
    "everlock_acquires_in_progress",
    "everlock_acquires_limit",
    "everlock_connections",
    "everlock_connections_limit",
    "everlock_undo_pending",
    "http_server_active_requests",
    "http_server_request_duration_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_start_time_seconds",
];

struct Watched {
    proxy: Proxy,
    admin: Client,
}

impl Watched {
    async fn over(nodes: &RedisCluster) -> Self {
        // Slow answers are not what this is about.
        let flags = ["--admin-listen", "127.0.0.1:0", "--node-timeout", "3s"];
        let mut proxy = Proxy::over(nodes, &flags).await.ready().await;
        let admin = Client::new(admin_of(&mut proxy).await);
        Self { proxy, admin }
    }

    /// Waits until this series has this value.
    async fn until(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let reached = eventually(SOON, || async {
            let now = Exposition::of(&self.admin).await.sum(name, labels);
            (now - value).abs() < f64::EPSILON
        });
        let reached = reached.await;
        let text = Exposition::of(&self.admin).await.text;
        assert!(reached, "{name} {labels:?} becomes {value}:\n{text}");
    }
}

fn node(nodes: &RedisCluster, index: usize) -> String {
    format!("127.0.0.1:{}", nodes.servers()[index].port())
}

/// Acquires, contends, lets expire, extends, waits and goes away, all in order.
async fn use_locks(watched: &Watched) {
    let client = watched.proxy.client();
    assert_eq!(client.try_acquire("a", "one").await.status, 200);
    assert_eq!(client.try_acquire("a", "two").await.status, 409);
    let three_more = json!({"key": "a", "uuid": "two", "retryAttempts": 3, "retryDelay": 1});
    let lost = client.acquire(three_more).await;
    assert_eq!(lost.json["lockAcquisitionAttempts"], 4, "{lost:?}");
    assert_eq!(client.extend("a", "one", 1_000).await.status, 200);
    assert_eq!(client.release("a", "one").await.status, 200);
    let short = json!({"key": "b", "uuid": "one", "lease": 300});
    assert_eq!(client.acquire(short).await.status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(client.extend("b", "one", 1_000).await.status, 404);
    assert_eq!(client.release("b", "one").await.status, 404);
    assert_eq!(client.try_acquire("c", "one").await.status, 200);
    let waiter = tokio::spawn({
        let client = Client::new(watched.proxy.addr);
        let waits = json!({"key": "c", "uuid": "two", "retryAttempts": 1, "retryDelay": 60_000});
        async move { client.acquire(waits).await }
    });
    watched.until("everlock_lock_waiters", &[], 1.0).await;
    waiter.abort();
    watched.until("everlock_lock_waiters", &[], 0.0).await;
}

#[tokio::test]
async fn counters_say_exactly_what_was_done() {
    let nodes = RedisCluster::start(5);
    let watched = Watched::over(&nodes).await;
    use_locks(&watched).await;
    let seen = Exposition::of(&watched.admin).await;
    for (name, labels, value) in [
        (ACQUIRES, &[("outcome", "acquired")][..], 3.0),
        (ACQUIRES, &[("outcome", "contended")], 2.0),
        (ACQUIRES, &[("outcome", "cancelled")], 1.0),
        (ACQUIRES, &[("outcome", "unavailable")], 0.0),
        (ATTEMPTS, &[("outcome", "won")], 3.0),
        (ATTEMPTS, &[("outcome", "unavailable")], 0.0),
        ("everlock_lock_acquire_duration_seconds_count", &[], 6.0),
        // Five acquires made one attempt, or wait for the second, and one made four.
        (
            "everlock_lock_attempts_per_acquire_bucket",
            &[("le", "2")],
            5.0,
        ),
        ("everlock_lock_attempts_per_acquire_count", &[], 6.0),
        (RELEASES, &[("outcome", "released")], 1.0),
        (RELEASES, &[("outcome", "not_held")], 1.0),
        (EXTENDS, &[("outcome", "extended")], 1.0),
        (EXTENDS, &[("outcome", "not_held")], 1.0),
        (EXPIRED, &[], 1.0),
        (HOLDS, &[], 1.0),
        (
            HTTP,
            &[
                ("http_route", "/lock/acquire"),
                ("http_request_method", "POST"),
                ("http_response_status_code", "200"),
            ],
            3.0,
        ),
        (HTTP, &[("http_response_status_code", "409")], 2.0),
        (HTTP, &[("http_response_status_code", "499")], 1.0),
        (HTTP, &[("http_route", "/lock/release")], 2.0),
        (HTTP, &[("http_route", "/lock/extend")], 2.0),
        ("everlock_node_up", &[], 5.0),
        ("everlock_node_guarded", &[], 0.0),
        (QUORUM, &[], 1.0),
        ("everlock_ready", &[], 1.0),
    ] {
        let found = seen.sum(name, labels);
        let same = (found - value).abs() < f64::EPSILON;
        assert!(
            same,
            "{name} {labels:?} is {found} and not {value}:\n{}",
            seen.text
        );
    }
    // Who begins to wait tries once more, lest it missed a release.
    let contended = seen.sum(ATTEMPTS, &[("outcome", "contended")]);
    assert!((6.0..=8.0).contains(&contended), "{contended}");
    // By the nodes: what each was asked, and the time of a hold.
    for index in 0..5 {
        let id = node(&nodes, index);
        let labels = [("node", id.as_str()), ("op", "acquire")];
        let asked = seen.sum("everlock_node_request_duration_seconds_count", &labels);
        assert!(asked >= 9.0, "{id} was asked {asked} times");
    }
    let held = seen.sum("everlock_lock_hold_duration_seconds_sum", &[]);
    assert!(held > 0.0 && held < 60.0, "{held} s");
}

#[tokio::test]
async fn nodes_that_die_and_nodes_that_forget_are_seen_as_such() {
    let nodes = RedisCluster::start(5);
    let watched = Watched::over(&nodes).await;
    let client = watched.proxy.client();
    let (dead, forgetful) = (node(&nodes, 4), node(&nodes, 3));
    nodes.kill(4);
    watched
        .until("everlock_node_up", &[("node", &dead)], 0.0)
        .await;
    assert_eq!(client.try_acquire("a", "one").await.status, 200);
    nodes.kill(3);
    watched
        .until("everlock_node_up", &[("node", &forgetful)], 0.0)
        .await;
    nodes.restart(3);
    watched
        .until("everlock_node_guarded", &[("node", &forgetful)], 1.0)
        .await;
    watched
        .until("everlock_node_up", &[("node", &forgetful)], 1.0)
        .await;
    watched.until(QUORUM, &[], 1.0).await;
    nodes.kill(2);
    watched.until(QUORUM, &[], 0.0).await;
    watched.until("everlock_ready", &[], 0.0).await;
    assert_eq!(client.try_acquire("b", "one").await.status, 503);
    watched
        .until(ACQUIRES, &[("outcome", "unavailable")], 1.0)
        .await;
    watched
        .until(ATTEMPTS, &[("outcome", "unavailable")], 1.0)
        .await;
    let seen = Exposition::of(&watched.admin).await;
    let errors = seen.sum("everlock_node_errors_total", &[("node", &dead)]);
    assert!(errors >= 2.0, "{errors}");
    // What the two others had granted is undone there.
    let done = eventually(SOON, || async {
        let seen = Exposition::of(&watched.admin).await;
        seen.sum("everlock_undo_total", &[("result", "done")]) >= 2.0
    });
    assert!(done.await, "{}", Exposition::of(&watched.admin).await.text);
}

#[tokio::test]
async fn every_metric_is_there_and_described_as_the_checker_wants_it() {
    let nodes = RedisCluster::start(3);
    let watched = Watched::over(&nodes).await;
    use_locks(&watched).await;
    // The clocks are looked at every few seconds.
    let offsets = eventually(SOON, || async {
        let seen = Exposition::of(&watched.admin).await;
        seen.has("everlock_node_clock_offset_seconds")
    });
    assert!(offsets.await);
    let seen = Exposition::of(&watched.admin).await;
    for name in NAMES.iter().map(|(name, ..)| *name).chain(OWN) {
        assert!(seen.has(name), "{name} is missing:\n{}", seen.text);
        let help = format!("# HELP {name} ");
        assert!(seen.text.contains(&help), "{name} has no help");
    }
    check(&seen.text);
}

/// Asks Prometheus's own checker, where it is installed.
fn check(text: &str) {
    let checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut checker = match checker {
        Ok(checker) => checker,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool: {error}");
            println!("skipped: promtool is not installed");
            return;
        }
    };
    let mut stdin = checker.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = checker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");
    assert!(said.trim().is_empty(), "{said}");
}

#[tokio::test]
async fn whatever_clients_send_there_are_no_more_series_and_none_of_it_is_told() {
    // What changes by itself: operations that nodes were not asked before, and, on a busy
    // machine, outcomes and errors that did not occur before. A name alone would be two thousand.
    const BY_ITSELF: usize = 400;
    let nodes = RedisCluster::start_with(3, |_, server| server.password("canary-redis"));
    let watched = Watched::over(&nodes).await;
    let client = watched.proxy.client();
    let hostile = |number: usize| {
        let client = client.clone();
        async move {
            let name = format!("canary-{number}");
            let path = format!("/{name}");
            let bearer = format!("Bearer everlock_{name}");
            let headers = [("authorization", bearer.as_str()), ("x-request-id", &name)];
            let body = json!({"key": name, "uuid": name, "lease": 100, "retryAttempts": 0});
            client
                .send("POST", "/lock/acquire", &headers, body.to_string())
                .await;
            client
                .send("POST", "/lock/release", &headers, body.to_string())
                .await;
            client
                .send(&format!("CANARY{number}"), &path, &headers, "")
                .await;
            client.send("GET", &path, &headers, "").await;
            client
                .send("POST", "/lock/acquire", &headers, name.clone())
                .await;
        }
    };
    hostile(0).await;
    let before = Exposition::of(&watched.admin).await;
    let (workers, each) = (8, 250);
    let tasks: Vec<_> = (0..workers)
        .map(|worker| {
            let all = (1..=each).map(|number| hostile(worker * each + number));
            let all: Vec<_> = all.collect();
            tokio::spawn(async move {
                for one in all {
                    one.await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let after = Exposition::of(&watched.admin).await;
    let (before, now) = (before.series.len(), after.series.len());
    assert!(now <= before + BY_ITSELF, "{before}: {}", after.text);
    assert!(
        !after.text.to_lowercase().contains("canary"),
        "{}",
        after.text
    );
    let route = [("http_route", "other"), ("http_request_method", "_OTHER")];
    let folded = after.sum(HTTP, &route);
    assert!((folded - 2_001.0).abs() < f64::EPSILON, "{folded}");
}

#[tokio::test]
async fn open_connections_and_what_is_left_to_undo_are_counted_while_they_are() {
    let nodes = RedisCluster::start(3);
    let flags = ["--admin-listen", "127.0.0.1:0", "--max-connections", "7"];
    let mut proxy = Proxy::over(&nodes, &flags).await.ready().await;
    let admin = Client::new(admin_of(&mut proxy).await);
    let watched = Watched { proxy, admin };
    watched.until("everlock_connections_limit", &[], 7.0).await;
    watched.until("everlock_undo_pending", &[], 0.0).await;
    // Those of clients that are gone.
    watched.until("everlock_connections", &[], 0.0).await;
    let mut wires = Vec::new();
    for _ in 0..3 {
        wires.push(Wire::open(watched.proxy.addr).await);
    }
    watched.until("everlock_connections", &[], 3.0).await;
    wires.truncate(1);
    watched.until("everlock_connections", &[], 1.0).await;
    nodes.pause(0);
    nodes.pause(1);
    let answer = watched.proxy.client().try_acquire("k", "u").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let seen = Exposition::of(&watched.admin).await;
    assert!(
        seen.sum("everlock_undo_pending", &[]) >= 2.0,
        "{}",
        seen.text
    );
    nodes.resume(0);
    nodes.resume(1);
    watched.until("everlock_undo_pending", &[], 0.0).await;
}

#[tokio::test]
async fn many_identities_are_no_more_series_than_one() {
    const IDENTITIES: usize = 25;
    let nodes = RedisCluster::start(1);
    init(&nodes.urls()).await;
    let flags = ["--admin-listen", "127.0.0.1:0"];
    let proxy = guarded(&nodes.urls(), SECRET, &flags).await.ready().await;
    let mut watched = Watched {
        admin: Client::new(proxy.addr),
        proxy,
    };
    watched.admin = Client::new(admin_of(&mut watched.proxy).await);
    let mut before = 0;
    for number in 0..IDENTITIES {
        let key = issue(&format!("canary-{number}"), SECRET).await;
        let holder = Holder::new(watched.proxy.client(), &key);
        let answer = holder.try_acquire("k", "u").await;
        assert_eq!(answer.status, 200, "its own locks: {answer:?}");
        assert_eq!(holder.release("k", "u").await.status, 200);
        if number == 0 {
            before = Exposition::of(&watched.admin).await.series.len();
        }
    }
    let after = Exposition::of(&watched.admin).await;
    assert!(!after.text.contains("canary"), "{}", after.text);
    // Operations of the node that come by themselves.
    let more = after.series.len() - before;
    assert!(more < 2 * IDENTITIES, "{more} more: {}", after.text);
}
