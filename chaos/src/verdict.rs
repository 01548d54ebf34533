//! Puts the notes of all clients together, judges them and says what it has seen.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use everlock_testkit::history::{History, Hold, Order, Violation, judge};

use crate::nemesis::Journal;
use crate::order;
use crate::record::{self, Note, Waited};
use crate::register::{Tallies, Tally};

/// With a minority of nodes in trouble nobody waits longer for a lock, whichever: a client that is
/// stopped holds its lock for a lease, and a killed one too. Locks that refuse everybody are safe,
/// and of no use.
const LONGEST_GAP: u64 = 15_000_000;
const LEAST_A_MINUTE: u64 = 60;

/// Shown around a violation; holds that were short explain nothing.
const AROUND: u64 = 3_000_000;
const SHORT: u64 = 50_000;

/// What the run knows besides the notes.
pub(crate) struct Facts {
    pub(crate) seed: u64,
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) majority: bool,
    /// What clients and proxies printed that ended by themselves.
    pub(crate) crashed: Vec<String>,
    pub(crate) tallies: Tallies,
    pub(crate) journal: Journal,
}

/// What the clients' notes amount to.
struct Notes {
    holds: Vec<Hold>,
    /// When locks were newly acquired, in order.
    acquired: Vec<u64>,
    missed: BTreeMap<String, u64>,
    waited: Vec<Waited>,
}

/// Reports, and passes or fails the run.
pub(crate) fn pass(facts: &Facts, notes: &Path) -> ExitCode {
    let notes = Notes::gather(notes);
    let violations = judge(&notes.holds);
    let order = order::judge(&notes.waited, &facts.journal.losses);
    let mut faults = Vec::new();
    if !facts.majority {
        faults.extend(violations.iter().map(Violation::to_string));
        faults.extend(facts.journal.missing.iter().cloned());
        faults.extend(order.first.as_ref().map(ToString::to_string));
    }
    faults.extend(
        facts
            .crashed
            .iter()
            .map(|output| format!("a process ended by itself: {output}")),
    );
    let lost = &facts.tallies.fenced.lost;
    if !lost.is_empty() {
        faults.push(format!(
            "updates lost at the register that checks tokens: {lost:?}"
        ));
    }
    if facts.tallies.fenced.accepted < notes.acquired.len() / 2 {
        faults.push("the register that checks tokens refuses those who hold the lock".to_owned());
    }
    faults.extend(notes.too_little(facts));

    report(facts, &notes, &violations);
    report_order(&order);
    if faults.is_empty() {
        println!("chaos: passed, seed {}", facts.seed);
        return ExitCode::SUCCESS;
    }
    for fault in &faults {
        println!("FAULT: {fault}");
    }
    if let Some(violation) = violations.first().filter(|_| !facts.majority) {
        show_around(facts, &notes, violation);
    }
    println!("chaos: FAILED, seed {}", facts.seed);
    ExitCode::FAILURE
}

impl Notes {
    fn gather(folder: &Path) -> Self {
        let mut history = History::default();
        let mut acquired = Vec::new();
        let mut missed = BTreeMap::new();
        let mut waited = Vec::new();
        for file in fs::read_dir(folder).unwrap() {
            for note in record::read(&file.unwrap().path()) {
                match note {
                    Note::Held { hold, fresh } => {
                        if fresh {
                            acquired.push(hold.acquired);
                        }
                        history.held(hold);
                    }
                    Note::Freed {
                        resource,
                        owner,
                        token,
                        at,
                    } => history.released(resource, &owner, token, at),
                    Note::Waited(of) => waited.push(of),
                    Note::Missed { why } => *missed.entry(why).or_default() += 1,
                }
            }
        }
        acquired.sort_unstable();
        Self {
            holds: history.holds(),
            acquired,
            missed,
            waited,
        }
    }

