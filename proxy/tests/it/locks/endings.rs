//! How a command that keeps its lock ends, and what of it is passed on.

use std::time::Duration;

use everlock_testkit::{SETTLED, Signal, eventually};

use super::{Bench, MODES, Mode, runs, until_gone};
use crate::support::SOON;

#[tokio::test]
async fn the_command_runs_under_its_lock_and_its_exit_code_is_passed_on() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let script = r#"echo "$EVERLOCK_KEY $EVERLOCK_UUID $EVERLOCK_TOKEN"; echo no >&2; exit 7"#;
        let mut process = bench.lock(&[], script);
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), Some(7), "{mode:?} {}", process.output());
        let out = process.stdout();
        let words: Vec<_> = out.split_whitespace().collect();
        assert_eq!(words.len(), 3, "{out}");
        assert_eq!(words[0], "k");
        assert_eq!(words[1].len(), 36);
        assert!(words[2].parse::<u64>().unwrap() > 0);
        assert_eq!(process.stderr(), "no\n", "nothing of our own");
        assert!(bench.until_free(SETTLED).await, "{mode:?}: it is released");
    }
}

#[tokio::test]
async fn the_lock_is_held_while_the_command_runs_and_renewed() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let script = r#"touch "$DIR/in"; sleep 4; echo done"#;
        let mut process = bench.lock(&["--lease", "1500ms"], script);
        bench.until_exists("in").await;
        let (code, ..) = bench.run(&["acquire", "k", "--wait", "2500ms"]).await;
        assert_eq!(
            code,
            Some(75),
            "{mode:?}: nobody else has it beyond the lease"
        );
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), Some(0), "{mode:?} {}", process.output());
        assert_eq!(process.stdout(), "done\n");
    }
}

#[tokio::test]
async fn a_script_may_extend_and_release_its_own_lock_by_the_variables() {
    let bench = Bench::start(Mode::Nodes).await;
    let binary = crate::support::BINARY;
    let script = format!(r#"{binary} extend "$EVERLOCK_KEY" --by 1s"#);
    let mut process = bench.lock(&[], &script);
    let status = process.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", process.output());
    assert!(process.stdout().starts_with("extended: valid for"));
}

#[tokio::test]
async fn there_is_no_such_command_as_shells_say_it() {
    let bench = Bench::start(Mode::Nodes).await;
    let (code, _, err) = bench.run(&["lock", "k", "--", "/nonexistent/x"]).await;
    assert_eq!(code, Some(127), "{err}");
    assert!(err.contains("/nonexistent/x"), "{err}");
    let (code, ..) = bench.run(&["lock", "k", "--", "/"]).await;
    assert_eq!(code, Some(126));
    assert!(bench.until_free(SETTLED).await);
    let (code, out, _) = bench.run(&["lock", "k", "echo", "-n", "--", "a"]).await;
    assert_eq!(
        (code, &*out),
        (Some(0), "-- a\n"),
        "the command's own flags are its own"
    );
}

#[tokio::test]
async fn signals_are_handed_on_and_the_commands_death_is_told() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        for (signal, name, code) in [
            (Signal::TERM, "TERM", 31),
            (Signal::HUP, "HUP", 32),
            (Signal::INT, "INT", 33),
            (Signal::QUIT, "QUIT", 34),
            (Signal::USR1, "USR1", 35),
            (Signal::USR2, "USR2", 36),
        ] {
            let marker = format!("in-{name}");
            let script = format!(
                r#"trap "exit {code}" {name}; touch "$DIR/{marker}"; while :; do sleep 0.05; done"#
            );
            let mut process = bench.lock(&[], &script);
            bench.until_exists(&marker).await;
            process.signal(signal);
            let status = process.wait_exit(SOON).await;
            assert_eq!(
                status.code(),
                Some(code),
                "{mode:?} {name} {}",
                process.output()
            );
            assert!(bench.until_free(SETTLED).await, "{mode:?} {name}");
        }
    }
}

#[tokio::test]
async fn a_command_that_a_signal_ended_is_told_as_shells_tell_it() {
    let bench = Bench::start(Mode::Nodes).await;
    // Seen through a shell, which says 128 and the number for both kinds.
    for (signal, code) in [("TERM", 143), ("INT", 130), ("KILL", 137), ("ABRT", 134)] {
        let env = bench.env();
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, &**value)).collect();
        let line = format!(
            "{} lock k -- sh -c 'kill -{signal} $$'; echo code $?",
            crate::support::BINARY
        );
        let mut shell = everlock_testkit::ProcessUnderTest::spawn("sh", &["-c", &line], &env);
        shell.wait_exit(SOON).await;
        assert!(
            shell.stdout().contains(&format!("code {code}")),
            "{signal}: {}",
            shell.output()
        );
    }
    assert!(bench.until_free(SETTLED).await);
}

