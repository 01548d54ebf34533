//! Fencing tokens, and the clock that proposes them.
//!
//! A token is a whole number below 2^53, so that JSON and Lua carry it exactly.
//! Proposals follow the nodes' median clock: being right only makes a first
//! proposal likely to be high enough. That tokens rise rests on the floors that
//! the nodes keep, on no clock at all.

use std::fmt;
use std::time::Duration;

use super::time::WallTime;

/// A number that rises with every acquisition of one resource.
///
/// Storage that remembers the highest token it has seen and refuses lower ones
/// is safe even from a holder whose lease ended without its noticing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The highest token there can be.
    pub const MAX: Self = Self((1 << 53) - 1);
    /// Below every token that is ever granted.
    pub const ZERO: Self = Self(0);

    /// The token with this number; clamped to [`FencingToken::MAX`].
    #[must_use]
    pub const fn new(number: u64) -> Self {
        if number > Self::MAX.0 {
            Self::MAX
        } else {
            Self(number)
        }
    }

    /// The number, always below 2^53.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The next higher token.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The token so many above this one.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        // u64::from is not const yet.
        Self::new(self.0.saturating_add(count as u64))
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FencingToken({})", self.0)
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> Self {
        token.0
    }
}

/// Proposals this many microseconds ahead of the nodes' clocks fall back to them.
const FAR_AHEAD: u64 = 1_000_000;

/// A hybrid logical clock: microseconds of the nodes' median time, never twice the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenClock {
    last: u64,
    /// The nodes' median time less ours, in microseconds.
    offset: i64,
}

impl TokenClock {
    /// The next proposal: above `floor`, and above every proposal before it
    /// that was not itself forced upwards by a floor. So many tokens above it are
    /// proposed by nobody here either.
    pub fn propose(
        &mut self,
        wall: WallTime,
        floor: Option<FencingToken>,
        reserve: u32,
    ) -> FencingToken {
        let aligned = wall.as_micros().saturating_add_signed(self.offset);
        self.last = aligned.max(self.last.saturating_add(1));
        let own = FencingToken::new(self.last);
        self.last = self.last.saturating_add(reserve.into());
        // One key's high floor must not lift the proposals for all other keys.
        floor.map_or(own, |floor| own.max(floor.next()))
    }

    /// How long ago this token was proposed, as far as it was not forced upwards by a floor.
    #[must_use]
    pub fn age(&self, wall: WallTime, token: FencingToken) -> Duration {
        let now = wall.as_micros().saturating_add_signed(self.offset);
        Duration::from_micros(now.saturating_sub(token.as_u64()))
    }

    /// Follows the nodes' median clock, seen while ours said `wall`.
    pub fn align(&mut self, wall: WallTime, median: WallTime) {
        let to_signed = |time: WallTime| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        self.offset = to_signed(median).saturating_sub(to_signed(wall));
        // A clock that was far ahead must be able to come back, or its proposals
        // stay refused; what a round trip makes of it is no reason to fall.
        if self.last > median.as_micros().saturating_add(FAR_AHEAD) {
            self.last = median.as_micros();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_micros(1_000_000);

    #[test]
    fn proposals_rise_even_while_the_clock_stands_still_or_steps_back() {
        let mut clock = TokenClock::default();
        let first = clock.propose(NOW, None, 0);
        let second = clock.propose(NOW, None, 0);
        let third = clock.propose(WallTime::from_micros(5), None, 0);
        assert!(first < second && second < third);
    }

    #[test]
    fn a_floor_lifts_one_proposal_and_not_those_for_other_keys() {
        let mut clock = TokenClock::default();
        let lifted = clock.propose(NOW, Some(FencingToken::new(9_000_000)), 0);
        assert_eq!(lifted.as_u64(), 9_000_001);
        assert!(clock.propose(NOW, None, 0).as_u64() < 9_000_000);
    }

    #[test]
    fn a_wild_local_clock_is_brought_back_to_the_nodes_time() {
        let mut clock = TokenClock::default();
        let wild = WallTime::from_micros(500_000_000);
        assert_eq!(clock.propose(wild, None, 0).as_u64(), 500_000_000);
        clock.align(wild, NOW);
        let next = clock.propose(wild, None, 0).as_u64();
        assert!((1_000_000..1_000_010).contains(&next), "{next}");
    }

    #[test]
    fn what_is_reserved_is_not_proposed_again() {
        let mut clock = TokenClock::default();
        let first = clock.propose(NOW, None, 10);
        let second = clock.propose(NOW, None, 0);
        assert_eq!(second, first.plus(11));
    }

    #[test]
    fn tokens_stay_exact_in_json() {
        assert_eq!(FencingToken::new(u64::MAX), FencingToken::MAX);
        assert_eq!(FencingToken::MAX.next(), FencingToken::MAX);
    }
}
