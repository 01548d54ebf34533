//! This project beside its peers, in one run, interleaved, every grant verified.
//!
//! `cargo bench -p everlock-benches --bench peers [-- --rounds N] [--seconds S] [--only NAME] [--report FILE]`
//!
//! Prints medians over the rounds, with the lowest and highest; `--report` writes
//! them into a Markdown file, between its marks, with a drawing beside it.
//! Absolute figures are of the machine; compare what stands in one table.

#![allow(
    clippy::cast_precision_loss,
    clippy::print_stderr,
    reason = "figures for people"
)]

mod drawing;
mod http;
mod http_peers;
mod hung;
mod one_key;
mod own_keys;
mod report;
mod scale;
mod table;
mod two_processes;

use std::path::PathBuf;
use std::time::Duration;

use table::Table;

/// How often and how long.
#[derive(Clone, Copy, Debug)]
struct Plan {
    rounds: usize,
    time: Duration,
}

/// A part of the run, by its name on the command line.
type Part = (&'static str, fn(Plan) -> Vec<Table>);

/// In the order of the report.
const PARTS: [Part; 6] = [
    ("own-keys", own_keys::run),
    ("one-key", one_key::run),
    ("two-processes", two_processes::run),
    ("hung", hung::run),
    ("scale", scale::run),
    ("http", http::run),
];

fn main() {
    if two_processes::work_if_asked() || http_peers::serve_if_asked() {
        return;
    }
    let mut plan = Plan {
        rounds: 5,
        time: Duration::from_secs(1),
    };
    let (mut only, mut file) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--rounds" => plan.rounds = value().parse().expect("--rounds is a number"),
            "--seconds" => {
                let seconds = value().parse().expect("--seconds is a number");
                plan.time = Duration::from_secs(seconds);
            }
            "--only" => only = Some(value()),
            "--report" => file = Some(PathBuf::from(value())),
            // cargo says so to each benchmark.
            "--bench" => {}
            other => panic!("{other} is no option: --rounds, --seconds, --only, --report are"),
        }
    }
    plan.rounds = plan.rounds.max(1);
    let mut tables = Vec::new();
    for (name, run) in PARTS {
        if only.as_ref().is_none_or(|only| only == name) {
            for table in run(plan) {
                println!("{table}");
                tables.push(table);
            }
        }
    }
    if let Some(file) = file {
        report::write(&file, plan, &tables);
    }
}
