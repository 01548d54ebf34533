//! Clocks of simulated hosts: the simulation's time, each at its own rate.

use std::time::Duration;

use everlock::clock::{Clock, Moment, WallTime};

const EPOCH: u64 = 1_800_000_000_000_000;
const MILLION: i128 = 1_000_000;
/// So that differences from the first moments don't run below zero.
const BEFORE: Duration = Duration::from_hours(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct WireClock {
    /// Gained in a million.
    pub(crate) rate: i64,
    /// How wrong the wall clock is, in microseconds.
    pub(crate) offset: i64,
}

impl WireClock {
    fn shown(self, elapsed: Duration) -> u64 {
        let micros = i128::try_from(elapsed.as_micros()).unwrap_or(0);
        u64::try_from(micros * (MILLION + i128::from(self.rate)) / MILLION).unwrap_or(0)
    }

    /// The wall clock when this much of the simulation is over.
    pub(crate) fn wall_at(self, elapsed: Duration) -> WallTime {
        WallTime::from_micros((EPOCH + self.shown(elapsed)).saturating_add_signed(self.offset))
    }

    /// The true time at which this clock shows a moment, in microseconds.
    pub(crate) fn true_time(self, moment: Moment) -> u64 {
        let shown = moment.since_origin().saturating_sub(BEFORE).as_micros();
        let shown = i128::try_from(shown).unwrap_or(0);
        u64::try_from(shown * MILLION / (MILLION + i128::from(self.rate))).unwrap_or(0)
    }
}

/// The true time; all that reads it runs on a simulated host.
pub(crate) fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Clock for WireClock {
    fn now(&self) -> Moment {
        Moment::from_origin(BEFORE + Duration::from_micros(self.shown(elapsed())))
    }

    fn wall(&self) -> WallTime {
        self.wall_at(elapsed())
    }
}
