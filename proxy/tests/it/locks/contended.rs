//! Several at one lock: one inside at a time, in order where that was asked for.

use std::time::Duration;

use everlock_testkit::{SETTLED, eventually};

use super::{Bench, MODES, Mode};
use crate::support::{SOON, timed};

/// More than any of these tests takes on a slow machine.
const LONG: Duration = Duration::from_mins(3);

#[tokio::test]
async fn no_two_commands_are_ever_inside_at_once() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        // mkdir is the judge: it fails if somebody else is inside.
        let script = r#"mkdir "$DIR/inside" || { echo two >>"$DIR/verdict"; exit 1; }; sleep 0.02; rmdir "$DIR/inside"; echo one >>"$DIR/verdict""#;
        let flags = ["--retry-delay", "50ms"];
        let mut runs: Vec<_> = (0..25).map(|_| bench.lock(&flags, script)).collect();
        for run in &mut runs {
            let status = run.wait_exit(LONG).await;
            assert_eq!(status.code(), Some(0), "{mode:?} {}", run.output());
        }
        let verdict = std::fs::read_to_string(bench.path("verdict")).unwrap();
        assert_eq!(verdict, "one\n".repeat(25), "{mode:?}");
        assert!(bench.until_free(SETTLED).await, "{mode:?}");
    }
}

#[tokio::test]
async fn a_lock_that_is_held_is_skipped_or_failed_as_asked() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let (code, ..) = bench
            .run(&["acquire", "k", "--uuid", "a", "--lease", "60s"])
            .await;
        assert_eq!(code, Some(0));
        let run = |flags: &'static [&'static str]| {
            let mut process = bench.lock(flags, r#"touch "$DIR/ran""#);
            async move {
                let status = process.wait_exit(SOON).await;
                (status.code(), process.output())
            }
        };
        let (code, output) = run(&["--if-held", "skip"]).await;
        assert_eq!((code, &*output), (Some(0), ""), "{mode:?}: in silence");
        let (code, output) = run(&["--if-held", "fail"]).await;
        assert_eq!(code, Some(75), "{mode:?} {output}");
        assert!(output.contains("held by others"), "{output}");
        let ((code, _), took) = timed(run(&["--wait", "1s"])).await;
        assert_eq!(code, Some(75), "{mode:?}");
        assert!(took >= Duration::from_secs(1), "{mode:?} {took:?}");
        let (code, _) = run(&["--wait", "300ms", "--if-held", "skip"]).await;
        assert_eq!(code, Some(0), "{mode:?}");
        assert!(!bench.path("ran").exists(), "{mode:?}");
    }
}

#[tokio::test]
async fn it_waits_until_the_lock_is_free_unless_told_otherwise() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let (code, ..) = bench
            .run(&["acquire", "k", "--uuid", "a", "--lease", "60s"])
            .await;
        assert_eq!(code, Some(0));
        let mut process = bench.lock(&[], r#"touch "$DIR/ran""#);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!bench.path("ran").exists(), "{mode:?}");
        let (code, ..) = bench.run(&["release", "k", "--uuid", "a"]).await;
        assert_eq!(code, Some(0));
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), Some(0), "{mode:?} {}", process.output());
        assert!(bench.path("ran").exists(), "{mode:?}");
        assert!(
            process.output().is_empty(),
            "no progress where nobody looks"
        );
    }
}

#[tokio::test]
async fn those_who_wait_in_line_come_in_the_order_in_which_they_asked() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let (code, ..) = bench
            .run(&["acquire", "k", "--uuid", "a", "--lease", "60s"])
            .await;
        assert_eq!(code, Some(0));
        let mut waiting = Vec::new();
        for number in 1..=3_usize {
            let script = format!(r#"echo {number} >>"$DIR/order""#);
            waiting.push(bench.lock(&["--fifo"], &script));
            // The next comes when this one stands in line.
            let queue = "Evermind~queue:anonymous:k";
            let stands = eventually(SOON, || {
                let all = bench.nodes.servers().iter();
                let lengths = all.map(|node| node.command(&["ZCARD", queue]));
                let on = lengths
                    .filter(|length| length.contains(&number.to_string()))
                    .count();
                async move { on >= 2 }
            });
            assert!(stands.await, "{mode:?}: {number} stands in line");
        }
        let (code, ..) = bench.run(&["release", "k", "--uuid", "a"]).await;
        assert_eq!(code, Some(0));
        for process in &mut waiting {
            let status = process.wait_exit(SOON).await;
            assert_eq!(status.code(), Some(0), "{mode:?} {}", process.output());
        }
        let order = std::fs::read_to_string(bench.path("order")).unwrap();
        assert_eq!(order, "1\n2\n3\n", "{mode:?}");
    }
}

#[tokio::test]
async fn both_ways_lead_to_the_same_lock() {
    let bench = Bench::start(Mode::Proxy).await;
    let (code, ..) = bench.run(&["acquire", "k", "--lease", "60s"]).await;
    assert_eq!(code, Some(0));
    let urls = bench.nodes.urls();
    let mut args = vec!["acquire", "k", "--wait", "0s"];
    for url in &urls {
        args.extend(["--node", url]);
    }
    let (code, _, err) = bench.run(&args).await;
    assert_eq!(code, Some(75), "{err}");
    args.extend(["--identity", "acme"]);
    let (code, _, err) = bench.run(&args).await;
    assert_eq!(code, Some(0), "another identity's locks are apart: {err}");
}
