//! Hazard: a checker of the order of grants that sees nothing, or too much.

use std::collections::BTreeSet;

use everlock::entropy::{Entropy as _, SeededEntropy};
use everlock_testkit::history::{Order, Stood, Turn, Waiter, judge_order};

const NODES: usize = 5;
const QUORUM: usize = 3;

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

/// Somebody who asks, stands on all nodes a moment later, and wins in the end.
fn waiter(client: usize, resource: usize, asked: u64, won: u64) -> Waiter {
    let stood = |node| Stood {
        node,
        from: asked + 1,
        until: won + 1,
    };
    Waiter {
        client,
        resource,
        asked,
        stood: (0..NODES).map(stood).collect(),
        won: Some(Turn {
            began: won - 3,
            won,
        }),
        ended: won,
    }
}

/// All come one after the other, stand in line together, and win in that order.
fn in_order(dice: &Dice, waiters: u64) -> Vec<Waiter> {
    let one = |number: u64| {
        let asked = 10 * number + dice.below(8);
        let won = 10 * waiters + 10 * number + dice.below(6);
        waiter(usize::try_from(number).unwrap_or(0), 0, asked, won)
    };
    (0..waiters).map(one).collect()
}

/// Two of them change places at the end; who of them was overtaken.
fn swapped(dice: &Dice, line: &mut [Waiter]) -> (usize, usize) {
    let first = dice.index(line.len() - 1);
    let next = first + 1 + dice.index(line.len() - first - 1);
    let (one, other) = (line[first].clone(), line[next].clone());
    for (now, at) in [(first, &other), (next, &one)] {
        line[now].won = at.won;
        line[now].ended = at.ended;
        for stood in &mut line[now].stood {
            stood.until = at.ended + 1;
        }
    }
    (first, next)
}

#[test]
fn lines_in_order_are_passed_and_every_grant_but_the_last_was_compared() {
    for seed in 0..1_000 {
        let order = judge_order(&in_order(&Dice::new(seed), 12), QUORUM);
        let expected = Order {
            grants: 12,
            contended: 11,
            ..Order::default()
        };
        assert_eq!(order, expected, "seed {seed}");
    }
}

#[test]
fn a_thousand_lines_in_which_somebody_is_overtaken_are_caught() {
    for seed in 0..1_000 {
        let dice = Dice::new(seed);
        let mut line = in_order(&dice, 12);
        let (_, next) = swapped(&dice, &mut line);
        let order = judge_order(&line, QUORUM);
        assert!(order.inversions >= 1, "seed {seed}");
        let first = order.first.map(|found| found.winner.client);
        assert_eq!(first, Some(next), "seed {seed}");
    }
}

#[test]
fn who_did_not_stand_there_all_the_time_was_not_overtaken() {
    for seed in 0..1_000 {
        let dice = Dice::new(seed);
        let mut line = in_order(&dice, 2);
        let (first, next) = swapped(&dice, &mut line);
        assert_eq!(judge_order(&line, QUORUM).inversions, 1, "seed {seed}");
        let winner = line[next].clone();
        let Some(turn) = winner.won else { continue };
        let overtaken = &mut line[first];
        match seed % 4 {
            // It went away before.
            0 => overtaken.ended = turn.won - dice.below(3),
            // It was on a quorum only after the other had asked.
            1 => {
                let late = overtaken.stood.iter_mut().skip(2 - dice.index(2));
                late.for_each(|stood| stood.from = winner.asked + 1);
            }
            // Its tickets were gone for a moment, and it came back.
            2 => {
                let gone = winner.asked + 1 + dice.below(turn.won - winner.asked);
                let again = overtaken.stood.clone().into_iter().take(3);
                let again = again.map(|stood| Stood {
                    from: gone + 1,
                    ..stood
                });
                let again: Vec<_> = again.collect();
                overtaken
                    .stood
                    .iter_mut()
                    .take(3)
                    .for_each(|stood| stood.until = gone);
                overtaken.stood.extend(again);
            }
            // It was on a quorum at each moment of the attempt, and never on the same one.
            _ => {
                overtaken.stood.truncate(4);
                overtaken.stood[3].from = turn.began + 1;
                overtaken.stood[2].until = turn.began + 2;
                overtaken.stood.remove(1);
                overtaken.stood.push(Stood {
                    node: 4,
                    from: overtaken.asked + 1,
                    until: turn.won + 9,
                });
            }
        }
        assert_eq!(judge_order(&line, QUORUM).inversions, 0, "seed {seed}");
    }
}

