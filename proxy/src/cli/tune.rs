//! `everlock tune`: what would serve the locks better, from what a proxy saw of them.
//!
//! It reads `/insights` of a running proxy's admin listener, or the same JSON from a file or from
//! standard input, and makes the advice anew for what is wanted here. It changes nothing.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args};
use hyper::{Method, StatusCode};

use super::{failed, misconfigured, parsed};
use crate::advisor::{DEFAULT_FAILURE, Group, PollingAdvice, Report, Setting, Wanted, Weight};
use crate::advisor::{millis, shown};
use crate::config::{ADMIN_TOKEN_ENV, given_secret};
use crate::identity::Https;

/// A proxy that has it at hand answers at once.
const DEADLINE: Duration = Duration::from_secs(10);
/// Samples of all groups have some hundred kilobytes.
const MAX_INPUT: usize = 16 * 1024 * 1024;
const PATH: &str = "/insights";

#[derive(Args)]
pub(super) struct TuneArgs {
    /// JSON as /insights has it, or the samples of one group alone; - for standard input
    #[arg(value_name = "FILE", conflicts_with = "url")]
    file: Option<String>,
    /// The admin listener of a running proxy
    #[arg(
        long,
        value_name = "URL",
        env = "EVERLOCK_ADMIN_URL",
        default_value = "http://127.0.0.1:9090"
    )]
    url: String,
    /// The token that the admin listener demands, or give it in `EVERLOCK_ADMIN_TOKEN`
    #[arg(long, value_name = "FILE", env = "EVERLOCK_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<String>,
    /// Only groups whose name or identity has this in it
    #[arg(long, value_name = "TEXT")]
    group: Option<String>,
    /// The share of acquires that may give up since others hold the lock
    #[arg(long, value_name = "SHARE", value_parser = share, default_value_t = DEFAULT_FAILURE)]
    failure: f64,
    /// How long callers may wait at most: the timeout of their function or balancer
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Write JSON
    #[arg(long, env = "EVERLOCK_JSON")]
    json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse::<f64>(),
    };
    match share {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("it takes a number between 0 and 1, or a percentage such as 0.1%".to_owned()),
    }
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let args: TuneArgs = parsed(matches);
    let wanted = Wanted {
        failure: args.failure,
        timeout_ms: args.timeout.map(millis),
    };
    let Some(file) = &args.file else {
        return fetch(&args, &wanted);
    };
    match read(file) {
        Ok(json) => tell(&args, &json, &wanted, file),
        Err(error) => failed(&format!("{file} can't be read: {error}")),
    }
}

fn read(file: &str) -> std::io::Result<Vec<u8>> {
    let mut json = Vec::new();
    let most = MAX_INPUT as u64;
    if file == "-" {
        std::io::stdin().take(most).read_to_end(&mut json)?;
    } else {
        std::fs::File::open(file)?
            .take(most)
            .read_to_end(&mut json)?;
    }
    Ok(json)
}

fn fetch(args: &TuneArgs, wanted: &Wanted) -> ExitCode {
    let url = args.url.trim_end_matches('/');
    let url = url.strip_suffix(PATH).unwrap_or(url);
    let https = match Https::new(url, None, DEADLINE) {
        Ok(https) => https.taking(MAX_INPUT),
        Err(problem) => return misconfigured(&[format!("--url: {problem}")]),
    };
    let token = match token(args.admin_token_file.as_deref()) {
        Ok(token) => token,
        Err(problem) => return misconfigured(&[problem]),
    };
    super::on_runtime(async {
        match https.ask(Method::GET, PATH, token.as_deref(), None).await {
            Ok(fetched) if fetched.status.is_success() => tell(args, &fetched.body, wanted, url),
            Ok(fetched) if fetched.status == StatusCode::UNAUTHORIZED => failed(&format!(
                "{url} demands the admin token: --admin-token-file or EVERLOCK_ADMIN_TOKEN"
            )),
            Ok(fetched) => failed(&format!(
                "{url}{PATH} answers {}: is it the admin listener (--admin-listen)?",
                fetched.status.as_u16()
            )),
            Err(error) => failed(&format!("{url} can't be asked: {error}")),
        }
    })
}

/// The token, if there is one.
fn token(file: Option<&str>) -> Result<Option<String>, String> {
    let given = given_secret("admin-token-file", file.map(Path::new), ADMIN_TOKEN_ENV)?;
    let token = given.map(|(_, text)| text.trim().to_owned());
    Ok(token.filter(|token| !token.is_empty()))
}

fn tell(args: &TuneArgs, json: &[u8], wanted: &Wanted, from: &str) -> ExitCode {
    let mut report = match Report::parse(json) {
        Ok(report) => report,
        Err(problem) => return failed(&format!("{from} holds no insights: {problem}")),
    };
    let chosen = |group: &Group| {
        let wanted = args.group.as_deref().unwrap_or_default();
        group.group.contains(wanted) || group.identity.contains(wanted)
    };
    report.groups.retain(chosen);
    let groups = report.groups.into_iter();
    report.groups = groups.map(|group| group.advised(wanted)).collect();
    if args.json {
        let json = serde_json::to_string_pretty(&report);
        println!("{}", json.expect("our own types are written without fail"));
    } else {
        print!("{}", text(&report));
    }
    ExitCode::SUCCESS
}

