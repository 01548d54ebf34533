//! Handing a lock on inside one process: who may have it next, and under which token.
//!
//! A proposal may reserve tokens. Once it is granted, the process can pass the lock on
//! under them without asking the nodes, which know of one holder. It is passed on to
//! those alone who had asked before the proposal was made: its *cohort*.
//!
//! Invariant: no token is given twice, and each is above the one before. And whoever is
//! given one had asked before anybody else could have a higher one: who is granted the
//! lock after this grant was not granted it when the cohort had asked. No clock is
//! needed for that, as for the tokens of the nodes.

use std::time::Duration;

use super::renewal::RENEW_AT;
use super::token::FencingToken;
use super::validity::Drift;

/// Tokens that one proposal reserves at most: floors must not run far ahead of clocks,
/// of which tokens are microseconds.
pub(crate) const MAX_RESERVE: u32 = 64;

/// Who comes late to what was handed to it still has this part of the validity.
const LEFT_AT_LEAST: f64 = 0.5;

/// What was proposed for those who come after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// So many tokens above the proposed one.
    pub(crate) tokens: u32,
    /// Whoever asked under a lower number had asked before anything was sent.
    pub(crate) before: u64,
}

impl Reserved {
    /// For nobody.
    pub(crate) const NOTHING: Self = Self {
        tokens: 0,
        before: 0,
    };
}

/// Those who had asked before a grant was asked for, and the tokens reserved for them.
#[derive(Clone, Debug)]
pub(crate) struct Cohort {
    given: FencingToken,
    last: FencingToken,
    before: u64,
    lease: Duration,
    /// For how long the whole lease may be relied on.
    validity: Duration,
}

/// Who waits for the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heir {
    /// The number under which it asked; numbers rise.
    pub(crate) asked: u64,
    /// The lease that it asked for.
    pub(crate) lease: Duration,
    /// The validity that must be left.
    pub(crate) min_validity: Duration,
}

impl Cohort {
    /// Of a grant under this token; `None` if nothing was reserved.
    #[must_use]
    pub(crate) fn of(
        token: FencingToken,
        reserved: Reserved,
        lease: Duration,
        drift: Drift,
    ) -> Option<Self> {
        (reserved.tokens > 0).then(|| Self {
            given: token,
            last: token.plus(reserved.tokens),
            before: reserved.before,
            lease,
            validity: lease.saturating_sub(drift.of(lease)),
        })
    }

    /// Whether a lock that was handed on may be taken when so much validity is `left`.
    pub(crate) fn may_take(&self, left: Duration, min_validity: Duration) -> bool {
        left >= self.validity.mul_f64(LEFT_AT_LEAST) && left > min_validity
    }

    /// The token under which this heir may have the lock now, of which so much validity
    /// is `left`. `None` if it must ask the nodes.
    ///
    /// `released` is the number at which the lock was last known to be let go: if that
    /// was after the grant was asked for, it may be this grant's end.
    pub(crate) fn hand_on(
        &mut self,
        heir: Heir,
        left: Duration,
        released: u64,
    ) -> Option<FencingToken> {
        let had_asked = heir.asked < self.before;
        // Who asked for a lease has nearly all of it, as if it had been granted just now.
        let fresh = left >= self.validity.mul_f64(RENEW_AT) && left > heir.min_validity;
        let may = had_asked
            && released < self.before
            && heir.lease == self.lease
            && fresh
            && self.given < self.last;
        if !may {
            return None;
        }
        self.given = self.given.next();
        Some(self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn cohort(tokens: u32, before: u64) -> Option<Cohort> {
        let token = FencingToken::new(1_000);
        let reserved = Reserved { tokens, before };
        Cohort::of(token, reserved, LEASE, Drift::default())
    }

    fn heir(asked: u64) -> Heir {
        Heir {
            asked,
            lease: LEASE,
            min_validity: Duration::ZERO,
        }
    }

    #[test]
    fn a_grant_that_reserved_nothing_is_nobody_elses() {
        assert!(cohort(0, 10).is_none());
    }

    #[test]
    fn who_asked_later_or_for_another_lease_must_ask_the_nodes() {
        let mut cohort = cohort(4, 10).unwrap();
        assert_eq!(cohort.hand_on(heir(10), LEASE, 0), None, "asked later");
        let longer = Heir {
            lease: LEASE * 2,
            ..heir(9)
        };
        assert_eq!(cohort.hand_on(longer, LEASE, 0), None, "wants more");
        assert_eq!(cohort.hand_on(heir(9), LEASE, 10), None, "was let go");
        assert!(cohort.hand_on(heir(9), LEASE, 9).is_some());
    }

    #[test]
    fn a_lease_that_should_be_renewed_by_now_is_not_handed_on() {
        let mut cohort = cohort(4, 10).unwrap();
        let left = LEASE.mul_f64(0.6);
        assert_eq!(cohort.hand_on(heir(1), left, 0), None);
        let demanding = Heir {
            min_validity: LEASE.mul_f64(0.9),
            ..heir(1)
        };
        let left = LEASE.mul_f64(0.9);
        assert_eq!(cohort.hand_on(demanding, left, 0), None);
        assert!(cohort.hand_on(heir(1), left, 0).is_some());
    }

    proptest! {
        #[test]
        fn tokens_rise_within_what_was_reserved_and_go_to_the_cohort_alone(
            tokens in 1..=MAX_RESERVE,
            before in 0u64..50,
            asks in prop::collection::vec((0u64..60, 0u64..12_000, 0u64..60, any::<bool>()), 0..200),
        ) {
            let mut cohort = cohort(tokens, before).unwrap();
            let mut last = FencingToken::new(1_000);
            for (asked, left, released, same) in asks {
                let lease = if same { LEASE } else { LEASE / 2 };
                let heir = Heir { lease, ..heir(asked) };
                let left = Duration::from_millis(left);
                if let Some(token) = cohort.hand_on(heir, left, released) {
                    prop_assert!(token > last && token <= FencingToken::new(1_000).plus(tokens));
                    prop_assert!(asked < before && released < before && same);
                    prop_assert!(left > LEASE / 2);
                    last = token;
                }
            }
        }
    }
}
