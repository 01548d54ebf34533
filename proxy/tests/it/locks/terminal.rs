//! At a terminal: keys, job control, size and hang-up, as a command has them that runs by itself.

use std::time::Duration;

use everlock_testkit::{SETTLED, Terminal};

use super::{Bench, MODES, Mode, runs, until_gone};
use crate::support::{BINARY, SOON};

/// A shell with job control, at a terminal of its own, in which `everlock` and `$DIR` are known.
async fn shell(bench: &Bench) -> Terminal {
    let bin = std::path::Path::new(BINARY).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let dir = bench
        .path("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let mut env: Vec<(&str, &str)> = vec![
        ("PATH", &path),
        ("PS1", "ready> "),
        ("TERM", "xterm"),
        ("DIR", &dir),
        ("HISTFILE", ""),
    ];
    let more = bench.env();
    env.extend(more.iter().map(|(name, value)| (*name, &**value)));
    let terminal = Terminal::start("bash", &["--norc", "--noprofile", "-i"], &env);
    terminal.until_shown("ready> ", SOON).await;
    terminal
}

#[tokio::test]
async fn ctrl_c_reaches_the_command_and_the_lock_is_released() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let mut terminal = shell(&bench).await;
        terminal
            .type_keys("everlock lock k -- sh -c 'touch $DIR/in; exec sleep 300'; echo code=$?\r");
        bench.until_exists("in").await;
        terminal.type_keys("\x03");
        // An interactive shell forgets the rest of a line whose command was interrupted.
        terminal.type_keys("echo after=$?\r");
        terminal.until_shown("after=130", SOON).await;
        assert!(bench.until_free(SETTLED).await, "{mode:?}");
    }
}

#[tokio::test]
async fn a_command_that_heeds_ctrl_c_in_its_own_way_is_left_to_it() {
    let bench = Bench::start(Mode::Nodes).await;
    let mut terminal = shell(&bench).await;
    terminal.type_keys(
        "everlock lock k -- sh -c 'trap \"echo caught; exit 5\" INT; touch $DIR/in; while :; do sleep 0.05; done'; echo code=$?\r",
    );
    bench.until_exists("in").await;
    terminal.type_keys("\x03");
    terminal.until_shown("code=5", SOON).await;
    assert_eq!(
        terminal.shown().matches("caught\r\n").count(),
        1,
        "once: {}",
        terminal.shown()
    );
    assert!(bench.until_free(SETTLED).await);
}

#[tokio::test]
async fn ctrl_z_stops_it_and_fg_lets_it_go_on() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let mut terminal = shell(&bench).await;
        // It reads from the terminal: it must have it, before and after.
        terminal.type_keys(
            "everlock lock k --lease 60s -- sh -c 'touch $DIR/in; read line; echo got=$line'; echo code=$?\r",
        );
        bench.until_exists("in").await;
        terminal.type_keys("\x1a");
        terminal.until_shown("Stopped", SOON).await;
        terminal.type_keys("echo shell=$((6*7))\r");
        terminal.until_shown("shell=42", SOON).await;
        assert!(
            bench.held_on() >= 2,
            "{mode:?}: it is held while it is stopped"
        );
        terminal.type_keys("fg\r");
        tokio::time::sleep(Duration::from_millis(500)).await;
        terminal.type_keys("hello\r");
        terminal.until_shown("got=hello", SOON).await;
        assert!(bench.until_free(SETTLED).await, "{mode:?}");
        terminal.type_keys("exit\r");
        terminal.wait_exit(SOON).await;
    }
}

#[tokio::test]
async fn a_command_that_was_stopped_past_its_lock_never_goes_on() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let mut terminal = shell(&bench).await;
        terminal.type_keys(
            "everlock lock k --lease 3s --kill-after 1s -- bash -c 'echo $$ >$DIR/pid; while :; do echo $((++i)) >$DIR/last; done'\r",
        );
        bench.until_exists("last").await;
        terminal.type_keys("\x1a");
        terminal.until_shown("Stopped", SOON).await;
        let stopped = std::fs::read(bench.path("last")).unwrap();
        assert!(bench.until_free(SOON).await, "{mode:?}: the lease ends");
        terminal.type_keys("fg; echo code=$?\r");
        terminal.until_shown("code=76", SOON).await;
        let last = std::fs::read(bench.path("last")).unwrap();
        assert_eq!(last, stopped, "{mode:?}: not one step more");
        let pid = std::fs::read_to_string(bench.path("pid")).unwrap();
        assert!(!runs(&pid), "{mode:?}");
    }
}

