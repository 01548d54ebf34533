//! `everlock cluster init` and `everlock cluster status`, and what `serve` thinks of their outcome.

use std::time::Duration;

use everlock_testkit::{ProcessUnderTest, RedisCluster, eventually};
use serde_json::Value;

use crate::support::{BINARY, Proxy, SOON, cluster, init, run, timed};

#[tokio::test]
async fn init_opens_new_nodes_and_changes_nothing_when_run_again() {
    let nodes = RedisCluster::start(3);
    let urls = nodes.urls();
    let (status, output) = cluster("status", &urls, &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("not initialised"), "{output}");

    let (status, output) = cluster("init", &urls, &["--max-lease", "20s"]).await;
    assert!(
        status.success() && output.contains("opened now"),
        "{output}"
    );
    assert!(output.contains("up to 20s"), "{output}");
    let (status, output) = cluster("init", &urls, &[]).await;
    assert!(status.success() && output.contains("was open"), "{output}");
    let (status, output) = cluster("init", &urls, &["--max-lease", "30s"]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("20000 ms, as this cluster has"), "{output}");
}

#[tokio::test]
async fn several_inits_at_once_open_one_cluster() {
    let nodes = RedisCluster::start(3);
    let urls = nodes.urls();
    let (one, two, three) = tokio::join!(init(&urls), init(&urls), init(&urls));
    let ((), (), ()) = (one, two, three);
    let (status, output) = cluster("status", &urls, &["--json"]).await;
    assert!(status.success(), "{output}");
    let rows: Value = serde_json::from_str(&output).unwrap();
    for row in rows.as_array().unwrap() {
        assert_eq!(row["cluster"], rows[0]["cluster"], "{output}");
        assert_eq!(
            (&row["state"], &row["votes"]),
            (&"votes".into(), &true.into()),
            "{output}"
        );
    }
}

#[tokio::test]
async fn status_shows_what_an_operator_has_to_know() {
    let nodes = RedisCluster::start_with(3, |index, server| match index {
        0 => server.durable().config("maxmemory-policy", "allkeys-lru"),
        _ => server,
    });
    let urls = nodes.urls();
    let (status, output) = cluster("init", &urls, &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.contains("maxmemory-policy is allkeys-lru"),
        "{output}"
    );
    let (status, output) = cluster("init", &urls, &["--allow-eviction"]).await;
    assert!(status.success(), "{output}");
    nodes.kill(2);
    let (status, output) = cluster("status", &urls, &["--json"]).await;
    assert!(status.success(), "a quorum votes: {output}");
    let rows: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(rows[0]["persistence"], "every write");
    assert_eq!(rows[0]["evictionPolicy"], "allkeys-lru");
    assert_eq!(rows[0]["role"], "primary");
    assert_eq!(rows[0]["maxLease"], 300_000);
    let version = rows[0]["version"].as_str().unwrap();
    let known = ["redis ", "valkey "];
    assert!(
        known.iter().any(|name| version.starts_with(name)),
        "{output}"
    );
    assert!(rows[0]["clockOffsetMicros"].is_i64(), "{output}");
    assert!(
        rows[0]["warnings"][0]
            .as_str()
            .unwrap()
            .contains("noeviction"),
        "{output}"
    );
    assert_eq!(rows[1]["persistence"], "not every write");
    assert_eq!(
        (&rows[2]["state"], &rows[2]["votes"]),
        (&"down".into(), &false.into())
    );
    assert!(
        rows[2]["why"].as_str().unwrap().contains("refused"),
        "{output}"
    );

    let (_, table) = cluster("status", &urls, &[]).await;
    assert!(table.starts_with("node "), "{table}");
    assert!(
        table.contains("warning: ") && table.contains("down: refused"),
        "{table}"
    );
    nodes.kill(1);
    let (status, output) = cluster("status", &urls, &[]).await;
    assert_eq!(status.code(), Some(1), "no quorum votes: {output}");
}

#[tokio::test]
async fn init_needs_every_node_of_a_new_set_and_never_echoes_a_password() {
    let nodes = RedisCluster::start(2);
    let mut urls = nodes.urls();
    urls.push("redis://:s3cret@127.0.0.1:1".into());
    let (status, output) = cluster("init", &urls, &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("127.0.0.1:1 does not answer"), "{output}");
    urls[0] = "http://:s3cret@a".into();
    let (status, output) = cluster("init", &urls, &[]).await;
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.contains("node 1: not the URL"), "{output}");
    assert!(!output.contains("s3cret"), "{output}");
    let (status, output) = run(
        &["cluster", "init", "--help"],
        &[("EVERLOCK_NODES", "redis://:s3cret@a")],
    )
    .await;
    assert!(status.success() && !output.contains("s3cret"), "{output}");
}

#[tokio::test]
async fn serve_refuses_nodes_that_were_never_opened() {
    let nodes = RedisCluster::start(3);
    let urls = nodes.urls().join(",");
    let (status, output) = run(
        &["serve", "--listen", "127.0.0.1:0"],
        &[("EVERLOCK_NODES", &urls)],
    )
    .await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("everlock cluster init"), "{output}");
}

