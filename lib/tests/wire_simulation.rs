//! Hazard: what a network does to real connections, in any order.
//!
//! The real Redis client, its pipelines and its reconnects included, over a
//! simulated network: partitions, one way and both, messages that wait or are
//! lost, servers that crash, restart and forget. The servers speak the wire's
//! language and answer by the pure rules.
//!
//! Each seed is a process of its own, since only then it replays. One of them:
//! `EVERLOCK_WIRE_SEED=7 cargo test -p everlock --all-features --test wire_simulation one_seed -- --nocapture`;
//! `EVERLOCK_WIRE_LOG=1` shows all that the servers were asked, and
//! `EVERLOCK_WIRE_SEEDS` sets how many.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support {
    pub(crate) mod wire_clock;
    pub(crate) mod wire_server;
    pub(crate) mod wire_world;
}

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use everlock::protocol::Safeguard;
use support::wire_world::{Blow, run};

const SEEDS: u64 = if cfg!(debug_assertions) { 40 } else { 2_000 };
const SEED: &str = "EVERLOCK_WIRE_SEED";
/// The safeguard that a child switches off.
const WITHOUT: &str = "EVERLOCK_WIRE_WITHOUT";
/// Within so many schedules its absence must show.
const TEETH: u64 = 100;
/// Precede what a child tells of its schedule.
const COUNTED: &str = "counted: ";
const DIGEST: &str = "digest: ";

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn one_seed() {
    let Some(seed) = number_in(SEED) else {
        return;
    };
    let without = std::env::var(WITHOUT).unwrap_or_default();
    let mut safeguards = Safeguard::ALL.into_iter();
    let without = safeguards.find(|safeguard| format!("{safeguard:?}") == without);
    let _off = without.map(Safeguard::switch_off);
    let outcome = run(seed);
    if std::env::var_os("EVERLOCK_WIRE_LOG").is_some() {
        println!("{}", outcome.log.join("\n"));
    }
    for (what, times) in &outcome.tally {
        println!("{COUNTED}{times} {what}");
    }
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for byte in outcome.log.iter().flat_map(|line| line.bytes()) {
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    println!("{DIGEST}{digest}");
    assert!(
        outcome.wrong.is_empty(),
        "seed {seed}: {:#?}",
        outcome.wrong
    );
}

fn child(seed: u64, without: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "one_seed", "--nocapture"])
        .env(SEED, seed.to_string())
        .env(WITHOUT, without)
        .output()
        .unwrap()
}

fn lines<'a>(output: &'a str, head: &'a str) -> impl Iterator<Item = &'a str> {
    output
        .lines()
        .filter_map(move |line| Some(line.split_once(head)?.1))
}

#[test]
fn nobody_overlaps_tokens_rise_and_nothing_is_left_over_real_connections() {
    let seeds = number_in("EVERLOCK_WIRE_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(8));
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let tally = Mutex::new(BTreeMap::<String, (u64, u64)>::new());
    let started = tokio::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let output = child(seed, "");
                    let told = String::from_utf8_lossy(&output.stdout).into_owned();
                    if !output.status.success() {
                        let error = String::from_utf8_lossy(&output.stderr).into_owned();
                        failed.lock().unwrap().push((seed, error));
                    }
                    let mut tally = tally.lock().unwrap();
                    for line in lines(&told, COUNTED) {
                        let (times, what) = line.split_once(' ').unwrap();
                        let sum = tally.entry(what.to_owned()).or_default();
                        *sum = (sum.0 + 1, sum.1 + times.parse::<u64>().unwrap());
                    }
                }
            });
        }
    });
    println!(
        "{seeds} schedules in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let tally = tally.into_inner().unwrap();
    for (what, (schedules, times)) in &tally {
        println!("{what}: {times} times, in {schedules} schedules");
    }
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {seeds}: {:#?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    let outcomes = [
        "acquired",
        "contended",
        "unavailable",
        "cancelled",
        "extended",
        "released",
    ];
    let blows = Blow::ALL.map(|blow| format!("{blow:?}"));
    for what in blows.iter().map(String::as_str).chain(outcomes) {
        let schedules = tally.get(what).map_or(0, |counted| counted.0);
        assert!(schedules * 100 >= seeds, "{what} in {schedules} of {seeds}");
    }
}

#[test]
fn a_seed_gives_the_same_schedule_in_every_process() {
    for seed in 0..20 {
        let digest = |output: Output| {
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            lines(&told, DIGEST).next().map(ToOwned::to_owned)
        };
        let (one, other) = (digest(child(seed, "")), digest(child(seed, "")));
        assert!(
            one.is_some() && one == other,
            "seed {seed}: {one:?}, {other:?}"
        );
    }
}

#[test]
fn the_absence_of_a_safeguard_shows_over_real_connections() {
    for (safeguard, expected) in [
        (Safeguard::Undo, "still holds"),
        (Safeguard::Settle, "still holds"),
        (Safeguard::RepairFloorTest, "still holds"),
    ] {
        let shows = |seed: &u64| {
            let output = child(*seed, &format!("{safeguard:?}"));
            String::from_utf8_lossy(&output.stderr).contains(expected)
        };
        let seed = (0..TEETH).find(shows);
        let seed = seed.unwrap_or_else(|| panic!("nobody notices the absence of {safeguard:?}"));
        println!("{safeguard:?}: {expected} after {}", seed + 1);
    }
}
