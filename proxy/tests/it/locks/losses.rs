//! A lock that is lost while the command runs: TERM, KILL, and both in time.

use std::time::Duration;

use everlock_testkit::{ProcessUnderTest, Signal};
use rustix::process::{Pid, kill_process};

use super::{Bench, MODES, Mode, runs, until_gone};
use crate::support::{SOON, timed};

const LOST: Option<i32> = Some(76);

/// Notes TERM and goes on.
const STUBBORN: &str = r#"trap 'touch "$DIR/term"' TERM; echo $$ >"$DIR/pid.tmp"; mv "$DIR/pid.tmp" "$DIR/pid"; while :; do sleep 0.05; done"#;

async fn stubborn(bench: &Bench, flags: &[&str]) -> (ProcessUnderTest, String) {
    let process = bench.lock(flags, STUBBORN);
    bench.until_exists("pid").await;
    let pid = std::fs::read_to_string(bench.path("pid")).unwrap();
    (process, pid)
}

#[tokio::test]
async fn a_command_that_ignores_term_is_killed_when_the_nodes_are_gone() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let flags = ["--lease", "4s", "--kill-after", "1s"];
        let (mut process, pid) = stubborn(&bench, &flags).await;
        for node in 0..3 {
            bench.nodes.pause(node);
        }
        let (status, took) = timed(process.wait_exit(SOON)).await;
        assert_eq!(status.code(), LOST, "{mode:?} {}", process.output());
        assert!(bench.path("term").exists(), "{mode:?}: TERM came first");
        assert!(!runs(&pid), "{mode:?}");
        let said = process.stderr();
        assert!(
            said.contains("the lock is lost: it can't be renewed"),
            "{said}"
        );
        // One lease, and what a release takes that nobody answers.
        assert!(took < Duration::from_secs(15), "{mode:?} {took:?}");
    }
}

#[tokio::test]
async fn a_command_that_heeds_term_is_over_before_the_nodes_let_go_of_the_lock() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let script = r#"echo $$ >"$DIR/pid.tmp"; mv "$DIR/pid.tmp" "$DIR/pid"; exec sleep 300"#;
        let mut process = bench.lock(&["--lease", "12s", "--kill-after", "5s"], script);
        bench.until_exists("pid").await;
        let pid = std::fs::read_to_string(bench.path("pid")).unwrap();
        let left = bench.nodes[1].ttl_ms("Evermind:anonymous:k");
        bench.nodes.pause(1);
        bench.nodes.pause(2);
        let (gone, took) = timed(until_gone(&pid, SOON)).await;
        assert!(gone, "{mode:?}");
        // Nobody else could have had it: the nodes that were paused held it still.
        let left = Duration::from_millis(u64::try_from(left).unwrap());
        assert!(took < left, "{mode:?}: {took:?} of {left:?}");
        bench.nodes.resume(1);
        bench.nodes.resume(2);
        assert_eq!(process.wait_exit(SOON).await.code(), LOST, "{mode:?}");
    }
}

#[tokio::test]
async fn a_command_whose_lock_was_deleted_behind_its_back_is_ended() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let flags = ["--lease", "6s", "--kill-after", "1s"];
        let (mut process, pid) = stubborn(&bench, &flags).await;
        for node in bench.nodes.servers() {
            node.command(&["DEL", "Evermind:anonymous:k"]);
        }
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), LOST, "{mode:?} {}", process.output());
        assert!(bench.path("term").exists(), "{mode:?}");
        assert!(!runs(&pid), "{mode:?}");
        let said = process.stderr();
        assert!(said.contains("it is not held any more"), "{said}");
    }
}

#[tokio::test]
async fn a_minority_that_is_gone_is_no_loss() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let script = r#"touch "$DIR/in"; sleep 4; echo done"#;
        let mut process = bench.lock(&["--lease", "2s"], script);
        bench.until_exists("in").await;
        bench.nodes.pause(2);
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), Some(0), "{mode:?} {}", process.output());
    }
}

#[tokio::test]
async fn one_that_heeds_term_has_its_grace() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let script =
            r#"trap 'echo tidied; exit 9' TERM; touch "$DIR/in"; while :; do sleep 0.05; done"#;
        let mut process = bench.lock(&["--lease", "4s", "--kill-after", "2s"], script);
        bench.until_exists("in").await;
        for node in 0..3 {
            bench.nodes.pause(node);
        }
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), LOST, "{mode:?}: not the command's own code");
        assert_eq!(process.stdout(), "tidied\n", "{mode:?}");
    }
}

#[tokio::test]
async fn the_rest_of_the_group_is_ended_with_its_leader() {
    let bench = Bench::start(Mode::Nodes).await;
    // The leader dies of TERM, its child in the background does not.
    let script = r#"(trap "" TERM; sh -c 'echo $PPID' >"$DIR/back.tmp"; mv "$DIR/back.tmp" "$DIR/back"; while :; do sleep 0.05; done) & wait"#;
    let mut process = bench.lock(&["--lease", "4s", "--kill-after", "1s"], script);
    bench.until_exists("back").await;
    let back = std::fs::read_to_string(bench.path("back")).unwrap();
    for node in 0..3 {
        bench.nodes.pause(node);
    }
    assert_eq!(process.wait_exit(SOON).await.code(), LOST);
    assert!(!runs(&back), "{}", process.output());
}

#[tokio::test]
async fn everlock_that_is_stopped_past_the_validity_has_its_command_ended_meanwhile() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let flags = ["--lease", "3s", "--kill-after", "1s"];
        let (mut process, pid) = stubborn(&bench, &flags).await;
        process.signal(Signal::STOP);
        assert!(until_gone(&pid, SOON).await, "{mode:?}: the warden ends it");
        process.signal(Signal::CONT);
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), LOST, "{mode:?} {}", process.output());
    }
}

#[tokio::test]
async fn everlock_and_its_warden_stopped_past_the_validity_notice_at_once() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let flags = ["--lease", "2s", "--kill-after", "1s"];
        let (mut process, pid) = stubborn(&bench, &flags).await;
        // As if the machine had slept: nothing of ours runs, and the command neither.
        let all: Vec<_> = children(process.pid());
        let all: Vec<_> = all.iter().chain([&process.pid()]).copied().collect();
        let tell = |signal| {
            for pid in &all {
                let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw).unwrap();
                kill_process(pid, signal).unwrap();
            }
        };
        tell(Signal::STOP);
        let free = bench.until_free(SOON).await;
        assert!(free, "{mode:?}: the lease ends");
        tell(Signal::CONT);
        let status = process.wait_exit(SOON).await;
        assert_eq!(status.code(), LOST, "{mode:?} {}", process.output());
        assert!(!runs(&pid), "{mode:?}");
    }
}

/// The processes whose parent this is.
fn children(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if rest.split_whitespace().nth(1) == Some(&parent.to_string()) {
            found.push(pid);
        }
    }
    assert!(found.len() >= 2, "the command and the warden");
    found
}
