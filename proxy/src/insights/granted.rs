//! Locks that were acquired here and not released: so that it can be told whether a release or an
//! extension that found no lock came too late, or had nothing to do with it.
//!
//! Invariant: so many are remembered at most, and remembering one more looks at all of them seldom.
//! Of clients that never release, the old ones are forgotten; where all are young, new ones are not
//! remembered.

use std::collections::HashMap;
use std::time::Duration;

use everlock::clock::Moment;

const MOST: usize = 16_384;
/// Holders that take longer are forgotten when there is no room.
const KEPT: Duration = Duration::from_mins(10);
/// Room is looked for this often at most.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Granted {
    /// By key and owner: since when, and the lease.
    locks: HashMap<u64, (Moment, Duration)>,
    swept: Option<Moment>,
}

impl Granted {
    pub(super) fn remember(&mut self, lock: u64, lease: Duration, now: Moment) {
        if self.locks.len() >= MOST && self.may_sweep(now) {
            let young =
                |_: &u64, (since, _): &mut (Moment, Duration)| now.saturating_since(*since) < KEPT;
            self.locks.retain(young);
            self.swept = Some(now);
        }
        if self.locks.len() < MOST || self.locks.contains_key(&lock) {
            self.locks.insert(lock, (now, lease));
        }
    }

    /// The lease of a lock that is held no longer, if it was remembered.
    pub(super) fn forget(&mut self, lock: u64) -> Option<Duration> {
        Some(self.locks.remove(&lock)?.1)
    }

    fn may_sweep(&self, now: Moment) -> bool {
        self.swept
            .is_none_or(|last| now.saturating_since(last) >= SWEEP_EVERY)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(1);

    #[test]
    fn grants_that_nobody_releases_are_not_remembered_without_bound() {
        let mut granted = Granted::default();
        let begin = Moment::default();
        for lock in 0..3 * MOST as u64 {
            granted.remember(lock, LEASE, begin);
        }
        assert_eq!(granted.locks.len(), MOST);
        granted.remember(u64::MAX, LEASE, begin + KEPT);
        assert_eq!(granted.locks.len(), 1, "the old ones made room");
        assert_eq!(granted.forget(u64::MAX), Some(LEASE));
        assert_eq!(granted.forget(u64::MAX), None);
    }

    #[test]
    fn who_finds_no_room_does_not_look_for_it_each_time() {
        let mut granted = Granted::default();
        let begin = Moment::default();
        for lock in 0..=MOST as u64 {
            granted.remember(lock, LEASE, begin);
        }
        assert_eq!(granted.swept, Some(begin));
        let soon = begin + Duration::from_secs(1);
        granted.remember(u64::MAX, LEASE, soon);
        assert_eq!(granted.swept, Some(begin), "a moment ago there was none");
        // Who is remembered already needs none.
        granted.remember(7, LEASE * 2, soon);
        assert_eq!(granted.forget(7), Some(LEASE * 2));
    }
}