#[tokio::test]
async fn serve_refuses_a_maximum_lease_above_the_clusters() {
    let nodes = RedisCluster::start(1);
    let urls = nodes.urls();
    let (status, output) = cluster("init", &urls, &["--max-lease", "20s"]).await;
    assert!(status.success(), "{output}");
    let args = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--max-lease",
        "21s",
        "--node",
        &urls[0],
    ];
    let (status, output) = run(&args, &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("20000 ms"), "{output}");
}

#[tokio::test]
async fn serve_comes_up_before_its_nodes_and_recovers_by_itself() {
    let nodes = RedisCluster::start_durable(3);
    init(&nodes.urls()).await;
    for node in 0..3 {
        nodes.kill(node);
    }
    let proxy = Proxy::over_urls(&nodes.urls(), &[]).await;
    let client = proxy.client();
    assert_eq!(client.get("/healthz").await.status, 200);
    let answer = client.get("/readyz").await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(answer.json["nodes"][0]["state"], "down", "{answer:?}");
    for node in 0..3 {
        nodes.restart(node);
    }
    client.until_ready(200).await;
    let acquired = eventually(SOON, || async {
        client.try_acquire("k", "u").await.status == 200
    });
    assert!(acquired.await);
}

#[tokio::test]
async fn serve_refuses_nodes_that_may_drop_locks_unless_told_otherwise() {
    let nodes = RedisCluster::start_with(1, |_, server| {
        server.config("maxmemory-policy", "volatile-lru")
    });
    let urls = nodes.urls();
    let (status, output) = cluster("init", &urls, &["--allow-eviction"]).await;
    assert!(status.success(), "{output}");
    let args = ["serve", "--listen", "127.0.0.1:0", "--node", &urls[0]];
    let (status, output) = run(&args, &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.contains("maxmemory-policy is volatile-lru"),
        "{output}"
    );
    let proxy = Proxy::spawn(&args, &[("EVERLOCK_ALLOW_EVICTION", "true")]).await;
    let proxy = proxy.ready().await;
    assert_eq!(proxy.client().try_acquire("k", "u").await.status, 200);
}

#[tokio::test]
async fn init_waits_for_nodes_that_come_up_late_and_says_what_it_waits_for() {
    let nodes = RedisCluster::start(3);
    let urls = nodes.urls();
    nodes.kill(1);
    let mut args = vec!["cluster", "init", "--wait", "60s"];
    for url in &urls {
        args.extend(["--node", url]);
    }
    let mut waiting = ProcessUnderTest::spawn(BINARY, &args, &[]);
    let line = |line: &str| line.contains("waiting for") && line.contains("does not answer");
    waiting.wait_for_line(line, SOON).await;
    nodes.restart(1);
    let status = waiting.wait_exit(SOON).await;
    let output = waiting.output();
    assert!(status.success(), "{output}");
    assert!(output.contains("opened now"), "{output}");
    assert!(waiting.stderr().contains("waiting for"), "{output}");
}

#[tokio::test]
async fn a_wait_ends_with_its_time_and_is_not_for_what_is_wrong_for_good() {
    let nodes = RedisCluster::start(2);
    let mut urls = nodes.urls();
    urls.push(urls[0].clone().replace("127.0.0.1", "localhost"));
    // The same server under another name: no time mends that.
    let same = cluster("init", &urls, &["--wait", "10m"]);
    let (status, output) = same.await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("the same server"), "{output}");
    urls[2] = "redis://127.0.0.1:1".into();
    let ((status, output), took) = timed(cluster("init", &urls, &["--wait", "1500ms"])).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("waiting for 2 s more"), "{output}");
    assert!(took >= Duration::from_millis(1_500), "{took:?}");
    for wait in ["25h", "a while"] {
        let (status, _) = cluster("init", &urls, &["--wait", wait]).await;
        assert_eq!(status.code(), Some(2), "{wait}");
    }
}

#[tokio::test]
async fn a_node_whose_clock_jumped_says_so() {
    let nodes = RedisCluster::start_with_clocks(3);
    let urls = nodes.urls();
    init(&urls).await;
    let proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    nodes.set_clock_offset(1, 60_000);
    // Nobody asks for a lock: the clocks are looked at anyway.
    let told = || async {
        let answer = client.get("/readyz").await;
        answer.json["nodes"][1]["state"] == "guarded"
    };
    assert!(eventually(2 * SOON, told).await);
    let answer = client.get("/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let why = answer.json["nodes"][1]["why"].as_str().unwrap();
    let jumped = |text: &str| {
        text.contains("its clock jumped by +59.9") || text.contains("its clock jumped by +60.")
    };
    assert!(jumped(why), "{why}");
    let (status, output) = cluster("status", &urls, &[]).await;
    assert!(status.success() && jumped(&output), "{output}");
    let (_, output) = cluster("status", &urls, &["--json"]).await;
    let rows: Value = serde_json::from_str(&output).unwrap();
    assert!(jumped(rows[1]["why"].as_str().unwrap()), "{output}");
    let ahead = rows[1]["clockAheadOfOthersMicros"].as_i64().unwrap();
    assert!(ahead.abs_diff(60_000_000) < 500_000, "{output}");
    assert_eq!(rows[0]["compensatedDriftPpm"], 10_000);
}