/// The report for people. Writing to a text does not fail.
fn text(report: &Report) -> String {
    let mut out = String::new();
    if report.groups.is_empty() {
        return "No acquire was seen yet: there is nothing to advise on.\n".to_owned();
    }
    for group in &report.groups {
        one(&mut out, group);
    }
    if !report.scope.is_empty() {
        let _ = writeln!(out, "This is of {}.", printable(&report.scope));
    }
    if report.groups_forgotten > 0 {
        let _ = writeln!(
            out,
            "Groups were forgotten for the sake of busier ones {} times.",
            report.groups_forgotten
        );
    }
    out
}

fn one(out: &mut String, group: &Group) {
    let advice = &group.advice;
    let name = match group.group.as_str() {
        "" => "samples".to_owned(),
        name => printable(name),
    };
    let whose = match group.identity.as_str() {
        "" => String::new(),
        identity => format!(" of {}", printable(identity)),
    };
    let _ = writeln!(out, "{name}{whose}");
    let _ = writeln!(
        out,
        "  {} acquires and {} holds in {}",
        advice.acquires,
        advice.holds,
        shown(advice.window_ms)
    );
    let busiest = advice.utilisation.map_or_else(
        || "not known".to_owned(),
        |known| format!("{:.0} %", known.busiest * 100.0),
    );
    let cost = advice.cost;
    let _ = writeln!(
        out,
        "  busiest lock held {busiest} · {:.1} attempts an acquire · {:.1} % gave up · p99 wait {}",
        cost.attempts_per_acquire,
        cost.failure_share * 100.0,
        shown(cost.p99_wait_ms)
    );
    settings(out, group);
    for finding in &advice.findings {
        let mark = match finding.weight {
            Weight::Warning => '!',
            Weight::Advice => '>',
            Weight::Note => '-',
        };
        let _ = writeln!(out, "  {mark} {}", finding.text);
    }
    if let Some(polling) = &advice.polling {
        curve(out, polling);
    }
    out.push('\n');
}

fn settings(out: &mut String, group: &Group) {
    let Some(now) = group.advice.current else {
        return;
    };
    let row = |name: &str, cells: [String; 4]| {
        let [lease, delay, jitter, retries] = cells;
        format!("  {name:<8} {lease:>9} {delay:>9} {jitter:>9} {retries:>8}\n")
    };
    let head = ["lease", "delay", "jitter", "retries"].map(ToOwned::to_owned);
    out.push_str(&row("", head));
    let cells = |setting: Setting| {
        [
            shown(setting.lease_ms),
            shown(setting.delay_ms),
            shown(setting.jitter_ms),
            setting.retries.to_string(),
        ]
    };
    out.push_str(&row("now", cells(now)));
    let polling = group.advice.polling.as_ref();
    let [_, delay, jitter, retries] = polling.map_or_else(
        || std::array::from_fn(|_| "-".to_owned()),
        |polling| cells(polling.advised),
    );
    let lease = group
        .advice
        .lease
        .map_or_else(|| "-".to_owned(), |lease| shown(lease.advised_ms));
    out.push_str(&row("advised", [lease, delay, jitter, retries]));
}

fn curve(out: &mut String, polling: &PollingAdvice) {
    let _ = writeln!(out, "  {:>9} {:>9} {:>9}", "delay", "attempts", "p99 wait");
    // Delays that are far from both say nothing new.
    let near = |at: usize| {
        let marked = |(_, point): &(usize, &crate::advisor::Point)| point.current || point.advised;
        let mut marked = polling.curve.iter().enumerate().filter(marked);
        marked.any(|(place, _)| place.abs_diff(at) <= 2)
    };
    for (at, point) in polling.curve.iter().enumerate() {
        if near(at) {
            let mark = match (point.current, point.advised) {
                (true, true) => "  now and advised",
                (true, false) => "  now",
                (false, true) => "  advised",
                (false, false) => "",
            };
            let _ = writeln!(
                out,
                "  {:>9} {:>9.1} {:>9}{mark}",
                shown(point.delay_ms),
                point.attempts,
                shown(point.p99_wait_ms)
            );
        }
    }
}

/// A text of somebody else's, without what a terminal would obey.
fn printable(text: &str) -> String {
    let safe = |char: char| {
        if char.is_control() {
            char.escape_default().to_string()
        } else {
            char.to_string()
        }
    };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advisor::{Samples, Used};

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        for (text, expected) in [("0.001", 0.001), ("0.1%", 0.001), ("5 %", 0.05)] {
            assert!((share(text).unwrap() - expected).abs() < 1e-12);
        }
        for bad in ["", "0", "1", "2", "-1", "100%", "nan", "inf", "x"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_text_has_the_settings_the_counts_and_nothing_that_a_terminal_obeys() {
        let setting = Setting {
            lease_ms: 10_000,
            delay_ms: 500,
            retries: 10,
            ..Setting::default()
        };
        let mut samples = Samples {
            window_ms: 60_000,
            acquired: 120,
            attempts: 300,
            settings: vec![Used {
                setting,
                count: 120,
            }],
            ..Samples::default()
        };
        samples.holds.add(100, 120);
        samples.time_to_free.add(80, 60);
        samples.waits.add(80, 60);
        let name = "k\x1b[31m:#\n".to_owned();
        let group = Group::of("who".to_owned(), name, samples, &Wanted::default());
        let report = Report {
            groups: vec![group],
            scope: crate::advisor::SCOPE.to_owned(),
            ..Report::default()
        };
        let text = text(&report);
        for part in [
            "k\\u{1b}[31m:#\\n of who",
            "120 acquires and 120 holds in 60 s",
            "now ",
            "advised ",
            "880 more",
            "this replica only",
            "p99 wait",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains('\x1b'));
    }
}
