//! What is known of a group of keys: the advisor's whole input, and its form on the wire.

use serde::{Deserialize, Serialize};

use super::spread::Spread;

/// What happened to the locks of a group of keys within a window, as one replica saw it.
///
/// On the wire all of it is optional; what is not given counts as nothing seen. Durations are
/// whole milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Samples {
    /// The time in which the rest was seen.
    pub window_ms: u64,
    /// How many different keys there were, at least.
    pub keys: u64,
    /// For how long locks of the group were held, all of them together.
    pub held_ms: u64,
    /// For how long the busiest key was held.
    pub busiest_held_ms: u64,
    /// Hold times, of releases that found the lock held.
    pub holds: Spread,
    /// Holds that outlived their lease: a release or an extension came when it was over.
    pub lapsed: u64,
    /// Extensions that were granted.
    pub extensions: u64,
    /// Acquires that got the lock.
    pub acquired: u64,
    /// Acquires that gave up since others held the lock.
    pub contended: u64,
    /// Acquires that no quorum of nodes answered.
    pub unavailable: u64,
    /// Acquires that the client abandoned.
    pub cancelled: u64,
    /// Attempts, of all acquires together.
    pub attempts: u64,
    /// How long it took to get the lock, for those who found it held.
    pub waits: Spread,
    /// After what time those who found the lock held and did not get it gave up.
    pub gave_up: Spread,
    /// From finding the lock held to the next moment when it was free.
    pub time_to_free: Spread,
    /// The most acquires that were under way at once for one key.
    pub most_waiters: u64,
    /// What clients asked with, and how often.
    pub settings: Vec<Used>,
    /// What an acquire of a free lock takes, but for one in a hundred.
    pub round_trip_p99_ms: u64,
    /// The share of a lease that is not relied on, in millionths.
    pub drift_ppm: u64,
    /// What else is taken off each lease.
    pub drift_margin_ms: u64,
}

/// A setting, and how many acquires asked with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Used {
    /// The setting.
    #[serde(flatten)]
    pub setting: Setting,
    /// How many acquires asked with it.
    pub count: u64,
}

/// What an acquire is asked with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Setting {
    /// The lease.
    pub lease_ms: u64,
    /// The time between attempts.
    pub delay_ms: u64,
    /// What is added to it at random, at most.
    pub jitter_ms: u64,
    /// Attempts after the first one.
    pub retries: u64,
    /// Whether to wait in line.
    pub fifo: bool,
}

impl Setting {
    /// How long its retries may last altogether.
    #[must_use]
    pub const fn whole_wait_ms(&self) -> u64 {
        let step = self.delay_ms.saturating_add(self.jitter_ms);
        self.retries.saturating_mul(step)
    }
}

impl Samples {
    /// Acquires that came to an end, however they did.
    #[must_use]
    pub const fn acquires(&self) -> u64 {
        self.acquired
            .saturating_add(self.contended)
            .saturating_add(self.unavailable)
            .saturating_add(self.cancelled)
    }

    /// The setting that was used most, and the share of the acquires that used it.
    #[must_use]
    pub fn usual(&self) -> Option<(Setting, f64)> {
        let all = self.settings.iter().map(|used| used.count);
        let all = all.fold(0, u64::saturating_add);
        let most = self.settings.iter().max_by_key(|used| used.count)?;
        let share = super::spread::float(most.count) / super::spread::float(all.max(1));
        Some((most.setting, share))
    }
}
