//! What is kept of one group of keys: the advisor's samples, of two epochs.
//!
//! The window slides by epochs, so that old habits are forgotten without keeping single samples: it
//! spans the present epoch and the one before.

use std::collections::HashSet;
use std::time::Duration;

use everlock::clock::Moment;

use super::sketch::Sketch;
use super::{AcquireEnd, Ended};
use crate::advisor::{Samples, Setting, Spread, Used, millis as millis_up};

/// How long an epoch is: long enough for a thousand holds of a lock that is used each second or two.
pub(super) const EPOCH: Duration = Duration::from_mins(30);
/// Different settings that are told apart in a group; clients of one group mostly share one.
const MAX_SETTINGS: usize = 8;
/// Keys of a group whose time is told apart: only the busiest matters.
const MAX_KEYS: usize = 16;
/// Keys of a group that are counted one by one.
const MAX_COUNTED: usize = 256;

#[derive(Debug)]
pub(super) struct Group {
    /// Since when it is kept.
    since: Moment,
    /// The number of the present epoch.
    number: u64,
    present: Epoch,
    past: Epoch,
}

#[derive(Debug)]
struct Epoch {
    samples: Samples,
    held: Duration,
    round_trips: Spread,
    /// Microseconds for which each of the busiest keys was held.
    busy: Sketch<u64, ()>,
    keys: HashSet<u64>,
}

impl Epoch {
    fn new() -> Self {
        Self {
            samples: Samples::default(),
            held: Duration::ZERO,
            round_trips: Spread::default(),
            busy: Sketch::new(MAX_KEYS),
            keys: HashSet::new(),
        }
    }
}

impl Group {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            since: now,
            number: number(now),
            present: Epoch::new(),
            past: Epoch::new(),
        }
    }

    fn at(&mut self, now: Moment) -> &mut Epoch {
        self.turn(now);
        &mut self.present
    }

    /// Lets epochs pass.
    fn turn(&mut self, now: Moment) {
        let number = number(now);
        if number > self.number {
            let last = std::mem::replace(&mut self.present, Epoch::new());
            self.past = if number == self.number + 1 {
                last
            } else {
                Epoch::new()
            };
            self.number = number;
        }
    }

    /// An acquire came to an end.
    pub(super) fn ended(&mut self, end: &Ended, now: Moment) {
        let epoch = self.at(now);
        let samples = &mut epoch.samples;
        let took = millis_up(end.took);
        samples.attempts = samples.attempts.saturating_add(end.attempts.into());
        samples.most_waiters = samples.most_waiters.max(end.rivals);
        note(&mut samples.settings, end.setting);
        if epoch.keys.len() < MAX_COUNTED {
            epoch.keys.insert(end.key);
        }
        let waited = end.attempts > 1;
        match end.how {
            AcquireEnd::Acquired => {
                samples.acquired += 1;
                if waited {
                    samples.waits.record(took);
                } else {
                    epoch.round_trips.record(took);
                }
            }
            AcquireEnd::Contended => {
                samples.contended += 1;
                samples.gave_up.record(took);
            }
            AcquireEnd::Unavailable => samples.unavailable += 1,
            AcquireEnd::Cancelled => samples.cancelled += 1,
        }
        let got = waited && end.how == AcquireEnd::Acquired;
        // Where the release went to another replica, the lock was free when it was got at the latest.
        if let Some(after) = end.freed.or(got.then_some(end.took)) {
            samples.time_to_free.record(millis_up(after));
        }
    }

    pub(super) fn extended(&mut self, now: Moment) {
        self.at(now).samples.extensions += 1;
    }

    /// A lock was let go after this time.
    pub(super) fn released(&mut self, key: u64, held: Duration, now: Moment) {
        let epoch = self.at(now);
        epoch.samples.holds.record(millis_up(held));
        epoch.hold(key, held);
    }

    /// A release came too late: the lock was held for its lease.
    pub(super) fn lapsed(&mut self, key: u64, lease: Duration, now: Moment) {
        let epoch = self.at(now);
        epoch.samples.lapsed += 1;
        epoch.hold(key, lease);
    }

    /// All that is known, for the advisor.
    pub(super) fn samples(&mut self, now: Moment) -> Samples {
        self.turn(now);
        let begins = Moment::from_origin(
            EPOCH.saturating_mul(u32::try_from(self.number.saturating_sub(1)).unwrap_or(u32::MAX)),
        );
        let window = now.saturating_since(begins.max(self.since));
        let (present, past) = (&self.present, &self.past);
        let mut all = present.samples.clone();
        let old = &past.samples;
        for (into, from) in [
            (&mut all.holds, &old.holds),
            (&mut all.waits, &old.waits),
            (&mut all.gave_up, &old.gave_up),
            (&mut all.time_to_free, &old.time_to_free),
        ] {
            into.merge(from);
        }
        for (into, from) in [
            (&mut all.lapsed, old.lapsed),
            (&mut all.extensions, old.extensions),
            (&mut all.acquired, old.acquired),
            (&mut all.contended, old.contended),
            (&mut all.unavailable, old.unavailable),
            (&mut all.cancelled, old.cancelled),
            (&mut all.attempts, old.attempts),
        ] {
            *into = into.saturating_add(from);
        }
        for used in &old.settings {
            note_many(&mut all.settings, used.setting, used.count);
        }
        all.most_waiters = all.most_waiters.max(old.most_waiters);
        all.window_ms = millis_up(window);
        all.keys = present.keys.union(&past.keys).count() as u64;
        all.held_ms = millis_up(present.held + past.held);
        all.busiest_held_ms = millis_up(busiest(&[present, past]));
        let mut round_trips = present.round_trips.clone();
        round_trips.merge(&past.round_trips);
        all.round_trip_p99_ms = round_trips.quantile(0.99).unwrap_or(0);
        all
    }
}

