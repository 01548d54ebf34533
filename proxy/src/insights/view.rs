//! What is told of the record: snapshots, made when somebody asks.

use std::time::Duration;

use everlock::clock::{Clock as _, SystemClock};
use serde::Serialize;

use super::live::{Counts, Minute};
use super::{FADE_EVERY, Insights, Trouble};
use crate::advisor::{self, Group, Report, SCOPE, Wanted};

/// The present state, for the console.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    minute: Minute,
    /// Acquires under way.
    waiters: usize,
    /// For how long the oldest of them has been.
    oldest_waiter_ms: Option<u64>,
    hot_keys: Vec<HotKeyView>,
    /// How often a key was forgotten for the sake of another.
    keys_replaced: u64,
    usage: Vec<UsageView>,
    troubles: Vec<Trouble>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HotKeyView {
    identity: String,
    key: String,
    /// Acquires of the last minutes, faded.
    weight: u64,
    waiting: u64,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageView {
    identity: String,
    #[serde(flatten)]
    counts: Counts,
}

/// The drift of so long a lease has as many microseconds as the factor has millionths.
const UNIT: Duration = Duration::from_secs(1);
/// Rows that the console's tables have room for.
const HOT_ROWS: usize = 12;
const ROWS: usize = 20;

impl Insights {
    /// The present state as JSON; none while nothing is recorded.
    #[must_use]
    pub fn snapshot(&self) -> Option<impl Serialize + use<>> {
        let now = SystemClock.now();
        let state = self.lock()?;
        let oldest = state.asking.first_key_value();
        let oldest = oldest.map(|(_, asked)| now.saturating_since(asked.since));
        let keys = state.keys.heaviest().into_iter().take(HOT_ROWS);
        let hot_keys = keys.map(|slot| HotKeyView {
            identity: slot.key.0.to_string(),
            key: slot.key.1.to_string(),
            weight: slot.weight(),
            waiting: state.rivals.get(&slot.value.hash).copied().unwrap_or(0),
            counts: slot.value.counts,
        });
        let identities = state.identities.heaviest().into_iter().take(ROWS);
        let usage = identities.map(|slot| UsageView {
            identity: slot.key.to_string(),
            counts: slot.value,
        });
        Some(Snapshot {
            minute: state.live.minute(now),
            waiters: state.asking.len(),
            oldest_waiter_ms: oldest.map(advisor::millis),
            hot_keys: hot_keys.collect(),
            keys_replaced: state.keys.replaced(),
            usage: usage.collect(),
            troubles: state.troubles.newest(),
        })
    }

    /// What is known of each group, the busiest first, with the advice. `drift` says what is
    /// taken off a lease.
    #[must_use]
    pub fn report(&self, drift: &dyn Fn(Duration) -> Duration) -> Report {
        let now = SystemClock.now();
        let mut report = Report {
            scope: SCOPE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Report::default()
        };
        let Some(mut state) = self.lock() else {
            return report;
        };
        report.groups_forgotten = state.groups.replaced();
        let groups = state.groups.heaviest_mut().into_iter();
        let groups: Vec<_> = groups
            .map(|((identity, group), known)| (identity.clone(), group.clone(), known.samples(now)))
            .collect();
        // What follows takes its time, and operations must not wait for it.
        drop(state);
        let margin = drift(Duration::ZERO);
        let factor = drift(UNIT).saturating_sub(margin);
        let groups = groups.into_iter().map(|(identity, group, mut samples)| {
            samples.drift_margin_ms = advisor::millis(margin);
            samples.drift_ppm = u64::try_from(factor.as_micros()).unwrap_or(0);
            Group::of(identity.to_string(), group, samples, &Wanted::default())
        });
        report.groups = groups.collect();
        report
    }

    /// In what time the weight of a key is halved.
    #[must_use]
    pub const fn half_life() -> Duration {
        FADE_EVERY
    }
}
