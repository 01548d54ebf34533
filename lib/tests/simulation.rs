//! Hazard: any order of events that nobody thought of.
//!
//! Seeded schedules of the real client over nodes with the real rules: messages
//! late, lost and cut, servers that stop, restart and forget, clocks that differ,
//! clients that pause and go away. No two owners may rely on one lock at once,
//! tokens rise, and nothing is left behind.
//!
//! More schedules: `EVERLOCK_SEEDS=100000 cargo test -p everlock --test simulation`.
//! One, with its trace: `EVERLOCK_SEED=7 cargo test -p everlock --test simulation one_seed -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support {
    pub(crate) mod sim;
    pub(crate) mod sim_clients;
    pub(crate) mod sim_nodes;
    pub(crate) mod sim_weather;
}

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use support::sim::{Outcome, Without, run};
use support::sim_weather::{MISHAPS, SPELLS};

/// Ten to twenty seconds on two cores, unoptimised.
const SEEDS: u64 = 4_000;

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What happened in how many schedules, and how often in all of them.
type Tally = BTreeMap<&'static str, (u64, u64)>;

/// The first violation of each of these schedules that has one, and what happened.
fn search(seeds: u64, without: Without, enough: usize) -> (Vec<(u64, String)>, Tally) {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let tally = Mutex::new(Tally::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while found.lock().unwrap().len() < enough {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let outcome = run(seed, without, false);
                    for (what, times) in outcome.tally {
                        let mut tally = tally.lock().unwrap();
                        let (schedules, all) = tally.entry(what).or_default();
                        *schedules += 1;
                        *all += times;
                    }
                    if let Some(first) = outcome.violations.into_iter().next() {
                        found.lock().unwrap().push((seed, first));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort();
    (found, tally.into_inner().unwrap())
}

#[test]
fn nobody_overlaps_tokens_rise_and_nothing_is_left_in_any_schedule() {
    let seeds = number_in("EVERLOCK_SEEDS").unwrap_or(SEEDS);
    let started = tokio::time::Instant::now();
    let (found, tally) = search(seeds, Without::Nothing, usize::MAX);
    let took = started.elapsed().as_secs_f64();
    println!("{seeds} schedules in {took:.1} s");
    for (what, (schedules, times)) in &tally {
        println!("{what}: {times} times, in {schedules} schedules");
    }
    assert!(
        found.is_empty(),
        "{} of {seeds} seeds, replay one with EVERLOCK_SEED: {:#?}",
        found.len(),
        &found[..found.len().min(10)]
    );
    let outcomes = [
        "acquired",
        "contended",
        "unavailable",
        "cancelled",
        "client paused",
        "owner shared",
        "asked again",
        "again",
        "stale",
        "undone",
        "settled",
        "guarded",
        "extended",
        "not extended",
        "released",
        "release: not held",
        "release: unavailable",
        "release cancelled",
        "left to expire",
        "guard held",
        "guard lost",
    ];
    for what in MISHAPS.into_iter().chain(SPELLS).chain(outcomes) {
        let schedules = tally.get(what).map_or(0, |counted| counted.0);
        assert!(schedules * 100 >= seeds, "{what} in {schedules} of {seeds}");
    }
    let (asked, acquired) = (tally["asked"].1, tally["acquired"].1);
    assert!(acquired * 3 >= asked, "{acquired} of {asked} acquired");
}

#[test]
fn a_seed_gives_the_same_schedule_every_time() {
    for seed in 0..number_in("EVERLOCK_SEEDS").unwrap_or(100) {
        let (one, other) = (
            run(seed, Without::Nothing, true),
            run(seed, Without::Nothing, true),
        );
        let lines = one.trace.iter().zip(&other.trace);
        let mut differing = lines.filter(|(one, other)| one != other);
        assert_eq!(differing.next(), None, "seed {seed}");
        assert_eq!(one, other, "seed {seed}");
        assert!(!one.trace.is_empty());
    }
}

#[test]
fn one_seed() {
    let Some(seed) = number_in("EVERLOCK_SEED") else {
        return;
    };
    let Outcome {
        trace, violations, ..
    } = run(seed, Without::Nothing, true);
    println!("{}", trace.join("\n"));
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
}

/// Within a thousand schedules.
#[track_caller]
fn is_missed(without: Without) {
    let (found, _) = search(1_000, without, 1);
    assert!(!found.is_empty(), "nobody notices: {without:?}");
    println!("{without:?}: {found:#?}");
}

#[test]
fn without_the_restart_guard_something_goes_wrong() {
    is_missed(Without::RestartGuard);
}

#[test]
fn without_the_drift_margin_something_goes_wrong() {
    is_missed(Without::DriftMargin);
}

#[test]
fn without_undos_something_goes_wrong() {
    is_missed(Without::Undo);
}
