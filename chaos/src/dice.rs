//! Choices that follow from a seed.

use std::time::Duration;

use everlock::entropy::{Entropy as _, SeededEntropy};

#[derive(Debug)]
pub(crate) struct Dice(SeededEntropy);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    pub(crate) fn bits(&self) -> u64 {
        self.0.bits()
    }

    pub(crate) fn below(&self, sides: u64) -> u64 {
        self.bits() % sides
    }

    pub(crate) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// An index into a list of this length.
    pub(crate) fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    /// Any time up to `most` milliseconds, from `least`.
    pub(crate) fn millis(&self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    /// The same, where each order of magnitude is as likely as the next: mostly short.
    pub(crate) fn mostly_short(&self, least: u64, most: u64) -> Duration {
        let doublings = (most / least).ilog2() + 1;
        let scale = least << self.below(u64::from(doublings));
        self.millis(scale, (2 * scale).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_within_their_bounds() {
        let dice = Dice::new(1);
        for _ in 0..10_000 {
            let time = dice.mostly_short(10, 4_000);
            assert!((10..=4_000).contains(&time.as_millis()), "{time:?}");
        }
    }
}