    /// The longest time without a new holder of any lock.
    fn longest_gap(&self, facts: &Facts) -> u64 {
        let within = self.acquired.iter().copied();
        let within = within.filter(|at| (facts.from..facts.until).contains(at));
        let marks = std::iter::once(facts.from)
            .chain(within)
            .chain([facts.until]);
        let marks: Vec<_> = marks.collect();
        let gaps = marks.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    fn a_minute(&self, facts: &Facts) -> u64 {
        self.acquired.len() as u64 * 60_000_000 / (facts.until - facts.from).max(1)
    }

    /// Locks that nobody gets.
    fn too_little(&self, facts: &Facts) -> Vec<String> {
        let mut faults = Vec::new();
        if facts.majority {
            if self.acquired.is_empty() {
                faults.push("nobody ever got a lock".to_owned());
            }
            return faults;
        }
        let (gap, rate) = (self.longest_gap(facts), self.a_minute(facts));
        if gap > LONGEST_GAP {
            faults.push(format!("nobody got a lock for {} ms", gap / 1_000));
        }
        if rate < LEAST_A_MINUTE {
            faults.push(format!("only {rate} acquisitions a minute"));
        }
        faults
    }
}

fn report(facts: &Facts, notes: &Notes, violations: &[Violation]) {
    println!("\ninjections:");
    for (kind, count) in &facts.journal.counts {
        println!("  {count:>6}  {kind}");
    }
    let all: u64 = facts.journal.counts.values().sum();
    println!(
        "  {all:>6}  in all, in {} s",
        (facts.until - facts.from) / 1_000_000
    );
    println!("\nlocks:");
    println!(
        "  {} acquired, {} a minute; longest time without any: {} ms",
        notes.acquired.len(),
        notes.a_minute(facts),
        notes.longest_gap(facts) / 1_000
    );
    println!("  not acquired: {:?}", notes.missed);
    let count =
        |kind: fn(&Violation) -> bool| violations.iter().filter(|found| kind(found)).count();
    println!(
        "  keys with two holders at once: {}; with tokens out of order: {}; with a token of two owners: {}",
        count(|found| matches!(found, Violation::Overlap(..))),
        count(|found| matches!(found, Violation::Inversion(..))),
        count(|found| matches!(found, Violation::Shared(..))),
    );
    println!("\nupdates by clients that write whether their lease is over or not:");
    println!(
        "  register that checks tokens: {}",
        rate(&facts.tallies.fenced)
    );
    println!(
        "  register that checks nothing: {}",
        rate(&facts.tallies.unfenced)
    );
    println!("  refused for their token: {}\n", facts.tallies.refused);
}

fn report_order(order: &Order) {
    println!("strict lines:");
    println!(
        "  {} grants, {} of them while others stood on a quorum; out of turn: {}\n",
        order.grants, order.contended, order.inversions
    );
}

fn rate(tally: &Tally) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a share, for people")]
    let share = 100.0 * tally.lost.len() as f64 / tally.accepted.max(1) as f64;
    format!(
        "{} of {} lost ({share:.3} %)",
        tally.lost.len(),
        tally.accepted
    )
}

