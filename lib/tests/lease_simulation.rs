//! Hazard: any order of events that nobody thought of, for leases.
//!
//! Seeded schedules of contenders for one lease, in memory and over a quorum of nodes
//! with the real rules: what is asked gets lost or late, processes stand still, are
//! cut off and die, futures are dropped, clocks drift, nodes go away and forget. No
//! two owners are alive at once, no token falls, and nothing is left behind.
//!
//! One schedule, with its trace: `EVERLOCK_LEASE_SEED=7 cargo test -p everlock
//! --test lease_simulation one_seed -- --nocapture`; more of them: `EVERLOCK_LEASE_SEEDS`.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

#[path = "support/lease_world.rs"]
mod lease_world;
mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use lease_world::{Flaw, Kept, run};

const SEEDS: u64 = 1_000;
/// Within so many schedules a flaw of a backend must show.
const TEETH: u64 = 100;

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

type Tally = BTreeMap<&'static str, (u64, u64)>;

/// Runs these schedules on all cores: what went wrong first in which, and what happened
/// in how many of them, and how often.
fn search(kept: Kept, seeds: u64, flaw: Option<Flaw>) -> (Vec<(u64, String)>, Tally) {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
    let (next, all) = (AtomicU64::new(0), Mutex::new((Vec::new(), Tally::new())));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let outcome = run(kept, seed, flaw);
                    let mut all = all.lock().unwrap();
                    for (what, times) in outcome.tally {
                        let sum = all.1.entry(what).or_default();
                        *sum = (sum.0 + 1, sum.1 + times);
                    }
                    all.0
                        .extend(outcome.wrong.into_iter().next().map(|line| (seed, line)));
                }
            });
        }
    });
    let (mut wrong, tally) = all.into_inner().unwrap();
    wrong.sort();
    (wrong, tally)
}

fn holds_in_every_schedule(kept: Kept, happens: &[&'static str]) {
    let seeds = number_in("EVERLOCK_LEASE_SEEDS").unwrap_or(SEEDS);
    let (wrong, tally) = search(kept, seeds, None);
    for (what, (schedules, times)) in &tally {
        println!("{kept:?}: {what}: {times} times, in {schedules} of {seeds} schedules");
    }
    let shown = &wrong[..wrong.len().min(10)];
    assert!(
        wrong.is_empty(),
        "{} of {seeds} seeds: {shown:#?}",
        wrong.len()
    );
    let common = [
        "asked",
        "acquired",
        "denied",
        "not known",
        "given up",
        "released",
        "not released",
        "release given up",
        "lost",
        "paused",
        "cut off for a while",
        "asked again",
        "died",
    ];
    for what in common.iter().chain(happens) {
        let schedules = tally.get(what).map_or(0, |counted| counted.0);
        assert!(schedules * 50 >= seeds, "{what} in {schedules} of {seeds}");
    }
}

#[test]
fn nobody_overlaps_and_no_token_falls_in_memory() {
    holds_in_every_schedule(Kept::InMemory, &[]);
}

#[test]
fn nobody_overlaps_and_no_token_falls_over_a_quorum() {
    let nodes = ["a node was away", "a node restarted", "a node forgot"];
    holds_in_every_schedule(Kept::OverAQuorum, &nodes);
}

#[test]
fn each_flaw_of_a_backend_shows() {
    for kept in [Kept::InMemory, Kept::OverAQuorum] {
        for flaw in [Flaw::LongValidity, Flaw::OldTokens] {
            let (wrong, _) = search(kept, TEETH, Some(flaw));
            println!("{kept:?}, {flaw:?}: shows in {} of {TEETH}", wrong.len());
            assert!(!wrong.is_empty(), "{kept:?}: nobody notices {flaw:?}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_schedule_every_time() {
    for kept in [Kept::InMemory, Kept::OverAQuorum] {
        for seed in 0..25 {
            let (one, other) = (run(kept, seed, None), run(kept, seed, None));
            let mut lines = one.trace.iter().zip(&other.trace);
            let differing = lines.find(|(one, other)| one != other);
            assert_eq!(differing, None, "{kept:?}, seed {seed}");
            assert_eq!(one, other, "{kept:?}, seed {seed}");
            assert!(!one.trace.is_empty());
        }
    }
}

#[test]
fn one_seed() {
    let Some(seed) = number_in("EVERLOCK_LEASE_SEED") else {
        return;
    };
    for kept in [Kept::InMemory, Kept::OverAQuorum] {
        let outcome = run(kept, seed, None);
        println!("{kept:?}\n{}", outcome.trace.join("\n"));
        assert!(
            outcome.wrong.is_empty(),
            "seed {seed}: {:#?}",
            outcome.wrong
        );
    }
}
