//! The simulation's weather: what happens to messages, and to servers for a while.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use everlock::FaultKind;
use everlock::clock::Clock as _;
use everlock::node::faulty::{FaultyNode, Mishap};
use everlock::protocol::Register;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spell {
    /// Requests are kept, and arrive when it goes on.
    Stopped,
    /// Nobody listens.
    Away,
    /// The way to it is cut, one way.
    RequestsLost,
    /// The way back is cut, one way.
    RepliesLost,
    /// A restart that keeps everything.
    Restarted,
    /// All is gone, the marker too: after a restart, or under a server that goes on.
    Amnesia,
    /// A restart from data that is up to a second old.
    RolledBack,
    /// The clock jumps, either way.
    ClockJumped,
}

impl Spell {
    pub(crate) const ALL: [Self; 8] = [
        Self::Stopped,
        Self::Away,
        Self::RequestsLost,
        Self::RepliesLost,
        Self::Restarted,
        Self::Amnesia,
        Self::RolledBack,
        Self::ClockJumped,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "server stopped",
            Self::Away => "server away",
            Self::RequestsLost => "requests lost for a while",
            Self::RepliesLost => "replies lost for a while",
            Self::Restarted => "restarted",
            Self::Amnesia => "amnesia",
            Self::RolledBack => "rolled back",
            Self::ClockJumped => "clock jumped",
        }
    }

    /// Whether it may only strike a minority.
    const fn is_grave(self) -> bool {
        matches!(self, Self::Amnesia | Self::RolledBack | Self::ClockJumped)
    }
}

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
    let mut last_arrival = 0;
    faulty.plan(move |command| {
        let mut at = dice.below(1_000);
        let mut met = None;
        for (which, share) in notes.terms.odds.into_iter().enumerate() {
            if at < share {
                // Mostly a little late, now and then very.
                let longest = if dice.one_in(3) { LATEST } else { 40 };
                let mishap = mishap(which, Duration::from_micros(dice.below(longest * 1_000)));
                notes.count(MISHAPS[which]);
                notes.trace(format_args!("node {number} {}: {mishap:?}", Told(command)));
                met = Some(mishap);
                break;
            }
            at -= share;
        }
        // Otherwise it takes its usual time, so that requests cross.
        let usual = notes.terms.latency;
        if met.is_none() && usual > 0 {
            let takes = Duration::from_micros(dice.below(usual * 1_000));
            met = Some(mishap(if dice.one_in(2) { 5 } else { 6 }, takes));
        }
        let arrival = match met {
            Some(Mishap::RequestDelayed(late)) => notes.now() + micros(late),
            _ => notes.now(),
        };
        if arrival < last_arrival {
            notes.count("reordered");
        }
        last_arrival = last_arrival.max(arrival);
        met
    });
}

fn micros(late: Duration) -> u64 {
    u64::try_from(late.as_micros()).unwrap()
}

/// The first moment of a spell.
fn begin(spell: Spell, node: &SimNode, faulty: &FaultyNode, dice: &Dice, old: Register) {
    let away = Mishap::Refused(FaultKind::Refused);
    match spell {
        Spell::Stopped => faulty.always(Mishap::Stopped),
        Spell::Away => faulty.always(away),
        Spell::RequestsLost => faulty.always(Mishap::RequestLost),
        Spell::RepliesLost => faulty.always(Mishap::ReplyLost),
        Spell::Restarted => {
            faulty.always(away);
            node.restart();
        }
        Spell::RolledBack => {
            faulty.always(away);
            node.unreliable.store(true, Ordering::Relaxed);
            node.restart_from(old);
        }
        Spell::Amnesia => {
            // A server may be flushed without going away.
            if dice.one_in(2) {
                faulty.always(away);
            }
            node.restart_from(Register::default());
        }
        Spell::ClockJumped => {
            let by = i64::try_from(dice.below(20_000_000)).unwrap();
            node.unreliable.store(true, Ordering::Relaxed);
            let by = by - 10_000_000;
            let before = node.clock.thrown();
            if before != 0 && (before + by).unsigned_abs() < THERE_AND_BACK {
                return;
            }
            node.notes.trace(format_args!("its clock jumps by {by}"));
            node.clock.jump(by);
            node.notes.lines.clock_set(node.number, node.clock.wall());
        }
    }
}

/// A clock is not set back to nearly where it stood, within so many microseconds: a jump
/// there and back that no reply falls between leaves a step too small to be noticed, as
/// docs/protocol.md says, and one schedule of 100,000 showed it.
const THERE_AND_BACK: u64 = 200_000;

/// One node's weather, until the schedule's work is done.
pub(crate) async fn weather(
    node: Arc<SimNode>,
    faulty: Arc<FaultyNode>,
    dice: Dice,
    in_minority: bool,
) {
    let notes = Arc::clone(&node.notes);
    usual_weather(&node, &faulty, &dice);
    if notes.terms.spells.is_empty() {
        return;
    }
    for _ in 0..3 {
        tokio::time::sleep(ms(dice.below(1_200))).await;
        let spell = notes.terms.spells[dice.index(notes.terms.spells.len())];
        if spell.is_grave() && !in_minority {
            continue;
        }
        let mut old = Register::default();
        if spell == Spell::RolledBack {
            old = node.memory.snapshot();
            tokio::time::sleep(ms(dice.below(1_000))).await;
        }
        notes.count(spell.name());
        notes.trace(format_args!("node {}: {}", node.number, spell.name()));
        begin(spell, &node, &faulty, &dice, old);
        if spell != Spell::ClockJumped {
            let longest = if dice.one_in(8) { 3_000 } else { 500 };
            tokio::time::sleep(ms(5 + dice.below(longest))).await;
        }
        notes.trace(format_args!(
            "node {}: {} is over",
            node.number,
            spell.name()
        ));
        usual_weather(&node, &faulty, &dice);
    }
}