impl Epoch {
    fn hold(&mut self, key: u64, held: Duration) {
        self.held += held;
        let micros = u64::try_from(held.as_micros()).unwrap_or(u64::MAX);
        self.busy.touch(&key, micros, || ());
    }
}

/// For how long the key was held that was held longest.
fn busiest(epochs: &[&Epoch]) -> Duration {
    let mut all: std::collections::HashMap<u64, u64> = std::collections::HashMap::new();
    for slot in epochs.iter().flat_map(|epoch| epoch.busy.heaviest()) {
        let held = all.entry(slot.key).or_default();
        *held = held.saturating_add(slot.weight());
    }
    Duration::from_micros(all.into_values().max().unwrap_or(0))
}

fn number(now: Moment) -> u64 {
    now.since_origin().as_secs() / EPOCH.as_secs()
}

fn note(settings: &mut Vec<Used>, setting: Setting) {
    note_many(settings, setting, 1);
}

fn note_many(settings: &mut Vec<Used>, setting: Setting, count: u64) {
    if let Some(used) = settings.iter_mut().find(|used| used.setting == setting) {
        used.count = used.count.saturating_add(count);
    } else if settings.len() < MAX_SETTINGS {
        settings.push(Used { setting, count });
    } else if let Some(rarest) = settings.iter_mut().min_by_key(|used| used.count) {
        // As in the sketch: a newcomer that stays comes out on top in the end.
        *rarest = Used {
            setting,
            count: rarest.count.saturating_add(count),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(how: AcquireEnd, attempts: u32, took: u64) -> Ended {
        Ended {
            key: 1,
            setting: Setting::default(),
            how,
            attempts,
            took: Duration::from_millis(took),
            freed: None,
            rivals: 1,
        }
    }

    #[test]
    fn what_is_older_than_two_epochs_is_forgotten() {
        let start = Moment::from_origin(EPOCH * 10);
        let mut group = Group::new(start);
        group.ended(&ended(AcquireEnd::Acquired, 1, 5), start);
        let later = start + EPOCH;
        group.ended(&ended(AcquireEnd::Contended, 3, 500), later);
        let both = group.samples(later + EPOCH / 2);
        assert_eq!((both.acquired, both.contended, both.attempts), (1, 1, 4));
        assert_eq!(u128::from(both.window_ms), (EPOCH + EPOCH / 2).as_millis());
        let last = group.samples(later + EPOCH);
        assert_eq!((last.acquired, last.contended, last.attempts), (0, 1, 3));
        assert_eq!(group.samples(later + EPOCH * 2).acquires(), 0);
    }

    #[test]
    fn the_busiest_key_is_told_from_the_whole_group() {
        let start = Moment::from_origin(EPOCH * 3);
        let mut group = Group::new(start);
        for key in 0..100 {
            group.released(key, Duration::from_secs(1), start);
        }
        group.released(7, Duration::from_mins(10), start);
        let samples = group.samples(start + Duration::from_secs(1_000));
        assert_eq!(samples.held_ms, 700_000);
        assert_eq!(samples.busiest_held_ms / 1_000, 600);
    }

    #[test]
    fn who_waited_without_seeing_a_release_found_the_lock_free_when_it_got_it() {
        let start = Moment::from_origin(EPOCH);
        let mut group = Group::new(start);
        group.ended(&ended(AcquireEnd::Acquired, 4, 700), start);
        group.ended(&ended(AcquireEnd::Contended, 4, 900), start);
        let mut freed = ended(AcquireEnd::Contended, 4, 900);
        freed.freed = Some(Duration::from_millis(50));
        group.ended(&freed, start);
        let samples = group.samples(start);
        assert_eq!(samples.time_to_free.count(), 2, "one never saw it free");
        assert_eq!(samples.time_to_free.quantile(0.1), Some(50));
        assert_eq!((samples.waits.count(), samples.gave_up.count()), (1, 2));
    }
}
