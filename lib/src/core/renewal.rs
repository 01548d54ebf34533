//! When to renew a held lock, and when it is lost: one holding's plan.
//!
//! Labelled transitions: `Held => (Held | Lost)`, and never back. A lock is lost
//! when the nodes say so or its validity ends, whichever is first; a renewal
//! that fails for another reason is tried again while the validity lasts.

use std::time::Duration;

use super::time::Moment;

/// The parts of a plan.
#[derive(Clone, Copy, Debug)]
pub struct RenewalPlan {
    /// The lease that each renewal restores.
    pub lease: Duration,
    /// How long after one renewal the next is due; when a third of the validity is
    /// over, if that is not said.
    pub interval: Option<Duration>,
    /// Until when the lock may be relied on, as it was granted.
    pub valid_until: Moment,
    /// When the lease that was granted ends on the nodes at the earliest.
    pub expires: Moment,
    /// The moment from which it is not renewed any more.
    pub not_after: Option<Moment>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewStep {
    /// Nothing, until this moment.
    SleepUntil(Moment),
    /// Extend the lease by this much; what becomes of it, until the validity ends, counts.
    Extend {
        /// The time to add.
        by: Duration,
    },
    /// The lock is lost.
    Lost(LossReason),
}

/// Why a held lock was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReason {
    /// Its validity ended before a renewal succeeded.
    Expired,
    /// The nodes said that it is not held, or held by another.
    Gone,
    /// It was held for as long as it may be.
    HeldTooLong,
}

/// How a renewal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It is valid until this moment now, and expires at the other at the earliest.
    Until {
        /// The end of the validity.
        valid_until: Moment,
        /// When the lease ends on the nodes at the earliest.
        expires: Moment,
    },
    /// The nodes said that it is not held, or held by another.
    Gone,
    /// It is not known.
    Unknown,
}

/// A lock is renewed when this share of its validity is left: two more tries fit in.
pub(crate) const RENEW_AT: f64 = 2.0 / 3.0;
/// A renewal that failed is tried again after this share of what is left.
const RETRY_AFTER: f64 = 0.25;
/// Renewals are at least this far apart, however short the lease.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);

/// Where a holding stands in its plan.
#[derive(Clone, Debug)]
pub struct Renewal {
    plan: RenewalPlan,
    next: Moment,
    lost: Option<LossReason>,
}

impl Renewal {
    /// A lock that was just granted, at `now`.
    #[must_use]
    pub fn new(plan: RenewalPlan, now: Moment) -> Self {
        let mut renewal = Self {
            plan,
            next: now,
            lost: None,
        };
        renewal.next = renewal.due(now);
        renewal
    }

    /// Until when the lock may be relied on.
    #[must_use]
    pub const fn valid_until(&self) -> Moment {
        self.plan.valid_until
    }

    /// What to do at `now`.
    pub fn step(&mut self, now: Moment) -> RenewStep {
        if let Some(reason) = self.lost {
            return RenewStep::Lost(reason);
        }
        let stopped = self
            .plan
            .not_after
            .is_some_and(|not_after| now >= not_after);
        if now >= self.plan.valid_until {
            // Held => Lost. An expired lock is never extended.
            let reason = if stopped {
                LossReason::HeldTooLong
            } else {
                LossReason::Expired
            };
            return self.lose(reason);
        }
        if stopped {
            return RenewStep::SleepUntil(self.plan.valid_until);
        }
        if now < self.next {
            let stop = self.plan.not_after.unwrap_or(self.next);
            return RenewStep::SleepUntil(self.next.min(stop).min(self.plan.valid_until));
        }
        // A renewal that is not heard of is tried again after a while.
        self.next = self.retry(now);
        RenewStep::Extend {
            by: self.missing(now),
        }
    }

    /// How much time restores the full lease at `now`.
    #[must_use]
    pub fn missing(&self, now: Moment) -> Duration {
        let left = self.plan.expires.saturating_since(now);
        let missing = self.plan.lease.saturating_sub(left);
        missing.max(Duration::from_millis(1))
    }

