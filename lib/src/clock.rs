//! The only place that reads time.
//!
//! Validity is measured on a clock that goes on while the machine is suspended
//! (`CLOCK_BOOTTIME` on Linux), so that a laptop lid or a paused virtual machine
//! cannot stretch a lease. The wall clock only ever helps to propose tokens.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

pub use crate::core::time::{Moment, WallTime};

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment on a monotonic clock that counts suspended time.
    fn now(&self) -> Moment;
    /// What the wall clock says; it may be wrong, and may step.
    fn wall(&self) -> WallTime;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let id = rustix::time::ClockId::Boottime;
        // Elsewhere CLOCK_MONOTONIC is the best there is; on Apple's systems it counts sleep too.
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let id = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(id);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Moment::from_origin(Duration::new(seconds, nanos))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that the ban points to"
    )]
    fn wall(&self) -> WallTime {
        let since_epoch = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = since_epoch.map_or(0, |elapsed| elapsed.as_micros());
        WallTime::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Moment, WallTime)>);

impl ManualClock {
    /// A clock that stands at some moment, its wall clock at `wall`.
    #[must_use]
    pub fn at(wall: WallTime) -> Self {
        Self(Mutex::new((
            Moment::from_origin(Duration::from_secs(1_000)),
            wall,
        )))
    }

    fn with<T>(&self, change: impl FnOnce(&mut (Moment, WallTime)) -> T) -> T {
        change(
            &mut self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    /// Lets this much time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        self.with(|(now, wall)| {
            *now = *now + by;
            *wall = wall.plus(by);
        });
    }

    /// Sets the wall clock, as an operator or a time server does; no time passes.
    pub fn step_wall(&self, to: WallTime) {
        self.with(|(_, wall)| *wall = to);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        self.with(|(now, _)| *now)
    }

    fn wall(&self) -> WallTime {
        self.with(|(_, wall)| *wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_goes_forward() {
        let first = SystemClock.now();
        assert!(SystemClock.now() >= first);
        assert!(SystemClock.wall() > WallTime::from_micros(1_700_000_000_000_000));
    }

    #[test]
    fn a_step_of_the_wall_clock_lets_no_time_pass() {
        let clock = ManualClock::at(WallTime::from_micros(10));
        let before = clock.now();
        clock.step_wall(WallTime::from_micros(1));
        assert_eq!(
            (clock.now(), clock.wall()),
            (before, WallTime::from_micros(1))
        );
        clock.advance(Duration::from_micros(3));
        assert_eq!(clock.wall(), WallTime::from_micros(4));
    }
}
