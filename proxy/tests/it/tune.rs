//! Hazard: advice that can't be had where it is needed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::BINARY;

fn samples() -> Value {
    json!({
        "windowMs": 3_600_000, "keys": 1, "heldMs": 600_000, "busiestHeldMs": 600_000,
        "holds": [[300, 1_200], [800, 100]],
        "acquired": 1_300, "contended": 20, "attempts": 9_000,
        "waits": [[200, 600], [1_500, 100]], "gaveUp": [[5_000, 20]],
        "timeToFree": [[150, 500], [600, 200]], "mostWaiters": 4,
        "settings": [{"leaseMs": 60_000, "delayMs": 20, "jitterMs": 0, "retries": 250, "count": 1_320}],
        "roundTripP99Ms": 3, "driftPpm": 10_000, "driftMarginMs": 2
    })
}

/// Runs `everlock tune` with this on its standard input.
fn tune(args: &[&str], input: &str) -> (bool, String, String) {
    let mut child = Command::new(BINARY)
        .arg("tune")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that does not read may be gone.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn samples_on_standard_input_are_advised_on_in_words() {
    let (done, text, _) = tune(&["-"], &samples().to_string());
    assert!(done);
    for part in [
        "1320 acquires and 1300 holds in 60 min",
        "busiest lock held 17 %",
        "6.8 attempts an acquire",
        "A lease of",
        "A delay of",
        "advised",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn the_json_has_the_samples_and_the_advice_and_is_read_again() {
    let (done, json, _) = tune(&["-", "--json"], &samples().to_string());
    assert!(done);
    let report: Value = serde_json::from_str(&json).unwrap();
    let advice = &report["groups"][0]["advice"];
    assert!(advice["lease"]["advisedMs"].as_u64().unwrap() >= 1_200);
    assert!(advice["polling"]["advised"]["delayMs"].as_u64().unwrap() > 20);
    assert_eq!(report["groups"][0]["samples"]["acquired"], 1_300);
    let (done, again, _) = tune(&["-", "--json"], &json);
    assert!(done);
    assert_eq!(again, json);
}

#[test]
fn what_is_wanted_changes_the_advice() {
    let retries = |failure: &str| {
        let (_, json, _) = tune(
            &["-", "--json", "--failure", failure],
            &samples().to_string(),
        );
        let report: Value = serde_json::from_str(&json).unwrap();
        let polling = &report["groups"][0]["advice"]["polling"];
        polling["advised"]["retries"].as_u64().unwrap()
    };
    assert!(retries("0.01%") > retries("5%"));
    let (_, text, _) = tune(&["-", "--timeout", "1s"], &samples().to_string());
    assert!(text.contains("cut off after 1 s"), "{text}");
}

#[test]
fn what_is_no_input_is_said_so() {
    let (done, _, complaint) = tune(&["-"], "{\"holds\": 3}");
    assert!(
        !done && complaint.contains("holds no insights"),
        "{complaint}"
    );
    let (done, _, complaint) = tune(&["/nowhere"], "");
    assert!(
        !done && complaint.contains("/nowhere can't be read"),
        "{complaint}"
    );
    let (done, _, complaint) = tune(&["--url", "http://127.0.0.1:1"], "");
    assert!(!done && complaint.contains("can't be asked"), "{complaint}");
    let (done, _, complaint) = tune(&["-", "--failure", "2"], "{}");
    assert!(
        !done && complaint.contains("between 0 and 1"),
        "{complaint}"
    );
}
