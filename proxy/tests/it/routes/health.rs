//! `GET /healthz` and `GET /readyz`

use serde_json::json;

use crate::support::{Local, run};

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
