//! Hazard: a log that nobody reads any more, and whose pipe is full.

use std::io::{BufRead as _, BufReader, Read as _, pipe};
use std::process::Stdio;

use everlock_testkit::SETTLED;
use tokio::process::Command;

use crate::support::{BINARY, Client};

/// A pipe takes 64 KiB, and each request has a line of well over a hundred bytes.
const REQUESTS: usize = 1_500;
const RELEASE: &str = r#"{"key":"k","uuid":"u"}"#;

#[tokio::test]
async fn requests_are_answered_though_nobody_reads_the_log_and_what_was_lost_is_told() {
    let (log, stderr) = pipe().unwrap();
    let mut proxy = Command::new(BINARY)
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .stderr(stderr)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(log);
    let addr = loop {
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        if let Some((_, rest)) = line.split_once("listen=") {
            break rest.split_whitespace().next().unwrap().parse().unwrap();
        }
    };
    let client = Client::new(addr);
    let asking = async {
        for _ in 0..REQUESTS {
            let answer = client.post("/lock/release", RELEASE);
            assert_eq!(answer.await.status, 404);
        }
    };
    let asked = tokio::time::timeout(SETTLED * 4, asking).await;
    asked.expect("nobody waits for whoever reads the log");
    // Whoever reads again, as much as lies there, learns of it with the next line.
    let mut stale = vec![0; 32 * 1024];
    log.read_exact(&mut stale).unwrap();
    client.post("/lock/release", RELEASE).await;
    proxy.kill().await.unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("log lines were lost"), "{rest}");
}
