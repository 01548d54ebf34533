//! `GET /healthz` and `GET /readyz`

use everlock_testkit::{RedisCluster, RedisServer};
use serde_json::json;

use crate::support::{Local, Proxy, run, timed};

#[tokio::test]
async fn health_and_readiness_are_told_to_probes_of_either_method() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let answer = client.get("/healthz").await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
    let answer = client.get("/readyz?verbose").await;
    assert_eq!((answer.status, &answer.json["ready"]), (200, &json!(true)));
    assert_eq!(answer.json["quorum"], 3);
    let first = json!({"node": "memory-1", "state": "up"});
    assert_eq!(answer.json["nodes"][0], first);
    let answer = client.send("HEAD", "/readyz", &[], "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
}

#[tokio::test]
async fn the_health_command_tells_by_its_exit_code() {
    let proxy = Local::start(&[]).await;
    let url = |path: &str| format!("http://{}{path}", proxy.addr);
    let (status, output) = run(&["health", "--url", &url("/readyz")], &[]).await;
    assert!(status.success(), "{output}");
    let (status, output) = run(&["health"], &[("EVERLOCK_HEALTH_URL", &url("/nowhere"))]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("404"), "{output}");
    let (status, output) = run(&["health", "--url", "http://127.0.0.1:1/healthz"], &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("does not answer"), "{output}");
}

#[tokio::test]
async fn a_flood_of_probes_is_no_flood_for_the_nodes() {
    let nodes = RedisCluster::start(1);
    let proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let flood = async |path: &'static str| {
        let before = commands(&nodes[0]);
        let ((), took) = timed(async {
            let probe = || {
                let client = proxy.client();
                tokio::spawn(async move { client.get(path).await.status })
            };
            let probes: Vec<_> = (0..400).map(|_| probe()).collect();
            for probe in probes {
                assert_eq!(probe.await.unwrap(), 200);
            }
        })
        .await;
        (commands(&nodes[0]) - before, took.as_millis())
    };
    // A node is asked now and then anyway, and what we ask it counts, too.
    let (asked, millis) = flood("/healthz").await;
    assert!(asked < 20 + millis / 50, "{asked} commands in {millis} ms");
    let (asked, millis) = flood("/readyz").await;
    assert!(asked < 20 + millis / 50, "{asked} commands in {millis} ms");
}

/// Commands that the server has done.
fn commands(server: &RedisServer) -> u128 {
    let info = server.command(&["INFO", "stats"]);
    let mut lines = info.lines();
    let count = lines.find_map(|line| line.strip_prefix("total_commands_processed:"));
    count.unwrap().trim().parse().unwrap()
}
