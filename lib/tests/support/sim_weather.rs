//! The simulation's weather: what happens to messages, and to servers for a while.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::sync::Arc;
use std::time::Duration;

use everlock::FaultKind;
use everlock::node::faulty::{FaultyNode, Mishap};

use super::sim::{Dice, LATEST, ms};
use super::sim_nodes::{SimNode, Told};

/// What may happen to a message, in the order of a schedule's odds.
pub(crate) const MISHAPS: [&str; 7] = [
    "message refused",
    "answered with an error",
    "connection cut",
    "request lost",
    "reply lost",
    "request delayed",
    "reply delayed",
];

/// What may happen to a node for a while.
pub(crate) const SPELLS: [&str; 7] = [
    "server stopped",
    "server away",
    "requests lost for a while",
    "replies lost for a while",
    "restarted",
    "amnesia",
    "clock jumped",
];

fn mishap(which: usize, late: Duration) -> Mishap {
    match which {
        0 => Mishap::Refused(FaultKind::Refused),
        1 => Mishap::Error(FaultKind::Loading),
        2 => Mishap::Cut(FaultKind::Disconnected),
        3 => Mishap::RequestLost,
        4 => Mishap::ReplyLost,
        5 => Mishap::RequestDelayed(late),
        _ => Mishap::ReplyDelayed(late),
    }
}

/// Messages meet mishaps at the schedule's odds; what was stopped arrives.
fn usual_weather(node: &SimNode, faulty: &FaultyNode, dice: &Dice) {
    let notes = Arc::clone(&node.notes);
    let dice = Dice::new(dice.below(u64::MAX), 4);
    let number = node.number;
    faulty.plan(move |command| {
        let mut at = dice.below(1_000);
        for (which, share) in notes.terms.odds.into_iter().enumerate() {
            if at < share {
                // Mostly a little late, now and then very.
                let longest = if dice.one_in(3) { LATEST } else { 40 };
                let mishap = mishap(which, Duration::from_micros(dice.below(longest * 1_000)));
                notes.count(MISHAPS[which]);
                notes.trace(format_args!("node {number} {}: {mishap:?}", Told(command)));
                return Some(mishap);
            }
            at -= share;
        }
        // Otherwise it takes its usual time, so that requests cross.
        let usual = notes.terms.latency;
        (usual > 0).then(|| {
            let takes = Duration::from_micros(dice.below(usual * 1_000));
            mishap(if dice.one_in(2) { 5 } else { 6 }, takes)
        })
    });
}

/// The first moment of a spell.
fn begin(spell: usize, node: &SimNode, faulty: &FaultyNode, dice: &Dice) {
    let away = Mishap::Refused(FaultKind::Refused);
    match spell {
        0 => faulty.always(Mishap::Stopped),
        1 => faulty.always(away),
        2 => faulty.always(Mishap::RequestLost),
        3 => faulty.always(Mishap::ReplyLost),
        4 | 5 => {
            // A server may be flushed without going away.
            if spell == 4 || dice.one_in(2) {
                faulty.always(away);
            }
            node.restart(spell == 4);
        }
        _ => {
            let by = i64::try_from(dice.below(20_000_000)).unwrap();
            node.clock.jump(by - 10_000_000);
        }
    }
}

/// One node's weather, until the schedule's work is done.
pub(crate) async fn weather(
    node: Arc<SimNode>,
    faulty: Arc<FaultyNode>,
    dice: Dice,
    may_forget: bool,
) {
    let notes = Arc::clone(&node.notes);
    usual_weather(&node, &faulty, &dice);
    if notes.terms.spells.is_empty() {
        return;
    }
    for _ in 0..3 {
        tokio::time::sleep(ms(dice.below(1_200))).await;
        let spell = notes.terms.spells[dice.index(notes.terms.spells.len())];
        let forgets = spell >= 5;
        if forgets && !may_forget {
            continue;
        }
        let name = SPELLS[spell];
        notes.count(name);
        notes.trace(format_args!("node {}: {name}", node.number));
        begin(spell, &node, &faulty, &dice);
        if spell != 6 {
            tokio::time::sleep(ms(5 + dice.below(500))).await;
        }
        notes.trace(format_args!("node {}: {name} is over", node.number));
        usual_weather(&node, &faulty, &dice);
    }
}