#[tokio::test]
async fn a_hang_up_ends_the_command_and_releases_the_lock() {
    for mode in MODES {
        let bench = Bench::start(mode).await;
        let mut terminal = shell(&bench).await;
        terminal.type_keys(
            "everlock lock k --lease 60s -- sh -c 'echo $$ >$DIR/pid; touch $DIR/in; exec sleep 300'\r",
        );
        bench.until_exists("in").await;
        let pid = std::fs::read_to_string(bench.path("pid")).unwrap();
        terminal.hang_up();
        assert!(until_gone(&pid, SOON).await, "{mode:?}");
        assert!(
            bench.until_free(SETTLED).await,
            "{mode:?}: long before its lease ends"
        );
    }
}

#[tokio::test]
async fn the_command_hears_of_a_new_size() {
    let bench = Bench::start(Mode::Nodes).await;
    let mut terminal = shell(&bench).await;
    terminal.resize(20, 60);
    terminal.type_keys(
        "everlock lock k -- bash -c 'trap \"echo size=\\$(stty size)\" WINCH; touch $DIR/in; while :; do sleep 0.05; done'\r",
    );
    bench.until_exists("in").await;
    terminal.resize(33, 111);
    // Not the echo of what was typed, which has no figures.
    terminal.until_shown("size=33 111", SOON).await;
    terminal.type_keys("\x03");
    assert!(bench.until_free(SETTLED).await);
}

#[tokio::test]
async fn in_a_pipeline_the_others_keep_the_terminal_until_the_command_asks_for_it() {
    let bench = Bench::start(Mode::Nodes).await;
    let mut terminal = shell(&bench).await;
    terminal.type_keys(
        "everlock lock k -- sh -c 'read line </dev/tty; echo got=$line' | cat; echo over\r",
    );
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    terminal.type_keys("hello\r");
    terminal.until_shown("got=hello", SOON).await;
    terminal.until_shown("\nover", SOON).await;
    terminal.type_keys("everlock lock k -- sh -c 'touch $DIR/in; exec sleep 300' | cat\r");
    bench.until_exists("in").await;
    terminal.type_keys("\x03");
    assert!(bench.until_free(SETTLED).await);
    terminal.type_keys("echo still=$((6*7))\r");
    terminal.until_shown("still=42", SOON).await;
}

#[tokio::test]
async fn in_a_script_ctrl_c_ends_the_script_too() {
    let bench = Bench::start(Mode::Nodes).await;
    let script = "everlock lock k -- sh -c 'touch $DIR/in; exec sleep 300'\ntouch $DIR/went-on\n";
    std::fs::write(bench.path("script"), script).unwrap();
    let mut terminal = shell(&bench).await;
    terminal.type_keys("bash $DIR/script\r");
    bench.until_exists("in").await;
    terminal.type_keys("\x03");
    assert!(bench.until_free(SETTLED).await);
    terminal.type_keys("echo still=$((6*7))\r");
    terminal.until_shown("still=42", SOON).await;
    assert!(!bench.path("went-on").exists(), "{}", terminal.shown());
}

#[tokio::test]
async fn who_waits_at_a_terminal_sees_it_and_leaves_no_trace() {
    let bench = Bench::start(Mode::Nodes).await;
    let (code, ..) = bench
        .run(&["acquire", "k", "--uuid", "a", "--lease", "60s"])
        .await;
    assert_eq!(code, Some(0));
    let mut terminal = shell(&bench).await;
    terminal.type_keys("everlock lock k --wait 3s -- true; echo code=$?\r");
    terminal
        .until_shown("everlock: waiting for \"k\", ", SOON)
        .await;
    terminal.until_shown("code=75", SOON).await;
    let shown = terminal.shown();
    assert!(shown.contains("\x1b[2meverlock"), "in colour: {shown:?}");
    let before = shown.split("everlock: the lock is held").next().unwrap();
    assert!(
        before.ends_with("\r\x1b[K"),
        "the line is cleared: {shown:?}"
    );

    let mut terminal = shell(&bench).await;
    terminal.type_keys("NO_COLOR=1 everlock lock k --wait 3s -- true; echo code=$?\r");
    terminal.until_shown("everlock: waiting for", SOON).await;
    terminal.until_shown("code=75", SOON).await;
    assert!(
        !terminal.shown().contains("\x1b[2m"),
        "{:?}",
        terminal.shown()
    );
}
