//! Whether the nodes' clocks still stand to one another as they did.
//!
//! A node whose clock jumped forward lets leases go early: its vote must not
//! count until every lease from before the jump is over. Each node's marker
//! keeps its *baseline*: how far its clock is ahead of the others. A reply with a
//! node's time, received in a known span of this client's own time, says how far
//! the clock has shifted from that baseline, give or take the time on the way.
//! An error of the client's own clock shifts all nodes alike, so shifts say
//! nothing alone: **votes count together only if their shifts have a point in
//! common.** Of a quorum of nodes one at least did not jump while only a
//! minority did, so a quorum of votes that agree has no jumped node in it. And the
//! vote of a node of which no baseline is known counts with no other: who cannot
//! say how a clock stood cannot say that it still does.

use std::time::Duration;

use super::safeguards::Safeguard;
use super::time::{Moment, WallTime, micros};

/// Steps below this are not told from noise, nor by any lease of two seconds or more from drift.
pub const SHIFT_ALLOWANCE: Duration = Duration::from_millis(20);
/// Drift that is no jump, in a hundred: what validity compensates for.
const DRIFT_PER_CENT: u64 = 1;

/// From the lowest to the highest that a clock may be ahead of another, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    lowest: i64,
    highest: i64,
}

impl Span {
    /// Nothing is known.
    pub const ANY: Self = Self {
        lowest: i64::MIN,
        highest: i64::MAX,
    };

    /// Not even that: it shares no point with any other, nor with itself.
    pub const UNKNOWN: Self = Self {
        lowest: i64::MAX,
        highest: i64::MIN,
    };

    /// How far a clock is ahead of the local one: it said `time` at some moment
    /// between the two. A slow reply makes the span wide, and proves little.
    #[must_use]
    pub fn measured(time: WallTime, sent: Moment, received: Moment) -> Self {
        let time = signed(time.as_micros());
        let ahead = |of: Moment| time.saturating_sub(signed(micros(of.since_origin())));
        Self {
            lowest: ahead(received.max(sent)),
            highest: ahead(sent),
        }
    }

    /// The middle, which is wrong by [`Span::half_width`] at most.
    #[must_use]
    pub const fn middle(self) -> i64 {
        i64::midpoint(self.lowest, self.highest)
    }

    /// Half of the width, rounded up.
    #[must_use]
    pub const fn half_width(self) -> u64 {
        self.highest.abs_diff(self.lowest).div_ceil(2)
    }

    pub(crate) const fn start(self) -> i64 {
        self.lowest
    }

    pub(crate) const fn is_unknown(self) -> bool {
        self.lowest > self.highest
    }

    pub(crate) const fn has(self, point: i64) -> bool {
        self.lowest <= point && point <= self.highest
    }
}

/// How far a node's clock was ahead of the others when that was last noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// By so many microseconds, against an origin that all baselines share.
    pub offset: i64,
    /// Give or take so many microseconds.
    pub width: u64,
    /// When, by the node's own clock.
    pub at: WallTime,
}

impl Baseline {
    /// By how much the offset may be wrong at `time` though nothing jumped.
    #[must_use]
    pub fn uncertainty(&self, time: WallTime) -> u64 {
        let age = time.as_micros().abs_diff(self.at.as_micros());
        self.width.saturating_add(age / 100 * DRIFT_PER_CENT)
    }

    /// How far the clock has shifted, if it said `time` and was measured to be `offset` ahead.
    #[must_use]
    pub fn shift(&self, offset: Span, time: WallTime) -> Span {
        let uncertainty = self.uncertainty(time);
        let slack = signed(uncertainty.saturating_add(micros(SHIFT_ALLOWANCE)));
        let shifted = |end: i64| end.saturating_sub(self.offset);
        Span {
            lowest: shifted(offset.lowest).saturating_sub(slack),
            highest: shifted(offset.highest).saturating_add(slack),
        }
    }
}

