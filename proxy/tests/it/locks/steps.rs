//! `acquire`, `extend`, `release`: what they print, and their exit codes.

use std::time::Duration;

use serde_json::Value;

use super::{Bench, MODES};
use crate::support::run;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_lock_is_acquired_extended_and_released_by_three_commands() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let acquire = ["acquire", "k", "--lease", "20s", "--json"];
        let (code, out, err) = bench.run(&acquire).await;
        assert_eq!(code, Some(0), "{mode:?} {out}{err}");
        let answer = json(&out);
        assert_eq!(answer["acquired"], true, "{out}");
        assert_eq!(answer["key"], "k");
        assert_eq!(answer["lockAcquisitionAttempts"], 1);
        assert!(answer["message"].is_null());
        let uuid = answer["uuid"].as_str().unwrap();
        assert_eq!(uuid.as_bytes()[14], b'7', "a UUID of version 7: {uuid}");
        let token = answer["fencingToken"].as_u64().unwrap();
        let validity = answer["validity"].as_u64().unwrap();
        assert!((1..20_000).contains(&validity), "{out}");
        assert!(bench.held_on() >= 2, "{mode:?}");

        let (code, out, _) = bench
            .run(&["extend", "k", "--uuid", uuid, "--by", "30s", "--json"])
            .await;
        assert_eq!(code, Some(0), "{mode:?} {out}");
        assert!(json(&out)["validity"].as_u64().unwrap() > 20_000, "{out}");

        let (code, out, _) = bench.run(&["release", "k", "--uuid", uuid]).await;
        assert_eq!((code, &*out), (Some(0), "released\n"), "{mode:?}");
        assert!(bench.until_free(Duration::from_secs(5)).await);

        let (code, out, _) = bench.run(&["acquire", "k"]).await;
        assert_eq!(code, Some(0), "{mode:?}");
        let lines: Vec<_> = out.lines().collect();
        assert!(
            lines[0].starts_with("uuid ") && lines[2].starts_with("valid for "),
            "{out}"
        );
        let second: u64 = lines[1].strip_prefix("token ").unwrap().parse().unwrap();
        assert!(second > token, "{second} after {token}");
    }
}

#[tokio::test]
async fn each_outcome_has_an_exit_code_of_its_own() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let (code, ..) = bench
            .run(&["acquire", "k", "--uuid", "a", "--lease", "60s"])
            .await;
        assert_eq!(code, Some(0), "{mode:?}");
        let (code, _, err) = bench.run(&["acquire", "k", "--wait", "0s"]).await;
        assert_eq!(code, Some(75), "{mode:?} {err}");
        assert!(err.contains("held by others"), "{err}");
        let (code, out, _) = bench
            .run(&["acquire", "k", "--wait", "300ms", "--json"])
            .await;
        assert_eq!(code, Some(75), "{mode:?} {out}");
        let answer = json(&out);
        assert_eq!(answer["acquired"], false);
        let after = answer["retryAfter"].as_u64().unwrap();
        assert!((1..=60_000).contains(&after), "{out}");
        // Under the same id it is one's own.
        let (code, ..) = bench
            .run(&["acquire", "k", "--uuid", "a", "--wait", "0s"])
            .await;
        assert_eq!(code, Some(0), "{mode:?}");
        for args in [
            &["extend", "k", "--uuid", "b", "--by", "1s"][..],
            &["release", "k", "--uuid", "b"],
            &["release", "other", "--uuid", "a"],
        ] {
            let (code, out, err) = bench.run(args).await;
            assert_eq!(code, Some(76), "{mode:?} {args:?} {out}{err}");
            assert!(!err.is_empty() && out.is_empty(), "{out}{err}");
        }
        let (code, _, err) = bench.run(&["acquire", "l", "--lease", "11h"]).await;
        assert_eq!(code, Some(2), "{mode:?} {err}");
        assert!(err.contains("lease") && err.contains("300000"), "{err}");
        for node in 0..3 {
            bench.nodes.kill(node);
        }
        let (code, out, _) = bench
            .run(&["acquire", "l", "--patience", "300ms", "--json"])
            .await;
        assert_eq!(code, Some(1), "{mode:?} {out}");
        assert_eq!(json(&out)["acquired"], false);
    }
}