#[tokio::test]
async fn a_signal_while_it_waits_leaves_nothing_and_runs_nothing() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let (code, ..) = bench
            .run(&["acquire", "k", "--uuid", "a", "--lease", "60s"])
            .await;
        assert_eq!(code, Some(0));
        for flags in [&[][..], &["--fifo"]] {
            let mut process = bench.lock(flags, r#"touch "$DIR/ran""#);
            tokio::time::sleep(Duration::from_millis(600)).await;
            process.signal(Signal::TERM);
            let status = process.wait_exit(SOON).await;
            assert_eq!(status.code(), None, "{mode:?}: it died of the signal");
            assert!(process.output().is_empty(), "{}", process.output());
        }
        let (code, ..) = bench.run(&["release", "k", "--uuid", "a"]).await;
        assert_eq!(code, Some(0));
        assert!(bench.until_free(SETTLED).await, "{mode:?}");
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(bench.held_on(), 0, "{mode:?}: nobody comes later");
        assert!(!bench.path("ran").exists());
    }
}

#[tokio::test]
async fn a_kill_of_everlock_ends_the_whole_command_and_the_lock_expires() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        // The shell and its child ignore TERM; one more is in the background.
        let script = r#"trap "" TERM; echo $$ >"$DIR/shell"; sleep 300 & echo $! >"$DIR/back.tmp"; mv "$DIR/back.tmp" "$DIR/back"; while :; do sleep 0.1; done"#;
        let mut process = bench.lock(&["--lease", "3s", "--kill-after", "1s"], script);
        bench.until_exists("back").await;
        let shell = std::fs::read_to_string(bench.path("shell")).unwrap();
        let back = std::fs::read_to_string(bench.path("back")).unwrap();
        process.signal(Signal::KILL);
        process.wait_exit(SOON).await;
        assert!(bench.held_on() >= 2, "{mode:?}: nobody could release it");
        // Both are gone before the lock is.
        let ended = eventually(SOON, || {
            let ended = !runs(&shell) && !runs(&back);
            async move { ended }
        });
        assert!(ended.await, "{mode:?}");
        assert!(
            bench.held_on() >= 2,
            "{mode:?}: the command ended before the lock did"
        );
        assert!(bench.until_free(SETTLED).await, "{mode:?}");
    }
}

#[tokio::test]
async fn a_panic_ends_the_command_and_releases_the_lock() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let script = r#"trap "" TERM; echo $$ >"$DIR/pid.tmp"; mv "$DIR/pid.tmp" "$DIR/pid"; while :; do sleep 0.05; done"#;
        let mut process = bench.lock(&["--lease", "60s", "--kill-after", "1s"], script);
        bench.until_exists("pid").await;
        let pid = std::fs::read_to_string(bench.path("pid")).unwrap();
        std::fs::write(bench.path("panic"), "").unwrap();
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), Some(1), "{mode:?} {}", process.output());
        assert!(
            process.stderr().contains("panicked"),
            "{}",
            process.stderr()
        );
        assert!(!runs(&pid), "{mode:?}");
        assert!(
            bench.until_free(SETTLED).await,
            "{mode:?}: long before its lease ends"
        );
    }
}

#[tokio::test]
async fn what_the_command_left_in_the_background_holds_up_nobody() {
    let bench = Bench::start(Mode::Nodes).await;
    // It keeps the pipe of our output open, too.
    let script = r#"sleep 30 & echo $! >"$DIR/back.tmp"; mv "$DIR/back.tmp" "$DIR/back""#;
    let mut process = bench.lock(&[], script);
    bench.until_exists("back").await;
    let status = process.wait_exit(SETTLED).await;
    assert!(status.success());
    assert!(bench.until_free(SETTLED).await);
    let back = std::fs::read_to_string(bench.path("back")).unwrap();
    assert!(runs(&back), "it is not ended");
    let pid = back
        .trim()
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.unwrap(), Signal::KILL).unwrap();
    assert!(until_gone(&back, SOON).await);
}
