//! The two kinds of time: what has elapsed here, and what a wall clock says.
//!
//! Invariant: validity is only ever computed from [`Moment`]s. [`WallTime`] is
//! used for tokens (where being wrong costs a round trip, never safety) and for
//! what a node says about its own clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A reading of a monotonic clock that also counts while the machine is suspended.
///
/// Moments of one process compare with each other and with nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment that lies `since_origin` after the clock's arbitrary origin.
    #[must_use]
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// How long after the clock's arbitrary origin this moment lies.
    #[must_use]
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}

/// A wall clock's reading in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// The reading that lies `micros` microseconds after the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// This reading, later by `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }

    /// This reading, earlier by `by`; the epoch at the earliest.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }

    /// The time from `earlier` to this reading; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole microseconds, saturating.
#[must_use]
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in whole milliseconds, rounded up, so that a node keeps a lease no shorter than asked.
#[must_use]
pub fn millis_ceil(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The median of some nodes' clocks; the lower one of the middle two. `None` without any.
#[must_use]
pub fn median(mut times: Vec<WallTime>) -> Option<WallTime> {
    times.sort_unstable();
    let middle = times.len().checked_sub(1)? / 2;
    times.get(middle).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded_up_never_down() {
        assert_eq!(millis_ceil(Duration::from_micros(1)), 1);
        assert_eq!(millis_ceil(Duration::from_millis(7)), 7);
        assert_eq!(millis_ceil(Duration::from_micros(7_001)), 8);
    }

    #[test]
    fn time_never_runs_below_zero() {
        let early = Moment::from_origin(Duration::from_secs(1));
        assert_eq!(
            early.saturating_since(early + Duration::from_secs(1)),
            Duration::ZERO
        );
        assert_eq!(
            WallTime::from_micros(5).minus(Duration::from_secs(1)),
            WallTime::default()
        );
    }

    #[test]
    fn one_wild_clock_does_not_move_the_median() {
        let at = WallTime::from_micros;
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![at(7)]), Some(at(7)));
        assert_eq!(median(vec![at(u64::MAX), at(10), at(12)]), Some(at(12)));
        assert_eq!(
            median(vec![at(0), at(10), at(12), at(u64::MAX)]),
            Some(at(10))
        );
    }
}
