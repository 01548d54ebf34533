//! The last minute, second by second.

use std::time::Duration;

use everlock::clock::Moment;
use serde::Serialize;

use super::{AcquireEnd, Ended};
use crate::advisor::Spread;

/// How many seconds are kept.
pub(super) const SECONDS: usize = 60;

#[derive(Debug)]
pub(super) struct Live {
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    second: u64,
    counts: Counts,
    /// Microseconds.
    took: Spread,
}

/// What happened in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    pub(super) acquired: u64,
    pub(super) contended: u64,
    pub(super) unavailable: u64,
    pub(super) cancelled: u64,
    pub(super) attempts: u64,
}

impl Counts {
    pub(super) fn add(&mut self, end: &Ended) {
        self.attempts += u64::from(end.attempts);
        *match end.how {
            AcquireEnd::Acquired => &mut self.acquired,
            AcquireEnd::Contended => &mut self.contended,
            AcquireEnd::Unavailable => &mut self.unavailable,
            AcquireEnd::Cancelled => &mut self.cancelled,
        } += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.acquired += other.acquired;
        self.contended += other.contended;
        self.unavailable += other.unavailable;
        self.cancelled += other.cancelled;
        self.attempts += other.attempts;
    }

    pub(super) const fn acquires(&self) -> u64 {
        self.acquired + self.contended + self.unavailable + self.cancelled
    }
}

/// The last minute.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Minute {
    /// The whole of it.
    pub(super) counts: Counts,
    /// Acquires that ended in each second, the oldest first; the present second is not among them.
    acquires: Vec<u64>,
    /// Microseconds that half of the acquires took that got their lock, and all but one in a hundred.
    p50_micros: Option<u64>,
    p99_micros: Option<u64>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![Slot::default(); SECONDS + 1],
        }
    }

    pub(super) fn ended(&mut self, end: &Ended, now: Moment) {
        let second = now.since_origin().as_secs();
        let place = usize::try_from(second).unwrap_or(0) % self.slots.len();
        let slot = &mut self.slots[place];
        if slot.second != second {
            *slot = Slot {
                second,
                ..Slot::default()
            };
        }
        slot.counts.add(end);
        if end.how == AcquireEnd::Acquired {
            slot.took.record(micros(end.took));
        }
    }

    pub(super) fn minute(&self, now: Moment) -> Minute {
        let present = now.since_origin().as_secs();
        let mut minute = Minute::default();
        let mut took = Spread::default();
        for second in present.saturating_sub(SECONDS as u64)..present {
            let place = usize::try_from(second).unwrap_or(0) % self.slots.len();
            let slot = Some(&self.slots[place]).filter(|slot| slot.second == second);
            minute
                .acquires
                .push(slot.map_or(0, |slot| slot.counts.acquires()));
            if let Some(slot) = slot {
                minute.counts.merge(&slot.counts);
                took.merge(&slot.took);
            }
        }
        minute.p50_micros = took.quantile(0.5);
        minute.p99_micros = took.quantile(0.99);
        minute
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