/// Where it stands at this moment.
fn nodes_at(waiter: &Waiter, moment: u64) -> BTreeSet<usize> {
    let here = |stood: &&Stood| stood.from <= moment && moment < stood.until;
    waiter
        .stood
        .iter()
        .filter(here)
        .map(|stood| stood.node)
        .collect()
}

fn is_queued(waiter: &Waiter, from: u64, to: u64) -> bool {
    (from..=to).all(|moment| nodes_at(waiter, moment).len() >= QUORUM)
}

fn waits(waiter: &Waiter, moment: u64) -> bool {
    waiter.asked < moment && waiter.ended > moment
}

/// By the definition: every moment, and every quorum.
fn is_overtaken(waiter: &Waiter, winner: &Waiter, turn: Turn) -> bool {
    let stays_on = |quorum: u32| {
        (0..NODES)
            .filter(|node| quorum & 1 << node != 0)
            .all(|node| {
                (turn.began..=turn.won).all(|moment| nodes_at(waiter, moment).contains(&node))
            })
    };
    let mut quorums = (0..1 << NODES).filter(|nodes: &u32| nodes.count_ones() as usize >= QUORUM);
    waiter.resource == winner.resource
        && waiter.asked < winner.asked
        && waits(waiter, turn.won)
        && is_queued(waiter, winner.asked, turn.won)
        && quorums.any(stays_on)
}

fn oracle(line: &[Waiter]) -> [u64; 3] {
    let mut counts = [0; 3];
    for winner in line {
        let Some(turn) = winner.won else { continue };
        let overtakes = line.iter().any(|other| is_overtaken(other, winner, turn));
        let follows = |other: &Waiter| {
            other.resource == winner.resource
                && other.asked > winner.asked
                && waits(other, turn.won)
                && is_queued(winner, other.asked, turn.won)
                && is_queued(other, turn.won, turn.won)
        };
        counts[0] += 1;
        counts[1] += u64::from(overtakes || line.iter().any(follows));
        counts[2] += u64::from(overtakes);
    }
    counts
}

/// Stands here and there for a while.
fn any_waiter(dice: &Dice, client: usize) -> Waiter {
    let asked = dice.below(20);
    let mut stood = Vec::new();
    for node in 0..NODES {
        let mut from = asked + 1 + dice.below(4);
        for _ in 0..=dice.below(2) {
            let until = from + 1 + dice.below(40);
            stood.push(Stood { node, from, until });
            from = until + 1 + dice.below(4);
        }
    }
    let won = asked + 4 + dice.below(30);
    let turn = Turn {
        began: won - dice.below(4),
        won,
    };
    let has_won = dice.below(3) > 0;
    Waiter {
        client,
        resource: dice.index(2),
        asked,
        stood,
        won: has_won.then_some(turn),
        ended: if has_won { won } else { won + dice.below(30) },
    }
}

#[test]
fn all_small_lines_are_judged_as_by_the_definition() {
    let mut seen = [0; 3];
    let mut passed = 0;
    for seed in 0..20_000 {
        let dice = Dice::new(seed);
        let line: Vec<_> = (0..2 + dice.index(4))
            .map(|client| any_waiter(&dice, client))
            .collect();
        let order = judge_order(&line, QUORUM);
        let found = [order.grants, order.contended, order.inversions];
        let expected = oracle(&line);
        assert_eq!(found, expected, "seed {seed}: {line:#?}");
        assert_eq!(order.first.is_some(), order.inversions > 0, "seed {seed}");
        passed += u32::from(expected[1] > 0 && expected[2] == 0);
        for (count, found) in seen.iter_mut().zip(expected) {
            *count += found;
        }
    }
    assert!(
        passed > 500 && seen.iter().all(|count| *count > 500),
        "{passed} {seen:?}"
    );
}
