//! Configurations: read without a panic, within their bounds, or refused with
//! the source of each problem and without a password.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use everlock::config::{MAX_NODE_TIMEOUT, MIN_LEASE, MIN_NODE_TIMEOUT};
use everlock::protocol::{MAX_DRIFT_FACTOR, MAX_MAX_LEASE};

use crate::config::{Listen, Nodes, Problems, SETTINGS, Settings, Sources};

/// Between flags and variables, and the file.
const RULE: &str = "\n---\n";
/// Stands for a password in the input, so that it can be told from all else.
const PASSWORD: &str = "PASSWORD";
const CANARY: &str = "canary-7f3a9";
const SOURCES: [&str; 4] = ["flag --", "variable EVERLOCK_", "file ", "configuration: "];

/// A configuration: lines of `--flag value` and `NAME=value`, then `---` and the file.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if text.contains(CANARY) {
        return;
    }
    let (given, file) = text.split_once(RULE).unwrap_or((&text, ""));
    let (flags, env) = given_by(given);
    let read = || {
        let (flags, env) = (flags.clone(), env.clone());
        read(Sources { flags, env }, file)
    };
    match read() {
        Err(Problems(problems)) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                let named = SOURCES.iter().any(|source| problem.starts_with(source));
                assert!(named, "no source is named: {problem}");
                assert!(!problem.contains(CANARY), "a password: {problem}");
            }
        }
        Ok(settings) => {
            within_bounds(&settings);
            let said = format!("{:?}", settings.shown);
            assert!(!said.contains(CANARY), "a password: {said}");
            // What a flag says does not depend on what a variable says.
            let mut env = env.clone();
            env.retain(|(name, _)| {
                let setting = SETTINGS.iter().find(|setting| setting.env == name);
                !setting.is_some_and(|setting| flags.contains_key(setting.flag))
            });
            let flags = flags.clone();
            let without = self::read(Sources { flags, env }, file);
            let Ok(without) = without else {
                panic!("it was fine with variables that count for nothing");
            };
            assert_eq!(shown(&settings), shown(&without));
        }
    }
}

fn read(sources: Sources, file: &str) -> Result<Settings, Problems> {
    // A file that is missing and one that is no text are tried, too.
    Settings::read_with(sources, &|path: &Path| match path.extension() {
        Some(extension) if extension == "missing" => Err(io::ErrorKind::NotFound.into()),
        Some(extension) if extension == "binary" => Ok(vec![0xff, 0xfe]),
        _ => Ok(file.as_bytes().to_vec()),
    })
}

type Flags = BTreeMap<String, Vec<String>>;

fn given_by(text: &str) -> (Flags, Vec<(String, String)>) {
    let mut flags = Flags::new();
    let mut env = Vec::new();
    for line in text.lines() {
        let (name, value) = match line.strip_prefix("--") {
            Some(flag) => flag.split_once(' ').unwrap_or((flag, "true")),
            None => line.split_once('=').unwrap_or((line, "")),
        };
        let value = match name {
            "node" | "EVERLOCK_NODES" => hidden(value),
            _ => value.to_owned(),
        };
        if line.starts_with("--") {
            flags.entry(name.to_owned()).or_default().push(value);
        } else {
            env.push((name.to_owned(), value));
        }
    }
    (flags, env)
}

fn hidden(url: &str) -> String {
    url.replace(PASSWORD, CANARY)
}

fn within_bounds(settings: &Settings) {
    let limits = &settings.limits;
    let hour = Duration::from_hours(1);
    let loopback = settings.listen.iter().all(Listen::is_local);
    assert!(!settings.listen.is_empty() && settings.socket_mode <= 0o777);
    match &settings.nodes {
        Nodes::Memory => assert!(loopback),
        Nodes::Redis(urls) => {
            assert!(!urls.is_empty());
            let builder = everlock::Redlock::builder().node_urls(urls);
            assert!(builder.node_problems().is_empty());
        }
    }
    let prefix = &settings.global_prefix;
    assert!((1..=64).contains(&prefix.len()) && !prefix.contains([':', '~']));
    assert!((MIN_NODE_TIMEOUT..=MAX_NODE_TIMEOUT).contains(&settings.node_timeout));
    assert!((0.0..=MAX_DRIFT_FACTOR).contains(&settings.drift_factor));
    let max_lease = limits.max_lease.unwrap_or(MIN_LEASE);
    assert!((MIN_LEASE..=MAX_MAX_LEASE).contains(&max_lease));
    assert!(limits.max_wait <= 24 * hour);
    assert!(limits.max_connections >= 1 && limits.max_waiters >= 1);
    assert!((1024..=1024 * 1024).contains(&limits.max_body));
    assert!(limits.drain_delay <= hour / 6);
    for timeout in [
        limits.header_timeout,
        limits.idle_timeout,
        limits.body_timeout,
        limits.drain_timeout,
    ] {
        assert!((hour / 36_000..=hour / 6).contains(&timeout));
    }
}

/// All settings but the warnings, to compare.
fn shown(settings: &Settings) -> String {
    let nodes = match &settings.nodes {
        Nodes::Redis(urls) => urls.join(" "),
        Nodes::Memory => String::new(),
    };
    let Settings {
        listen,
        socket_mode,
        global_prefix,
        allow_eviction,
        node_timeout,
        drift_factor,
        limits,
        threads,
        log_format,
        log_level,
        ..
    } = settings;
    format!(
        "{listen:?} {socket_mode} {nodes} {global_prefix} {allow_eviction} {node_timeout:?} \
         {drift_factor} {limits:?} {threads:?} {log_format:?} {log_level}"
    )
}
