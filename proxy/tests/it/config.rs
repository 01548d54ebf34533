//! Configurations: read from three places, refused whole before a port is bound.

use std::io::Write as _;

use everlock_testkit::RedisCluster;

use crate::support::{Proxy, SOON, cluster, run};

/// A file that is gone with the value.
struct File(std::path::PathBuf);

impl File {
    fn with(text: &str, name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("everlock-{}-{name}.toml", std::process::id()));
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn every_problem_is_reported_at_once_with_its_source() {
    let text = "max-wait = \"a while\"\nmax-waiters = [1, 2]\nno-such = 1\nnode-timeout = 3\n";
    let file = File::with(text, "problems");
    let env = [
        ("EVERLOCK_DRIFT_FACTOR", "0.6"),
        (
            "EVERLOCK_NODES",
            "redis://:s3cret@a:1,http://user:s3cret@b, redis://:s3cret@a:1,redis://",
        ),
        ("EVERLOCK_MAX_BODY", "9GiB"),
        ("EVERLOCK_DEV", "yes"),
    ];
    let args = [
        "serve",
        "--config",
        file.path(),
        "--listen",
        "nowhere",
        "--global-prefix",
        "a:b",
        "--max-lease",
        "1ms",
    ];
    let (status, output) = run(&args, &env).await;
    assert_eq!(status.code(), Some(2), "{output}");
    let path = file.path();
    for problem in [
        "everlock: flag --listen: \"nowhere\" is no address".to_owned(),
        "everlock: flag --global-prefix: \"a:b\" is no prefix".to_owned(),
        "everlock: flag --max-lease: 1ms is out of bounds: it takes 10ms to 12h".to_owned(),
        "everlock: variable EVERLOCK_DRIFT_FACTOR: \"0.6\" is out of bounds".to_owned(),
        "everlock: variable EVERLOCK_NODES: node 2: not the URL".to_owned(),
        "everlock: variable EVERLOCK_NODES: node 3: the same server as node 1".to_owned(),
        "everlock: variable EVERLOCK_NODES: node 4: not the URL of a Redis server".to_owned(),
        "everlock: variable EVERLOCK_MAX_BODY: \"9GiB\"".to_owned(),
        "everlock: variable EVERLOCK_DEV: \"yes\" is neither true nor false".to_owned(),
        format!("everlock: file {path}, key max-wait: \"a while\" is no duration"),
        format!("everlock: file {path}, key max-waiters: takes one value"),
        format!("everlock: file {path}, key no-such: there is no such setting"),
        format!("everlock: file {path}, key node-timeout: \"3\" is no duration"),
    ] {
        assert!(output.contains(&problem), "{problem:?} in:\n{output}");
    }
    assert!(
        !output.contains("s3cret") && !output.contains("listening"),
        "{output}"
    );
}

#[tokio::test]
async fn neither_nodes_nor_dev_is_an_error_that_says_what_to_do() {
    let (status, output) = run(&["serve"], &[]).await;
    assert_eq!(status.code(), Some(2));
    assert!(
        output.contains("--node URL")
            && output.contains("EVERLOCK_NODES")
            && output.contains("--dev"),
        "{output}"
    );
}

#[tokio::test]
async fn combinations_that_are_not_safe_are_refused() {
    let node = "redis://127.0.0.1:1";
    for (args, problem) in [
        (
            &["--dev", "--listen", "0.0.0.0:0"][..],
            "flag --dev: serves on loopback only",
        ),
        (
            &["--dev", "--listen", "0.0.0.0:0", "--allow-unauthenticated"],
            "flag --dev: serves on loopback only",
        ),
        (
            &["--dev", "--node", node],
            "flag --dev: can't be combined with nodes, which come from flag --node",
        ),
        (
            &["--node", node, "--listen", "[::]:0"],
            "flag --listen: [::]:0 is not a loopback address",
        ),
    ] {
        let args: Vec<_> = ["serve"].iter().chain(args).copied().collect();
        let (status, output) = run(&args, &[]).await;
        assert_eq!(status.code(), Some(2), "{args:?}: {output}");
        assert!(output.contains(problem), "{args:?}: {output}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_problem_and_its_lines_stay_secret() {
    let (status, output) = run(&["serve", "--dev", "--config", "/nowhere/x.toml"], &[]).await;
    assert_eq!(status.code(), Some(2));
    assert!(
        output.contains("flag --config: /nowhere/x.toml can't be read"),
        "{output}"
    );
    let file = File::with(
        "max-wait = \"3s\"\nnodes = [\"redis://:s3cret@a\"",
        "broken",
    );
    let (status, output) = run(&["serve"], &[("EVERLOCK_CONFIG", file.path())]).await;
    assert_eq!(status.code(), Some(2));
    assert!(output.contains("is not TOML, line 2"), "{output}");
    assert!(!output.contains("s3cret"), "{output}");
}

#[tokio::test]
async fn flags_win_over_variables_and_variables_over_the_file() {
    let file = File::with(
        "dev = true\nmax-lease = \"11s\"\nmax-wait = \"22s\"\nmax-body = 2048\n",
        "precedence",
    );
    let args = [
        "serve",
        "--config",
        file.path(),
        "--listen",
        "127.0.0.1:0",
        "--max-lease",
        "13s",
    ];
    let env = [
        ("EVERLOCK_MAX_LEASE", "12s"),
        ("EVERLOCK_MAX_WAIT", "21s"),
        ("EVERLOCK_LISTEN", ""),
    ];
    let proxy = Proxy::spawn(&args, &env).await;
    let client = proxy.client();
    let answer = client
        .post("/lock/acquire", r#"{"key":"k","lease":1}"#)
        .await;
    assert!(answer.message().ends_with("from 10 to 13000"), "{answer:?}");
    let answer = client
        .post("/lock/acquire", r#"{"key":"k","retryAttempts":100}"#)
        .await;
    assert!(
        answer.message().ends_with("up to 21000 milliseconds"),
        "{answer:?}"
    );
    let answer = client.post("/lock/acquire", vec![b' '; 2049]).await;
    assert!(answer.message().ends_with("up to 2048 bytes"), "{answer:?}");
}

#[tokio::test]
async fn the_proxy_serves_on_as_many_threads_as_it_is_told() {
    let with = async |threads: &str| {
        let args = [
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--threads",
            threads,
        ];
        let proxy = Proxy::spawn(&args, &[]).await;
        assert_eq!(proxy.client().try_acquire("k", "a").await.status, 200);
        let tasks = format!("/proc/{}/task", proxy.process.pid());
        std::fs::read_dir(tasks).expect("it runs").count()
    };
    let (one, five) = (with("1").await, with("5").await);
    assert!(one + 4 <= five, "{one}, {five}");
}

#[tokio::test]
async fn development_mode_says_what_it_is_and_variables_that_nobody_knows_are_noted() {
    let args = ["serve", "--dev", "--listen", "127.0.0.1:0"];
    let mut proxy = Proxy::spawn(&args, &[("EVERLOCK_MAX_LEESE", "3s")]).await;
    let curl = |route| format!("curl http://{}/lock/{route}", proxy.addr);
    let expected = [
        "one process, nothing survives it, not a distributed lock".to_owned(),
        curl("acquire"),
        curl("extend"),
        curl("release"),
        "EVERLOCK_MAX_LEESE is no setting".to_owned(),
    ];
    for words in expected {
        let says = |line: &str| line.contains(&words);
        proxy.process.wait_for_line(says, SOON).await;
    }
}

#[tokio::test]
async fn logs_are_json_if_asked_for_and_never_hold_a_key_or_a_uuid() {
    let mut proxy = everlock_testkit::ProcessUnderTest::spawn(
        crate::support::BINARY,
        &[
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--log-level",
            "trace",
        ],
        &[],
    );
    let soon = SOON;
    let line = proxy
        .wait_for_line(|line| line.contains("listening"), soon)
        .await;
    let log: serde_json::Value = serde_json::from_str(&line).unwrap();
    let addr = log["listen"].as_str().unwrap().parse().unwrap();
    let client = crate::support::Client::new(addr);
    client.try_acquire("canary-key", "canary-uuid").await;
    client.try_acquire("canary-key", "canary-other").await;
    client.get("/canary-path?canary-query").await;
    client.release("canary-key", "canary-uuid").await;
    proxy
        // In the log, that is: the banner names the path as well.
        .wait_for_line(|line| line.contains(r#""route":"/lock/release""#), soon)
        .await;
    let log = proxy.stderr();
    assert!(
        log.contains(r#""route":"/lock/acquire","status":409"#),
        "{log}"
    );
    assert!(log.contains(r#""attempts":1"#), "{log}");
    assert!(!log.contains("canary"), "{log}");
}

#[tokio::test]
async fn passwords_of_nodes_are_in_no_log_and_no_answer() {
    let nodes = RedisCluster::start_with(3, |_, server| server.password("s3cret"));
    let flags = ["--log-level", "trace"];
    let mut proxy = Proxy::over(&nodes, &flags).await.ready().await;
    let client = proxy.client();
    let mut answers = vec![client.try_acquire("k", "u").await];
    assert_eq!(answers[0].status, 200, "the password opens the nodes");
    nodes.kill(0);
    nodes.kill(1);
    client.until_ready(503).await;
    answers.push(client.get("/readyz").await);
    answers.push(client.try_acquire("l", "u").await);
    answers.push(client.release("k", "u").await);
    for answer in answers {
        assert!(!answer.text.contains("s3cret"), "{answer:?}");
    }
    // A line is read here a moment after it was written, and the one of the release is the last.
    for words in ["node is down", "no quorum", r#"route="/lock/release""#] {
        let says = |line: &str| line.contains(words);
        proxy.process.wait_for_line(says, SOON).await;
    }
    let log = proxy.process.output();
    assert!(!log.contains("s3cret"), "{log}");
    let (_, status) = cluster("status", &nodes.urls(), &[]).await;
    assert!(
        status.contains("votes") && !status.contains("s3cret"),
        "{status}"
    );
}