#[tokio::test]
async fn what_is_not_understood_names_the_flag_and_its_bounds() {
    for (args, expected) in [
        (
            &["acquire", "k", "--lease", "5ms"][..],
            "--lease <TIME>': 5ms is out of bounds: it takes 10ms to",
        ),
        (
            &["acquire", "k", "--wait", "soon"],
            "--wait <TIME>': \"soon\" is no duration, write 3s or 250ms",
        ),
        (&["acquire", ""], "it takes 1 to 512"),
        (&["acquire", "k", "--retry-delay", "2h"], "--retry-delay"),
        (
            &["extend", "k", "--uuid", "u", "--by", "0s"],
            "--by <TIME>': 0s is out of bounds: it takes 1ms to",
        ),
        (&["extend", "k", "--by", "1s"], "--uuid"),
        (
            &["lock", "k", "--lease", "20ms", "--", "true"],
            "it takes 1s to",
        ),
        (
            &[
                "lock",
                "k",
                "--lease",
                "4s",
                "--kill-after",
                "3s",
                "--",
                "true",
            ],
            "--kill-after is 3s: it takes 0s to half of --lease, 2s",
        ),
        (
            &["lock", "k", "--if-held", "wait", "--", "true"],
            "--if-held",
        ),
        (&["lock", "k"], "COMMAND"),
        (&["acquire", "k", "--base-url", "ftp://x"], "--base-url: "),
        (
            &[
                "acquire",
                "k",
                "--base-url",
                "http://x",
                "--node",
                "redis://y",
            ],
            "--node and --base-url can't be combined",
        ),
        (&["acquire", "k", "--node", "http://:s3cret@y"], "node 1"),
    ] {
        let (status, output) = run(args, &[]).await;
        assert_eq!(status.code(), Some(2), "{args:?} {output}");
        assert!(output.contains(expected), "{args:?} {output}");
        assert!(!output.contains("s3cret"), "{output}");
    }
    let both = [
        ("EVERLOCK_NODES", "redis://a"),
        ("EVERMIND_BASE_URL", "http://b"),
    ];
    let (status, output) = run(&["acquire", "k"], &both).await;
    assert_eq!(status.code(), Some(2), "{output}");
    assert!(output.contains("EVERMIND_BASE_URL"), "{output}");
}

#[tokio::test]
async fn nobody_at_the_url_is_a_failure_that_says_so() {
    let args = [
        "acquire",
        "k",
        "--base-url",
        "http://127.0.0.1:1",
        "--patience",
        "0s",
    ];
    let (status, output) = run(&args, &[]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(
        output.contains("http://127.0.0.1:1 can't be asked"),
        "{output}"
    );
}

#[tokio::test]
async fn completions_and_manual_pages_know_every_command_but_the_hidden_ones() {
    for shell in ["bash", "zsh", "fish"] {
        let (status, output) = run(&["completions", shell], &[]).await;
        assert!(status.success() && output.contains("kill-after"), "{shell}");
        assert!(!output.contains("lock-stage"), "{shell}");
    }
    let (status, output) = run(&["man"], &[]).await;
    assert!(
        status.success() && output.contains(".TH everlock"),
        "{output}"
    );
    let unique = everlock::OwnerId::fresh();
    let dir = std::env::temp_dir().join(format!("everlock-man-{}", unique.as_str()));
    std::fs::create_dir(&dir).unwrap();
    let (status, output) = run(&["man", "--dir", dir.to_str().unwrap()], &[]).await;
    assert!(status.success(), "{output}");
    for page in ["everlock.1", "everlock-lock.1", "everlock-cluster-init.1"] {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
    assert!(!dir.join("everlock-lock-warden.1").exists());
    std::fs::remove_dir_all(&dir).unwrap();
}
