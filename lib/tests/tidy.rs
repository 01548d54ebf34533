//! Hazard: layers that leak, files that grow, promises that were put off.
//!
//! Style as an ordinary test: what the architecture says is absent is absent.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::fs;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 400;

/// All files below a folder of the crate with this extension, with their text.
fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder}");
    found
}

/// The text without comments and without its tests.
fn code(text: &str) -> String {
    let own = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = own.lines().map(|line| match line.find("//") {
        Some(comment) => &line[..comment],
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is(path: &Path, one_of: &[&str]) -> bool {
    one_of.iter().any(|name| path.ends_with(name))
}

/// Every file of `folder` whose code has one of these words, but for the excepted ones.
#[track_caller]
fn absent(folder: &str, words: &[&str], excepted: &[&str]) {
    let mut found = Vec::new();
    for (path, text) in files(folder, "rs") {
        let code = code(&text);
        for word in words.iter().filter(|word| code.contains(**word)) {
            if !is(&path, excepted) {
                found.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_core_knows_nobody() {
    let outside = [
        "tokio",
        "redis::",
        "deadpool",
        "rustix",
        "rand::",
        "futures",
        "uuid",
        "crate::node",
        "crate::redlock",
        "crate::clock",
        "crate::entropy",
        "crate::config",
        "crate::error",
        "crate::cluster",
        "crate::observer",
        "Instant",
        "SystemTime",
        "async ",
        "std::env",
        "std::net",
        "std::fs",
        "std::thread",
    ];
    absent("src/core", &outside, &[]);
}

#[test]
fn only_the_redis_node_and_the_handing_in_of_pools_know_redis() {
    let words = ["redis::", "deadpool_redis"];
    let own = |path: &Path| {
        let path = path.to_string_lossy().into_owned();
        path.starts_with("src/node/redis") || path == "src/redlock/builder.rs"
    };
    for (path, text) in files("src", "rs") {
        // Our own module of that name is no import of the crate's.
        let code = code(&text).replace("node::redis::", "");
        let knows = words.iter().any(|word| code.contains(word));
        assert!(!knows || own(&path), "{}", path.display());
    }
}

#[test]
fn nodes_know_nothing_of_the_quorum_client() {
    // The suite of rules makes its Redis nodes as clients do.
    absent("src/node", &["crate::redlock"], &["conformance.rs"]);
}

#[test]
fn only_one_file_reads_clocks_and_one_draws_randomness() {
    let clocks = ["Instant::now", "SystemTime", "clock_gettime", "elapsed()"];
    // The contract's suite runs by the test's time.
    absent("src", &clocks, &["clock.rs", "lease/contract.rs"]);
    absent(
        "src",
        &["rand::", "getrandom", "now_v7", "new_v4"],
        &["entropy.rs"],
    );
}

#[test]
fn nothing_is_put_off_and_no_test_is_skipped() {
    let words = ["todo!", "unimplemented!", "FIXME", "XXX", "dbg!("];
    absent("src", &words, &[]);
    // In two halves, so that this file does not find itself.
    let skipped = concat!("#[ig", "nore");
    for folder in ["src", "tests"] {
        for (path, text) in files(folder, "rs") {
            assert!(!text.contains(skipped), "{}", path.display());
        }
    }
}

#[test]
fn files_stay_small_enough_to_read() {
    let mut long = Vec::new();
    for (path, text) in files("src", "rs") {
        let lines = text.lines().count();
        if lines > MOST_LINES {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "more than {MOST_LINES}: {long:?}");
}

#[test]
fn every_file_says_at_its_head_what_it_is_for() {
    for folder in ["src", "tests"] {
        for (path, text) in files(folder, "rs") {
            let told = text.starts_with("//! ") || text.starts_with("#![doc = include_str!");
            assert!(told, "{}", path.display());
        }
    }
    for (path, text) in files("src", "lua") {
        assert!(text.starts_with("-- "), "{}", path.display());
    }
}

#[test]
fn leases_know_nothing_of_redis_and_only_one_of_them_knows_the_quorum_client() {
    let quorum = ["crate::redlock", "crate::node", "crate::cluster"];
    absent("src/lease", &quorum, &["lease/redlock.rs"]);
    absent(
        "src",
        &["kube::", "k8s_openapi"],
        &["lease/kubernetes.rs", "kubernetes/record.rs"],
    );
}

#[test]
fn every_rule_of_the_suites_is_run() {
    assert!(rules_in("src/node/conformance") > 50);
    assert!(rules_in("src/lease/contract") > 40);
}

/// How many rules a suite has, all of which are in its list.
fn rules_in(folder: &str) -> usize {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{folder}.rs"));
    let suite = fs::read_to_string(suite).unwrap();
    let mut rules = 0;
    for (path, text) in files(folder, "rs") {
        let group = path.file_stem().unwrap().to_str().unwrap();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("pub async fn ") else {
                continue;
            };
            let rule = format!("{group}::{}\n", rest.split('(').next().unwrap());
            assert!(suite.contains(&rule), "{rule} is not in the suite's list");
            rules += 1;
        }
    }
    rules
}