/// The holds of that lock and what the nemesis did, in one order.
fn show_around(facts: &Facts, notes: &Notes, violation: &Violation) {
    let (Violation::Overlap(one, other)
    | Violation::Inversion(one, other)
    | Violation::Shared(one, other)) = violation;
    let from = one.asked.min(other.asked).saturating_sub(AROUND);
    let until = one.acquired.max(other.acquired) + AROUND;
    let holds = notes.holds.iter().filter(|hold| {
        let long = hold.end().saturating_sub(hold.acquired) > SHORT;
        let of_the_two = [&one.owner, &other.owner].contains(&&hold.owner);
        hold.resource == one.resource && (long || of_the_two)
    });
    let mut lines: Vec<_> = holds
        .map(|hold| (hold.acquired, hold.to_string()))
        .chain(facts.journal.entries.iter().cloned())
        .filter(|(at, _)| (from..until).contains(at))
        .collect();
    lines.sort();
    println!("\naround the first violation:");
    for (at, line) in lines {
        println!("  {at}  {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn facts(seconds: u64) -> Facts {
        Facts {
            seed: 1,
            from: SECOND,
            until: SECOND + seconds * SECOND,
            majority: false,
            crashed: Vec::new(),
            tallies: Tallies {
                fenced: Tally {
                    accepted: 1_000,
                    lost: Vec::new(),
                },
                ..Tallies::default()
            },
            journal: Journal::default(),
        }
    }

    fn notes(acquired: impl IntoIterator<Item = u64>) -> Notes {
        Notes {
            holds: Vec::new(),
            acquired: acquired.into_iter().collect(),
            missed: BTreeMap::new(),
            waited: Vec::new(),
        }
    }

    #[test]
    fn locks_that_everybody_gets_all_the_time_are_enough() {
        let often = notes((10..310).map(|tenth| tenth * SECOND / 10));
        assert_eq!(often.longest_gap(&facts(30)), SECOND / 10);
        assert_eq!(often.too_little(&facts(30)), [""; 0]);
    }

    #[test]
    fn locks_that_nobody_gets_for_long_fail_the_run_at_either_end_and_between() {
        for silent in [0..20, 10..30, 20..40] {
            let at = (10..410).map(|tenth| tenth * SECOND / 10);
            let gappy = notes(at.filter(|at| !silent.contains(&(at / SECOND - 1))));
            assert_eq!(gappy.too_little(&facts(40)).len(), 1, "{silent:?}");
        }
        assert_eq!(notes([]).too_little(&facts(40)).len(), 2);
    }

    #[test]
    fn locks_that_are_hardly_ever_had_fail_the_run() {
        let rare = notes((1..=30).step_by(2).map(|second| second * SECOND));
        assert_eq!(rare.too_little(&facts(30)).len(), 1);
    }

    #[test]
    fn a_release_by_owner_ends_also_what_the_owner_was_granted_when_it_asked_again() {
        let folder = std::env::temp_dir().join(format!("chaos-freed-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let file = record::Notes::create(&folder.join("1"));
        for token in [1, 2] {
            let hold = Hold {
                client: 1,
                resource: 0,
                owner: "a".into(),
                token,
                asked: token * SECOND,
                acquired: token * SECOND + 1,
                valid_until: (token + 2) * SECOND,
                released: None,
            };
            let fresh = token == 1;
            file.add(&Note::Held { hold, fresh });
        }
        file.add(&Note::Freed {
            resource: 0,
            owner: "a".into(),
            token: crate::client::Http::RELEASES_UP_TO,
            at: 2 * SECOND + 2,
        });
        let holds = Notes::gather(&folder).holds;
        fs::remove_dir_all(&folder).unwrap();
        assert!(
            holds.iter().all(|hold| hold.end() == 2 * SECOND + 2),
            "{holds:?}"
        );
    }

    #[test]
    fn faults_make_the_exit_code() {
        let folder = std::env::temp_dir().join(format!("chaos-verdict-{}", std::process::id()));
        let held = |owner: &str, at: u64, token: u64| Hold {
            client: 1,
            resource: 0,
            owner: owner.into(),
            token,
            asked: at,
            acquired: at + 1,
            valid_until: at + 2 * SECOND,
            released: None,
        };
        let verdict = |holds: Vec<Hold>, majority| {
            fs::create_dir(&folder).unwrap();
            let file = record::Notes::create(&folder.join("1"));
            for hold in holds {
                file.add(&Note::Held { hold, fresh: true });
            }
            let facts = Facts {
                majority,
                ..facts(2)
            };
            let code = pass(&facts, &folder);
            fs::remove_dir_all(&folder).unwrap();
            code == ExitCode::SUCCESS
        };
        let in_turn = || vec![held("a", SECOND, 1), held("b", 4 * SECOND, 2)];
        assert!(verdict(in_turn(), false));
        let at_once = || vec![held("a", SECOND, 1), held("b", 2 * SECOND, 2)];
        assert!(!verdict(at_once(), false));
        assert!(verdict(at_once(), true), "outside of the model");
        let falling = vec![held("a", SECOND, 2), held("b", 4 * SECOND, 1)];
        assert!(!verdict(falling, false));
    }
}