    /// Whether the lock may be relied on at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Moment) -> bool {
        self.lost.is_none() && now < self.plan.valid_until
    }

    /// A renewal ended like this at `now`.
    pub fn renewed(&mut self, result: Renewed, now: Moment) {
        match result {
            // Whoever asked since was told that it is over, and so it stays.
            Renewed::Until { .. } if now >= self.plan.valid_until => {}
            Renewed::Until {
                valid_until,
                expires,
            } => {
                // Answers may overtake one another, and leases only grow.
                self.plan.valid_until = self.plan.valid_until.max(valid_until);
                self.plan.expires = self.plan.expires.max(expires);
                self.next = self.due(now);
            }
            Renewed::Gone => {
                self.lost.get_or_insert(LossReason::Gone);
            }
            Renewed::Unknown => self.next = self.retry(now),
        }
    }

    fn lose(&mut self, reason: LossReason) -> RenewStep {
        RenewStep::Lost(*self.lost.get_or_insert(reason))
    }

    fn due(&self, now: Moment) -> Moment {
        let left = self.plan.valid_until.saturating_since(now);
        let pause = self.plan.interval.unwrap_or(left.mul_f64(1.0 - RENEW_AT));
        now + pause.max(SHORTEST_PAUSE)
    }

    fn retry(&self, now: Moment) -> Moment {
        let left = self.plan.valid_until.saturating_since(now);
        now + left.mul_f64(RETRY_AFTER).max(SHORTEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(9);

    fn at(millis: u64) -> Moment {
        Moment::from_origin(Duration::from_millis(millis))
    }

    fn held(not_after: Option<Moment>) -> Renewal {
        let plan = RenewalPlan {
            lease: LEASE,
            interval: None,
            valid_until: at(9_000),
            expires: at(9_000),
            not_after,
        };
        Renewal::new(plan, at(0))
    }

    #[test]
    fn a_lock_is_renewed_to_its_full_lease_when_a_third_of_it_is_over() {
        let mut renewal = held(None);
        let RenewStep::SleepUntil(due) = renewal.step(at(0)) else {
            panic!("not due yet")
        };
        assert!((2_900..=3_100).contains(&due.since_origin().as_millis()));
        assert_eq!(
            renewal.step(at(3_100)),
            RenewStep::Extend {
                by: Duration::from_millis(3_100)
            }
        );
        renewal.renewed(
            Renewed::Until {
                valid_until: at(12_100),
                expires: at(12_100),
            },
            at(3_110),
        );
        let RenewStep::SleepUntil(due) = renewal.step(at(3_110)) else {
            panic!("just renewed")
        };
        assert!(due > at(6_000));
    }

    #[test]
    fn a_lock_that_cannot_be_renewed_is_lost_at_its_deadline_not_before() {
        let mut renewal = held(None);
        let (mut now, mut tries) = (at(0), 0);
        let lost = loop {
            match renewal.step(now) {
                RenewStep::SleepUntil(next) => now = next.max(now + Duration::from_millis(1)),
                RenewStep::Extend { .. } => {
                    tries += 1;
                    renewal.renewed(Renewed::Unknown, now);
                }
                RenewStep::Lost(reason) => break reason,
            }
            assert!(now <= at(9_010), "never sleeps past the deadline");
        };
        assert_eq!((lost, now >= at(9_000)), (LossReason::Expired, true));
        assert!(
            (3..60).contains(&tries),
            "several tries and no storm: {tries}"
        );
    }

    #[test]
    fn what_the_nodes_say_is_gone_is_lost_at_once_and_for_good() {
        let mut renewal = held(None);
        renewal.renewed(Renewed::Gone, at(10));
        renewal.renewed(
            Renewed::Until {
                valid_until: at(90_000),
                expires: at(90_000),
            },
            at(20),
        );
        assert_eq!(renewal.step(at(30)), RenewStep::Lost(LossReason::Gone));
    }

    #[test]
    fn after_a_pause_beyond_the_validity_nothing_is_extended() {
        let mut renewal = held(None);
        assert_eq!(
            renewal.step(at(9_000)),
            RenewStep::Lost(LossReason::Expired)
        );
        assert_eq!(
            renewal.step(at(1)),
            RenewStep::Lost(LossReason::Expired),
            "and never back"
        );
    }

    #[test]
    fn a_renewal_that_is_heard_of_after_the_validity_brings_nothing_back() {
        let mut renewal = held(None);
        let late = Renewed::Until {
            valid_until: at(12_000),
            expires: at(12_000),
        };
        renewal.renewed(late, at(9_000));
        assert!(!renewal.is_valid(at(9_000)));
        assert_eq!(
            renewal.step(at(9_001)),
            RenewStep::Lost(LossReason::Expired)
        );
    }

    #[test]
    fn renewals_are_an_interval_apart_where_one_is_given() {
        let plan = RenewalPlan {
            lease: LEASE,
            interval: Some(Duration::from_secs(1)),
            valid_until: at(9_000),
            expires: at(9_000),
            not_after: None,
        };
        let mut renewal = Renewal::new(plan, at(0));
        assert_eq!(renewal.step(at(0)), RenewStep::SleepUntil(at(1_000)));
        assert!(matches!(renewal.step(at(1_000)), RenewStep::Extend { .. }));
        let renewed = Renewed::Until {
            valid_until: at(10_000),
            expires: at(10_000),
        };
        renewal.renewed(renewed, at(1_100));
        assert_eq!(renewal.step(at(1_100)), RenewStep::SleepUntil(at(2_100)));
        renewal.renewed(Renewed::Unknown, at(2_000));
        assert!(
            matches!(renewal.step(at(2_000)), RenewStep::SleepUntil(at) if at > Moment::default()),
            "what failed is tried again, and not in a storm"
        );
    }

    #[test]
    fn a_lock_held_for_as_long_as_it_may_be_runs_out() {
        let mut renewal = held(Some(at(5_000)));
        assert!(matches!(renewal.step(at(3_100)), RenewStep::Extend { .. }));
        renewal.renewed(
            Renewed::Until {
                valid_until: at(12_000),
                expires: at(12_000),
            },
            at(3_110),
        );
        assert_eq!(renewal.step(at(5_500)), RenewStep::SleepUntil(at(12_000)));
        assert_eq!(
            renewal.step(at(12_000)),
            RenewStep::Lost(LossReason::HeldTooLong)
        );
    }

    #[test]
    fn tiny_leases_neither_spin_nor_panic() {
        let valid_until = at(1);
        let plan = RenewalPlan {
            lease: Duration::from_millis(10),
            interval: None,
            valid_until,
            expires: valid_until,
            not_after: None,
        };
        let mut renewal = Renewal::new(plan, at(0));
        assert!(matches!(renewal.step(at(0)), RenewStep::SleepUntil(next) if next > at(0)));
        assert!(matches!(renewal.step(at(1)), RenewStep::Lost(_)));
    }
}
