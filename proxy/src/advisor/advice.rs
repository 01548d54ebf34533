//! What the advisor says: the form that the endpoint, the command line and the console share.

use serde::{Deserialize, Serialize};

use super::samples::Setting;

/// What the locks of a group of keys look like, and what would serve them better.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// On how many acquires it rests.
    pub acquires: u64,
    /// On how many hold times it rests.
    pub holds: u64,
    /// The time in which they were seen.
    pub window_ms: u64,
    /// How busy the locks are; absent while nothing was released.
    pub utilisation: Option<Utilisation>,
    /// What clients ask with now.
    pub current: Option<Setting>,
    /// The share of acquires that ask with exactly this.
    pub current_share: f64,
    /// What it costs now.
    pub cost: Cost,
    /// The lease.
    pub lease: Option<LeaseAdvice>,
    /// Delay, jitter and retries.
    pub polling: Option<PollingAdvice>,
    /// What it would take to say more.
    pub needs: Vec<Need>,
    /// All of it in words, the weightiest first.
    pub findings: Vec<Finding>,
}

/// How busy the locks are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Utilisation {
    /// The share of the window for which the busiest key was held.
    pub busiest: f64,
    /// How many locks of the group were held on average.
    pub locks_held: f64,
    /// Whether that is so much that no tuning of retries can help.
    pub saturated: bool,
}

/// What acquires cost as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Attempts of an acquire.
    pub attempts_per_acquire: f64,
    /// Attempts that did not get the lock.
    pub wasted_attempts: u64,
    /// Their share of all attempts.
    pub wasted_share: f64,
    /// The share of acquires that gave up since others held the lock.
    pub failure_share: f64,
    /// The wait of those who got the lock, but for one in a hundred.
    pub p99_wait_ms: u64,
}

/// The lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseAdvice {
    /// The one that is used.
    pub current_ms: Option<u64>,
    /// One that is long enough without renewal.
    pub advised_ms: u64,
    /// Whether more samples may well change it.
    pub provisional: bool,
    /// Half of all holds are no longer.
    pub p50_ms: u64,
    /// But for one in a hundred.
    pub p99_ms: u64,
    /// But for one in a thousand.
    pub p999_ms: u64,
    /// Where a few holds are far longer than most: a short lease that is renewed.
    pub renewal: Option<Renewal>,
}

/// A short lease that is renewed while the lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// The lease.
    pub lease_ms: u64,
    /// How often to extend it.
    pub every_ms: u64,
}

/// Delay, jitter and retries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PollingAdvice {
    /// What is advised; the lease is the present one.
    pub advised: Setting,
    /// Whether that differs from what is used.
    pub change: bool,
    /// What is to be expected of it.
    pub expected: Point,
    /// The replay: attempts against the wait, by delay.
    pub curve: Vec<Point>,
}

/// What one delay costs, by the replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// The delay.
    pub delay_ms: u64,
    /// The jitter with it.
    pub jitter_ms: u64,
    /// Attempts of an acquire.
    pub attempts: f64,
    /// The wait of those who get the lock, but for one in a hundred.
    pub p99_wait_ms: u64,
    /// Whether it is the present setting.
    pub current: bool,
    /// Whether it is advised.
    pub advised: bool,
}

/// Samples that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// What for.
    pub what: Subject,
    /// How many there are.
    pub have: u64,
    /// How many more it takes.
    pub more: u64,
}

/// What a finding or a need is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// How busy the locks are.
    Utilisation,
    /// The lease.
    Lease,
    /// Delay and jitter.
    Delay,
    /// Retries.
    Retries,
    /// Attempts that did not get the lock.
    WastedAttempts,
    /// The time that a caller waits.
    Timeout,
    /// Answers that did not come from a quorum.
    Outage,
    /// What it all rests on.
    Samples,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Weight {
    /// Something is wrong, or nearly so.
    Warning,
    /// Something would be better otherwise.
    Advice,
    /// For information.
    Note,
}

/// One sentence or two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What it is about.
    pub about: Subject,
    /// For people.
    pub text: String,
}
