//! The only place that draws randomness, and its seeded twin.

use std::fmt;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::clock::{Clock as _, SystemClock, WallTime};
use crate::core::types::{CallId, OwnerId};

/// A source of random numbers.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// 64 random bits.
    fn bits(&self) -> u64;
}

/// The operating system's randomness, through a generator per thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn bits(&self) -> u64 {
        rand::rng().next_u64()
    }
}

/// The same numbers every time for the same seed, for tests.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    /// The numbers that belong to this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn bits(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .next_u64()
    }
}

/// A number in `0.0..1.0`.
pub(crate) fn roll(entropy: &dyn Entropy) -> f64 {
    const STEPS: u64 = 1 << 32;
    let step = u32::try_from(entropy.bits() % STEPS).unwrap_or(0);
    f64::from(step) / 4_294_967_296.0
}

/// A name for one acquire request.
pub(crate) fn call_id(entropy: &dyn Entropy) -> CallId {
    CallId::new(entropy.bits())
}

/// A fresh UUID of version 7.
pub(crate) fn uuid_v7(entropy: &dyn Entropy, wall: WallTime) -> uuid::Uuid {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&entropy.bits().to_le_bytes());
    random[8..].copy_from_slice(&entropy.bits().to_le_bytes()[..2]);
    uuid::Builder::from_unix_timestamp_millis(wall.as_micros() / 1_000, &random).into_uuid()
}

/// A fresh owner id: a UUID of version 7.
pub(crate) fn owner_id(entropy: &dyn Entropy, wall: WallTime) -> OwnerId {
    OwnerId::new(uuid_v7(entropy, wall).to_string()).expect("a UUID has 36 bytes")
}

impl OwnerId {
    /// A fresh owner id, a UUID of version 7: what an acquire takes that is given none.
    #[must_use]
    pub fn fresh() -> Self {
        owner_id(&SystemEntropy, SystemClock.wall())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_same_numbers_again() {
        let draw = |seed| {
            let entropy = SeededEntropy::new(seed);
            (0..4).map(|_| entropy.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn owner_ids_are_version_7_uuids() {
        let owner = owner_id(&SystemEntropy, WallTime::from_micros(1_700_000_000_000_000));
        let uuid = uuid::Uuid::parse_str(owner.as_str()).unwrap();
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_timestamp().unwrap().to_unix().0, 1_700_000_000);
    }

    #[test]
    fn fresh_owner_ids_differ() {
        let all: std::collections::BTreeSet<_> = (0..1_000).map(|_| OwnerId::fresh()).collect();
        assert_eq!(all.len(), 1_000);
    }

    #[test]
    fn rolls_stay_below_one() {
        #[derive(Debug)]
        struct Highest;
        impl Entropy for Highest {
            fn bits(&self) -> u64 {
                u64::MAX
            }
        }
        assert!(roll(&Highest) < 1.0);
    }
}
