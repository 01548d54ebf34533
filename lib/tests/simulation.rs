//! Hazard: any order of events that nobody thought of.
//!
//! Seeded schedules of the real client over nodes with the real rules: messages
//! late, lost and cut, servers that stop, restart and forget, clocks that differ,
//! clients that pause, go away and die. No two owners may rely on one lock at
//! once, tokens rise, who stood in line is not overtaken, and nothing is left behind.
//!
//! All of them: `cargo test --profile sim -p everlock --test simulation`; more with `EVERLOCK_SEEDS`.
//! One, with its trace: `EVERLOCK_SEED=7 cargo test -p everlock --test simulation one_seed -- --nocapture`.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support {
    pub(crate) mod sim;
    pub(crate) mod sim_clients;
    pub(crate) mod sim_crowd;
    pub(crate) mod sim_line;
    pub(crate) mod sim_nodes;
    pub(crate) mod sim_process;
    pub(crate) mod sim_weather;
}

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use everlock::protocol::Safeguard;
use support::sim::{Wrong, run};
use support::sim_weather::{MISHAPS, Spell};

/// About a minute on two cores in the profile `sim`, and some ten seconds unoptimised.
const SEEDS: u64 = if cfg!(debug_assertions) {
    2_000
} else {
    100_000
};
/// Within so many schedules the absence of a safeguard must show.
const TEETH: u64 = 1_000;
/// Asks a child process for the digest of so many schedules.
const DIGEST_OF: &str = "EVERLOCK_DIGEST_OF";

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What happened in how many schedules, and how often in all of them.
type Tally = BTreeMap<&'static str, (u64, u64)>;

/// What went wrong first in a schedule.
type Found = (u64, Wrong, String);

/// Runs these schedules on all cores, without one safeguard or with all. What went
/// wrong, and what happened; `wanted` ends the search as soon as it goes wrong.
fn search(seeds: u64, without: Option<Safeguard>, wanted: Option<Wrong>) -> (Vec<Found>, Tally) {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let found = Mutex::new(Vec::new());
    let all = Mutex::new(Tally::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _off = without.map(Safeguard::switch_off);
                let mut own = Tally::new();
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let outcome = run(seed, false);
                    add(
                        &mut own,
                        outcome
                            .tally
                            .into_iter()
                            .map(|(what, times)| (what, (1, times))),
                    );
                    let is_wanted =
                        |(what, _): &(Wrong, String)| wanted.is_none_or(|wanted| *what == wanted);
                    if let Some((what, line)) = outcome.wrong.into_iter().find(is_wanted) {
                        found.lock().unwrap().push((seed, what, line));
                        enough.store(wanted.is_some(), Ordering::Relaxed);
                    }
                }
                add(&mut all.lock().unwrap(), own);
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|(seed, ..)| *seed);
    (found, all.into_inner().unwrap())
}

fn add(tally: &mut Tally, more: impl IntoIterator<Item = (&'static str, (u64, u64))>) {
    for (what, (schedules, times)) in more {
        let sum = tally.entry(what).or_default();
        *sum = (sum.0 + schedules, sum.1 + times);
    }
}

#[test]
fn nobody_overlaps_tokens_and_turns_are_in_order_and_nothing_is_left_in_any_schedule() {
    let seeds = number_in("EVERLOCK_SEEDS").unwrap_or(SEEDS);
    let started = tokio::time::Instant::now();
    let (found, tally) = search(seeds, None, None);
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
    let others = [
        "reordered",
        "connected in the weather",
        "client paused",
        "client paused past its lease",
        "client died while asking",
        "client died while holding",
        "acquired",
        "contended",
        "unavailable",
        "cancelled",
        "owner shared",
        "asked again",
        "asked in turn",
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
        "granted in turn while others stood in line",
        "crowd",
        "crowd in line",
        "handed on",
        "section done",
        "member cancelled",
        "member paused",
        "client died in a crowd",
    ];
    let spells = Spell::ALL.map(Spell::name);
    for what in MISHAPS.into_iter().chain(spells).chain(others) {
        let schedules = tally.get(what).map_or(0, |counted| counted.0);
        assert!(schedules * 100 >= seeds, "{what} in {schedules} of {seeds}");
    }
    let compared = tally["granted in turn while others stood in line"].1;
    assert!(
        compared >= seeds,
        "{compared} grants could have been out of turn"
    );
    let (asked, acquired) = (tally["asked"].1, tally["acquired"].1);
    assert!(acquired * 3 >= asked, "{acquired} of {asked} acquired");
}

/// What must go wrong when a safeguard is off.
const fn expected_without(safeguard: Safeguard) -> Wrong {
    match safeguard {
        Safeguard::DriftMargin
        | Safeguard::RestartGuard
        | Safeguard::ClockGuard
        | Safeguard::Shares
        | Safeguard::UndoOfOneAttempt => Wrong::Overlap,
        Safeguard::ValidityCheck | Safeguard::HandedOnInTime => Wrong::Late,
        Safeguard::FloorTest | Safeguard::ReservedTokens => Wrong::Tokens,
        Safeguard::Undo
        | Safeguard::UndoLiftsFloor
        | Safeguard::Settle
        | Safeguard::RepairFloorTest => Wrong::LeftBehind,
        Safeguard::ReleaseCountsUnknown => Wrong::NotReleased,
        Safeguard::TicketFloorTest
        | Safeguard::LowestTicketFirst
        | Safeguard::GrantKeepsTicket
        | Safeguard::TicketQuorum => Wrong::Overtaken,
    }
}

#[test]
fn the_absence_of_each_safeguard_shows_within_a_thousand_schedules() {
    let mut missed = Vec::new();
    for safeguard in Safeguard::ALL {
        let expected = expected_without(safeguard);
        let (found, _) = search(TEETH, Some(safeguard), Some(expected));
        match found.first() {
            Some((seed, _, line)) => {
                println!("{safeguard:?}: {expected:?} after {}: {line}", seed + 1);
            }
            None => missed.push(safeguard),
        }
    }
    assert!(
        missed.is_empty(),
        "nobody notices the absence of {missed:?}"
    );
}

/// A number for all that happens in the schedules of these seeds.
fn digest(seeds: u64) -> u64 {
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for seed in 0..seeds {
        for byte in run(seed, true).trace.iter().flat_map(|line| line.bytes()) {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    digest
}

#[test]
fn a_seed_gives_the_same_schedule_every_time() {
    for seed in 0..300 {
        let (one, other) = (run(seed, true), run(seed, true));
        let mut lines = one.trace.iter().zip(&other.trace);
        let differing = lines.find(|(one, other)| one != other);
        assert_eq!(differing, None, "seed {seed}");
        assert_eq!(one, other, "seed {seed}");
        assert!(!one.trace.is_empty());
    }
}

#[test]
fn a_seed_gives_the_same_schedule_in_another_process() {
    if let Some(seeds) = number_in(DIGEST_OF) {
        println!("digest: {}", digest(seeds));
        return;
    }
    let seeds = 300;
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_seed_gives_the_same_schedule_in_another_process",
            "--nocapture",
        ])
        .env(DIGEST_OF, seeds.to_string())
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    let told = format!("digest: {}", digest(seeds));
    assert!(
        output.contains(&told),
        "{told}, but in another process: {output}"
    );
}

#[test]
fn one_seed() {
    let Some(seed) = number_in("EVERLOCK_SEED") else {
        return;
    };
    let outcome = run(seed, true);
    println!("{}", outcome.trace.join("\n"));
    assert!(
        outcome.wrong.is_empty(),
        "seed {seed}: {:#?}",
        outcome.wrong
    );
}
