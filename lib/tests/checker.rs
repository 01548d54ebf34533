//! Hazard: a checker of histories that sees nothing, or too much.

use std::time::Duration;

use everlock::entropy::{Entropy as _, SeededEntropy};
use everlock_testkit::history::{History, Hold, Violation, judge};
use rustix::time::{ClockId, clock_gettime};

struct Dice(SeededEntropy);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    fn below(&self, sides: u64) -> u64 {
        self.0.bits() % sides
    }

    fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}

fn hold(resource: usize, owner: u64, token: u64, asked: u64, took: u64, valid: u64) -> Hold {
    Hold {
        client: 0,
        resource,
        owner: format!("o{owner}"),
        token,
        asked,
        acquired: asked + took,
        valid_until: asked + took + valid,
        released: None,
    }
}

/// A history in order: one holder after the other, tokens rising.
fn in_order(dice: &Dice, holds: usize, resources: u64) -> Vec<Hold> {
    let mut free_from = vec![0; usize::try_from(resources).unwrap_or(1)];
    let mut history = Vec::new();
    for number in 1..=holds {
        let resource = dice.index(free_from.len());
        let asked = free_from[resource] + dice.below(5);
        let token = 10 * number as u64 + dice.below(10);
        let (took, valid) = (1 + dice.below(5), 3 + dice.below(20));
        let mut held = hold(resource, number as u64, token, asked, took, valid);
        if dice.below(2) == 0 {
            held.released = Some(held.acquired + 2);
        }
        free_from[resource] = held.end() + 1;
        history.push(held);
    }
    history
}

/// Each kind by its definition, all pairs.
fn oracle(holds: &[Hold]) -> [bool; 3] {
    let mut found = [false; 3];
    for one in holds {
        for other in holds {
            if one.resource != other.resource {
                continue;
            }
            let owners_differ = one.owner != other.owner;
            let meet = one.acquired.max(other.acquired) < one.end().min(other.end());
            found[0] |= owners_differ && meet;
            let lower = other.token < one.token || (other.token == one.token && owners_differ);
            found[1] |= one.acquired < other.asked && lower;
            found[2] |= owners_differ && one.token == other.token;
        }
    }
    found
}

fn kinds(holds: &[Hold]) -> [bool; 3] {
    let found = judge(holds);
    let any = |is: fn(&Violation) -> bool| found.iter().any(is);
    [
        any(|violation| matches!(violation, Violation::Overlap(..))),
        any(|violation| matches!(violation, Violation::Inversion(..))),
        any(|violation| matches!(violation, Violation::Shared(..))),
    ]
}

#[test]
fn histories_in_order_are_passed() {
    for seed in 0..1_000 {
        let history = in_order(&Dice::new(seed), 30, 3);
        assert_eq!(judge(&history), [], "seed {seed}");
    }
}

/// Two holds of one resource that follow one another.
fn neighbours(dice: &Dice, history: &[Hold]) -> (usize, usize) {
    loop {
        let first = dice.index(history.len());
        let same = |hold: &&Hold| hold.resource == history[first].resource;
        if let Some(next) = history[first + 1..].iter().find(same) {
            let next = history.iter().position(|hold| hold == next);
            return (first, next.unwrap_or(first));
        }
    }
}

#[test]
fn a_thousand_histories_with_an_overlap_are_caught() {
    for seed in 0..1_000 {
        let dice = Dice::new(seed);
        let mut history = in_order(&dice, 30, 3);
        let (first, next) = neighbours(&dice, &history);
        history[next].acquired = history[first].end() - 1;
        history[next].asked = history[first].asked;
        assert_eq!(kinds(&history), [true, false, false], "seed {seed}");
    }
}

#[test]
fn a_thousand_histories_with_tokens_in_the_wrong_order_are_caught() {
    for seed in 0..1_000 {
        let dice = Dice::new(seed);
        let mut history = in_order(&dice, 30, 3);
        let (first, next) = neighbours(&dice, &history);
        let token = history[first].token;
        history[first].token = history[next].token;
        history[next].token = token;
        assert_eq!(kinds(&history), [false, true, false], "seed {seed}");
    }
}

#[test]
fn a_thousand_histories_with_one_token_twice_are_caught() {
    for seed in 0..1_000 {
        let dice = Dice::new(seed);
        let mut history = in_order(&dice, 30, 3);
        let (first, next) = neighbours(&dice, &history);
        history[next].token = history[first].token;
        assert!(kinds(&history)[2], "seed {seed}");
        assert!(kinds(&history)[1], "seed {seed}: nor is it higher");
    }
}

#[test]
fn all_small_histories_are_judged_as_by_the_definitions() {
    let mut seen = [0; 3];
    let mut passed = 0;
    for seed in 0..20_000 {
        let dice = Dice::new(seed);
        let history: Vec<_> = (0..2 + dice.below(6))
            .map(|_| {
                let (owner, token) = (dice.below(4), dice.below(8));
                let asked = dice.below(30);
                let mut held = hold(
                    dice.index(2),
                    owner,
                    token,
                    asked,
                    dice.below(5),
                    dice.below(8),
                );
                held.released = (dice.below(3) == 0).then(|| held.asked + dice.below(12));
                held
            })
            .collect();
        let expected = oracle(&history);
        assert_eq!(kinds(&history), expected, "seed {seed}: {history:#?}");
        passed += u32::from(expected == [false; 3]);
        for (count, found) in seen.iter_mut().zip(expected) {
            *count += u32::from(found);
        }
    }
    assert!(
        passed > 500 && seen.iter().all(|count| *count > 500),
        "{passed} {seen:?}"
    );
}

#[test]
fn a_release_ends_all_holds_of_its_owner_up_to_its_token() {
    let mut history = History::default();
    for (owner, token) in [(1, 10), (1, 11), (2, 10)] {
        history.held(hold(0, owner, token, 0, 1, 100));
    }
    history.released(0, "o1", 10, 5);
    history.released(0, "o1", 10, 50);
    let ends: Vec<_> = history.holds().iter().map(Hold::end).collect();
    assert_eq!(ends, [5, 101, 101]);
}

/// The processor's time of this thread, whatever else the machine does.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// A tenth of them, unoptimised.
#[test]
fn a_history_of_a_million_operations_is_judged_within_a_second() {
    let holds = if cfg!(debug_assertions) {
        100_000
    } else {
        1_000_000
    };
    let history = in_order(&Dice::new(1), holds, 100);
    let before = worked();
    let found = judge(&history);
    let took = worked().saturating_sub(before);
    println!("{holds} operations judged in {took:?} of the processor's time");
    assert_eq!(found, []);
    // Twice that, since cores are shared too.
    assert!(took < Duration::from_secs(2), "{took:?}");
}
