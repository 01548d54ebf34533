//! How durations are spread: counts in buckets, small enough to keep one for every group of keys.
//!
//! Invariant: a bucket stands for its upper edge, so no quantile is below the one of what was
//! recorded, nor more than 1/32 above it. The number of buckets is bounded, whatever is recorded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Durations up to here have a bucket for each millisecond; longer ones 32 for each doubling.
const EXACT: u64 = 64;
const EXACT_BITS: u32 = EXACT.ilog2();
/// More than any lease or wait may last: what is longer counts as this.
pub const LONGEST: u64 = 7 * 24 * 3_600_000;

/// Counts of durations in milliseconds.
///
/// On the wire it is a list of pairs, `[[milliseconds, count], …]`, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Spread {
    buckets: BTreeMap<u64, u64>,
}

impl Spread {
    /// Counts one duration.
    pub fn record(&mut self, millis: u64) {
        self.add(millis, 1);
    }

    /// Counts a duration that was seen so many times.
    pub fn add(&mut self, millis: u64, count: u64) {
        if count > 0 {
            let bucket = self.buckets.entry(edge(millis)).or_default();
            *bucket = bucket.saturating_add(count);
        }
    }

    /// Counts all that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        for (millis, count) in other.iter() {
            self.add(millis, count);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.values().copied().fold(0, u64::saturating_add)
    }

    /// The shortest duration that is not exceeded by this share of all; `None` of nothing.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            1.0
        };
        let wanted = share * float(self.count());
        let mut seen = 0.0;
        for (millis, count) in self.iter() {
            seen += float(count);
            if seen >= wanted && seen > 0.0 {
                return Some(millis);
            }
        }
        self.longest()
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Option<u64> {
        self.buckets.last_key_value().map(|(millis, _)| *millis)
    }

    /// The buckets from short to long: milliseconds, and how many.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().map(|(millis, count)| (*millis, *count))
    }

    /// The mean of `of` each duration; zero of nothing.
    #[must_use]
    pub fn mean(&self, of: impl Fn(f64) -> f64) -> f64 {
        let count = float(self.count());
        if count <= 0.0 {
            return 0.0;
        }
        let weigh = |(millis, seen): (u64, u64)| of(float(millis)) * (float(seen) / count);
        self.iter().map(weigh).sum()
    }
}

impl From<Vec<(u64, u64)>> for Spread {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut spread = Self::default();
        for (millis, count) in pairs {
            spread.add(millis, count);
        }
        spread
    }
}

impl From<Spread> for Vec<(u64, u64)> {
    fn from(spread: Spread) -> Self {
        spread.buckets.into_iter().collect()
    }
}

/// The upper edge of the bucket that this duration falls in.
fn edge(millis: u64) -> u64 {
    let millis = millis.min(LONGEST);
    if millis < EXACT {
        return millis;
    }
    let shift = millis.ilog2() + 1 - EXACT_BITS;
    let upper = (((millis >> shift) + 1) << shift) - 1;
    upper.min(LONGEST)
}

/// A count or a duration, for arithmetic that needs no last digit.
#[allow(
    clippy::cast_precision_loss,
    reason = "the figures are rounded when they are shown"
)]
pub(super) const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quantile_is_never_below_the_real_one_and_little_above_it(
            mut all in prop::collection::vec(0..10_000_000_u64, 1..300),
            share in 0.0..=1.0_f64,
        ) {
            let mut spread = Spread::default();
            for millis in &all {
                spread.record(*millis);
            }
            all.sort_unstable();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rank = (share * float(all.len() as u64)).ceil() as usize;
            let real = all[rank.max(1) - 1];
            let told = spread.quantile(share).unwrap();
            prop_assert!(told >= real && told <= real + real / 32 + 1, "{told} for {real}");
        }

        #[test]
        fn it_stays_small_whatever_is_recorded(
            all in prop::collection::vec(any::<(u64, u64)>(), 0..500),
        ) {
            let spread = Spread::from(all);
            prop_assert!(spread.buckets.len() < 1_000);
            prop_assert!(spread.longest().unwrap_or(0) <= LONGEST);
            let _ = (spread.count(), spread.mean(|millis| millis));
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Spread::default().quantile(0.5), None);
        assert!(Spread::default().mean(|millis| millis).abs() < f64::EPSILON);
    }

    #[test]
    fn it_is_written_and_read_as_pairs() {
        let spread: Spread = serde_json::from_str("[[5, 2], [700, 1], [5, 1]]").unwrap();
        assert_eq!(spread.count(), 4);
        let written = serde_json::to_string(&spread).unwrap();
        assert_eq!(serde_json::from_str::<Spread>(&written).unwrap(), spread);
    }
}
