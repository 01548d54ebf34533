//! Programs under test: what they print, how they are signalled, how they end.

use std::time::Duration;

use everlock_testkit::{ProcessUnderTest, Signal};

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str, envs: &[(&str, &str)]) -> ProcessUnderTest {
    ProcessUnderTest::spawn("/bin/sh", &["-c", script], envs)
}

#[tokio::test]
async fn output_is_complete_after_the_exit_and_told_apart() {
    let mut program = shell(
        "echo to stdout; echo to stderr >&2; printf unfinished; exit 3",
        &[],
    );
    assert_eq!(program.wait_exit(LONG).await.code(), Some(3));
    assert_eq!(program.stdout(), "to stdout\nunfinished\n");
    assert_eq!(program.stderr(), "to stderr\n");
    assert_eq!(program.output().lines().count(), 3);
}

#[tokio::test]
async fn a_line_that_was_printed_already_is_found() {
    let mut program = shell("echo ready at 7; exec sleep 100", &[]);
    for _ in 0..2 {
        let line = program
            .wait_for_line(|line| line.starts_with("ready"), LONG)
            .await;
        assert_eq!(line, "ready at 7");
    }
}

#[tokio::test]
#[should_panic(expected = "what it said instead")]
async fn a_line_that_cannot_come_any_more_is_not_waited_for() {
    let mut program = shell("echo what it said instead", &[]);
    program
        .wait_for_line(|line| line == "ready", Duration::from_hours(1))
        .await;
}

#[tokio::test]
#[should_panic(expected = "still running")]
async fn an_exit_that_does_not_come_fails_the_test() {
    shell("exec sleep 100", &[])
        .wait_exit(Duration::from_millis(50))
        .await;
}

#[tokio::test]
async fn a_signal_reaches_the_program() {
    let mut program = shell(
        "trap 'echo drains; exit 0' TERM; echo ready; while :; do sleep 0.01; done",
        &[],
    );
    program.wait_for_line(|line| line == "ready", LONG).await;
    program.signal(Signal::TERM);
    assert!(program.wait_exit(LONG).await.success());
    assert_eq!(program.stdout(), "ready\ndrains\n");
    program.signal(Signal::TERM);
}

#[tokio::test]
async fn the_environment_is_what_the_test_says() {
    let mut program = shell("env | grep EVERLOCK_", &[("EVERLOCK_NODES", "a,b")]);
    program.wait_exit(LONG).await;
    assert_eq!(program.stdout(), "EVERLOCK_NODES=a,b\n");
}

#[tokio::test]
async fn a_dropped_program_is_killed() {
    let program = shell("exec sleep 100", &[]);
    let proc = format!("/proc/{}", program.pid());
    assert!(std::path::Path::new(&proc).exists());
    drop(program);
    assert!(!std::path::Path::new(&proc).exists());
}
