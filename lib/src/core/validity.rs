//! The one formula for drift and validity.
//!
//! Invariant: whoever asks how long a lease may be relied on asks here.

use std::time::Duration;

use super::safeguards::Safeguard;
use super::time::Moment;

/// How much clocks may differ: `lease × factor + margin` is taken off every lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    factor: f64,
    margin: Duration,
}

/// One per cent: hundred times what unsynchronised quartz clocks differ by.
pub const DEFAULT_DRIFT_FACTOR: f64 = 0.01;
/// Redis expires keys to the millisecond on a cached clock: one for each end.
pub const DEFAULT_DRIFT_MARGIN: Duration = Duration::from_millis(2);
/// A larger factor would leave less than half of the lease.
pub const MAX_DRIFT_FACTOR: f64 = 0.5;

impl Default for Drift {
    fn default() -> Self {
        Self {
            factor: DEFAULT_DRIFT_FACTOR,
            margin: DEFAULT_DRIFT_MARGIN,
        }
    }
}

impl Drift {
    /// A drift of `lease × factor + margin`; `None` unless 0 ≤ factor ≤ [`MAX_DRIFT_FACTOR`].
    #[must_use]
    pub fn new(factor: f64, margin: Duration) -> Option<Self> {
        (0.0..=MAX_DRIFT_FACTOR)
            .contains(&factor)
            .then_some(Self { factor, margin })
    }

    /// What is taken off a lease of this length.
    #[must_use]
    pub fn of(self, lease: Duration) -> Duration {
        if !Safeguard::DriftMargin.is_on() {
            return Duration::ZERO;
        }
        lease.mul_f64(self.factor).saturating_add(self.margin)
    }

    /// Until when a lease of this length, asked for at `started`, may be relied on.
    /// A lease that its drift eats up is over when it starts.
    #[must_use]
    pub fn valid_until(self, started: Moment, lease: Duration) -> Moment {
        started + lease.saturating_sub(self.of(lease))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_seconds_lose_one_per_cent_and_two_milliseconds() {
        assert_eq!(
            Drift::default().of(Duration::from_secs(10)),
            Duration::from_millis(102)
        );
    }

    #[test]
    fn factors_that_leave_nothing_are_refused() {
        for factor in [-0.01, 0.51, f64::NAN, f64::INFINITY] {
            assert_eq!(Drift::new(factor, Duration::ZERO), None, "{factor}");
        }
    }

    proptest! {
        #[test]
        fn validity_never_exceeds_the_lease_and_never_runs_backwards(
            lease in 0u64..10_000_000, started in 0u64..10_000_000,
            factor in 0.0..=MAX_DRIFT_FACTOR, margin in 0u64..10_000,
        ) {
            let drift = Drift::new(factor, Duration::from_micros(margin)).unwrap();
            let started = Moment::from_origin(Duration::from_micros(started));
            let lease = Duration::from_micros(lease);
            let until = drift.valid_until(started, lease);
            prop_assert!(until >= started);
            prop_assert!(until <= started + lease);
            let longer = drift.valid_until(started, lease + Duration::from_millis(1));
            prop_assert!(longer >= until, "a longer lease is never valid for less");
        }
    }
}