/// What a marker says of the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ClockRecord {
    /// When the clock last jumped, by itself; 0 if it never did. What is said of
    /// the clock in another era is disregarded, so that one jump is told once.
    pub era: WallTime,
    /// The first baseline of the era.
    pub first: Option<Baseline>,
    /// The present one.
    pub baseline: Option<Baseline>,
}

impl ClockRecord {
    /// How much the clock gains on the others, in millionths; `None` before that
    /// was watched for a minute.
    #[must_use]
    pub fn drift_ppm(&self) -> Option<i64> {
        const LEAST: Duration = Duration::from_mins(1);
        let (first, last) = (self.first?, self.baseline?);
        let watched = last.at.saturating_since(first.at);
        if watched < LEAST {
            return None;
        }
        let gained = i128::from(last.offset) - i128::from(first.offset);
        let watched = i128::try_from(watched.as_micros()).ok()?;
        i64::try_from(gained * 1_000_000 / watched).ok()
    }
}

/// Why a clock has a new baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStep {
    /// It had none, or has drifted since.
    Refresh,
    /// So many clocks jumped that none can be judged by the others; all leases
    /// from before are over. A new era begins.
    Rebase,
    /// The clock jumped, by so many microseconds: leases may have ended early.
    /// The node waits for the longest lease, and a new era begins.
    Jumped {
        /// Forward if positive.
        by: i64,
    },
}

/// The baselines that a client knows, by node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Baselines(Vec<Option<Baseline>>);

impl Baselines {
    /// These, in the order of the nodes.
    #[must_use]
    pub const fn of(nodes: Vec<Option<Baseline>>) -> Self {
        Self(nodes)
    }

    /// How far a node's clock has shifted from its baseline, by a reply that was
    /// asked for and received at these moments. [`Span::UNKNOWN`], where the client
    /// has no baseline for the node (yet); anything, for a reply that tells no time.
    #[must_use]
    pub fn shift(
        &self,
        node: usize,
        time: Option<WallTime>,
        sent: Moment,
        received: Moment,
    ) -> Span {
        match (self.0.get(node), time) {
            (Some(known), Some(time)) if Safeguard::ClockGuard.is_on() => known
                .map_or(Span::UNKNOWN, |baseline| {
                    baseline.shift(Span::measured(time, sent, received), time)
                }),
            _ => Span::ANY,
        }
    }

    /// What the other nodes' clocks say when this one says `time`.
    #[must_use]
    pub fn common_time(&self, node: usize, time: WallTime) -> WallTime {
        let ahead = match self.0.get(node) {
            Some(Some(baseline)) => baseline.offset,
            _ => 0,
        };
        let micros = i128::from(time.as_micros()) - i128::from(ahead);
        WallTime::from_micros(u64::try_from(micros.max(0)).unwrap_or(u64::MAX))
    }
}

/// The most nodes of which the shifts agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// How many there are.
    pub count: usize,
    point: i64,
}

impl Agreement {
    /// The largest group of shifts with a point in common; the lowest of equally
    /// large ones. No group has one that is unknown.
    #[must_use]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "iterators are handed over, and copied where they are walked"
    )]
    pub fn among(shifts: impl Iterator<Item = Span> + Clone) -> Self {
        // Spans that share a point share the lower end of one of them.
        let depth = |point: i64| shifts.clone().filter(|span| span.has(point)).count();
        // Nearly always all agree, and then they do so where the last one begins.
        let last_start = shifts.clone().map(|span| span.lowest).max();
        let point = last_start.unwrap_or(i64::MIN);
        let count = depth(point);
        let mut best = Self { count, point };
        if count == shifts.clone().count() {
            return best;
        }
        for point in shifts.clone().map(|span| span.lowest) {
            let count = depth(point);
            if count > best.count || (count == best.count && point < best.point) {
                best = Self { count, point };
            }
        }
        best
    }

    /// Whether a node with this shift belongs to the group.
    #[must_use]
    pub const fn includes(&self, shift: Span) -> bool {
        shift.has(self.point)
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}
