//! What this replica saw of the locks it served: for the advisor and the console, not for metrics.
//!
//! Invariant: memory is bounded whatever clients ask for. Groups of keys, keys and identities are
//! the heaviest of each; durations are counted in buckets. One short lock is taken for each
//! operation, and no operation waits for whoever looks. Nothing is kept at all while it is off.
//!
//! What it does not know: what other replicas saw.

mod asking;
mod fold;
mod granted;
mod group;
mod live;
mod observer;
mod sketch;
mod trouble;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};

use self::asking::{Asking, Place};
use self::granted::Granted;
use self::group::Group;
use self::live::{Counts, Live};
use self::observer::Told;
use self::sketch::Sketch;
use self::trouble::Ring;
pub(crate) use self::trouble::{Trouble, TroubleKind};
use crate::advisor::Setting;

/// Groups of keys that are advised on.
const MAX_GROUPS: usize = 64;
/// Keys that are told to be hot.
const MAX_KEYS: usize = 64;
/// Identities whose usage is told.
const MAX_IDENTITIES: usize = 64;
/// How often the weights of keys are halved: what is hot is what was asked for in these minutes.
const FADE_EVERY: Duration = Duration::from_mins(1);

/// How an acquire came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcquireEnd {
    Acquired,
    Contended,
    Unavailable,
    Cancelled,
}

/// An acquire that came to its end.
#[derive(Clone, Copy, Debug)]
struct Ended {
    /// Stands for identity and key.
    key: u64,
    setting: Setting,
    how: AcquireEnd,
    attempts: u32,
    took: Duration,
    /// How long after the question the lock was free for the first time, if that was seen.
    freed: Option<Duration>,
    /// Acquires that were under way for the same key, this one included.
    rivals: u64,
}

/// The recorder.
#[derive(Debug)]
pub struct Insights {
    state: Option<Mutex<State>>,
    told: Told,
    hasher: RandomState,
}

#[derive(Debug)]
struct State {
    groups: Sketch<(Arc<str>, String), Group>,
    keys: Sketch<(Arc<str>, Arc<str>), HotKey>,
    identities: Sketch<Arc<str>, Counts>,
    live: Live,
    troubles: Ring,
    /// Acquires under way, in the order in which they came.
    asking: BTreeMap<u64, UnderWay>,
    /// Those of a key whose lock was not free yet since they came.
    unfreed: BTreeSet<(u64, u64)>,
    /// How many are under way for a key.
    rivals: HashMap<u64, u64>,
    granted: Granted,
    next: u64,
    faded: Moment,
}

#[derive(Debug)]
struct UnderWay {
    since: Moment,
    freed: Option<Moment>,
}

#[derive(Clone, Copy, Debug, Default)]
struct HotKey {
    hash: u64,
    counts: Counts,
}

impl Insights {
    /// A recorder that keeps nothing, and costs nothing.
    #[must_use]
    pub fn off() -> Arc<Self> {
        Arc::new(Self {
            state: None,
            told: Told::default(),
            hasher: RandomState::new(),
        })
    }

    /// A recorder.
    #[must_use]
    pub fn on() -> Arc<Self> {
        let now = SystemClock.now();
        let state = State {
            groups: Sketch::new(MAX_GROUPS),
            keys: Sketch::new(MAX_KEYS),
            identities: Sketch::new(MAX_IDENTITIES),
            live: Live::new(),
            troubles: Ring::default(),
            asking: BTreeMap::new(),
            unfreed: BTreeSet::new(),
            rivals: HashMap::new(),
            granted: Granted::default(),
            next: 0,
            faded: now,
        };
        Arc::new(Self {
            state: Some(Mutex::new(state)),
            told: Told::default(),
            hasher: RandomState::new(),
        })
    }

    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        let state = self.state.as_ref()?;
        Some(state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether anything is recorded.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.state.is_some()
    }

    fn hash(&self, identity: &str, key: &str) -> u64 {
        self.hasher.hash_one((identity, key))
    }

    /// Somebody asks for a lock.
    pub(crate) fn asks(
        &self,
        identity: &str,
        key: &str,
        owner: &str,
        setting: Setting,
        attempts: &everlock::AttemptCounter,
    ) -> Asking<'_> {
        let place = self.state.is_some().then(|| {
            let hash = self.hash(identity, key);
            let identity: Arc<str> = identity.into();
            Place {
                number: self.begin(hash),
                key: hash,
                held: self.hasher.hash_one((hash, owner)),
                setting,
                group: (Arc::clone(&identity), fold::group(key)),
                name: (identity, key.into()),
            }
        });
        Asking {
            insights: self,
            place,
            how: AcquireEnd::Cancelled,
            attempts: self.state.is_some().then(|| attempts.clone()),
        }
    }

    fn begin(&self, key: u64) -> u64 {
        let since = SystemClock.now();
        let Some(mut state) = self.lock() else {
            return 0;
        };
        let number = state.next;
        state.next += 1;
        state.asking.insert(number, UnderWay { since, freed: None });
        state.unfreed.insert((key, number));
        *state.rivals.entry(key).or_default() += 1;
        number
    }

    fn ended(&self, place: &Place, how: AcquireEnd, attempts: u32) {
        let now = SystemClock.now();
        let Some(mut state) = self.lock() else { return };
        let state = &mut *state;
        state.unfreed.remove(&(place.key, place.number));
        let Some(asked) = state.asking.remove(&place.number) else {
            return;
        };
        let rivals = state.rivals.get(&place.key).copied().unwrap_or(1);
        if rivals > 1 {
            state.rivals.insert(place.key, rivals - 1);
        } else {
            state.rivals.remove(&place.key);
        }
        // Who got the lock at once did not find it held, whoever let it go meanwhile.
        let held = attempts > 1 || how == AcquireEnd::Contended;
        let freed = asked.freed.filter(|_| held);
        let end = Ended {
            key: place.key,
            setting: place.setting,
            how,
            attempts,
            took: now.saturating_since(asked.since),
            freed: freed.map(|freed| freed.saturating_since(asked.since)),
            rivals,
        };
        state.fade(now);
        let group = state.groups.touch(&place.group, 1, || Group::new(now));
        group.ended(&end, now);
        let hot = state.keys.touch(&place.name, 1, || HotKey {
            hash: place.key,
            ..HotKey::default()
        });
        hot.counts.add(&end);
        let usage = state.identities.touch(&place.name.0, 1, Counts::default);
        usage.add(&end);
        state.live.ended(&end, now);
        if how == AcquireEnd::Acquired {
            let lease = Duration::from_millis(place.setting.lease_ms);
            state.granted.remember(place.held, lease, now);
        }
        if how == AcquireEnd::Unavailable {
            let what = "no quorum of nodes answered an acquire".to_owned();
            let about = place.name.0.to_string();
            state.trouble(TroubleKind::Unavailable, about, what);
        }
    }

    /// A lock was let go; `held` says after what time, if that is known.
    pub(crate) fn released(&self, identity: &str, key: &str, owner: &str, held: Option<Duration>) {
        if self.state.is_none() {
            return;
        }
        let now = SystemClock.now();
        let hash = self.hash(identity, key);
        let group = (identity.into(), fold::group(key));
        let Some(mut state) = self.lock() else { return };
        state.free(hash, now);
        state.granted.forget(self.hasher.hash_one((hash, owner)));
        if let (Some(held), Some(group)) = (held, state.groups.get_mut(&group)) {
            group.released(hash, held, now);
        }
    }

    /// A release or an extension by this owner found the lock gone: if it was acquired here and not
    /// released since, its lease was over.
    pub(crate) fn lapsed(&self, identity: &str, key: &str, owner: &str, release: bool) {
        if self.state.is_none() {
            return;
        }
        let now = SystemClock.now();
        let hash = self.hash(identity, key);
        let group = (identity.into(), fold::group(key));
        let Some(mut state) = self.lock() else { return };
        // What was released already, or was never held, did not lapse.
        let Some(lease) = state.granted.forget(self.hasher.hash_one((hash, owner))) else {
            return;
        };
        if let Some(known) = state.groups.get_mut(&group) {
            known.lapsed(hash, lease, now);
        }
        let what = if release {
            "a release found the lock gone: its lease was over"
        } else {
            "an extension found the lock gone: its lease was over"
        };
        let about = format!("{} {}", group.0, group.1);
        state.trouble(TroubleKind::Lapsed, about, what.to_owned());
    }

    /// A lock was extended.
    pub(crate) fn extended(&self, identity: &str, key: &str) {
        if self.state.is_none() {
            return;
        }
        let group = (identity.into(), fold::group(key));
        if let Some(mut state) = self.lock()
            && let Some(group) = state.groups.get_mut(&group)
        {
            group.extended(SystemClock.now());
        }
    }

    /// Something happened that an operator may want to know.
    pub(crate) fn trouble(&self, kind: TroubleKind, about: String, what: String) {
        if let Some(mut state) = self.lock() {
            state.trouble(kind, about, what);
        }
    }
}

impl State {
    /// Whoever found the lock held sees it free now.
    fn free(&mut self, key: u64, now: Moment) {
        let waiting = self.unfreed.range((key, 0)..=(key, u64::MAX));
        let waiting: Vec<_> = waiting.copied().collect();
        for place in waiting {
            self.unfreed.remove(&place);
            if let Some(asked) = self.asking.get_mut(&place.1) {
                asked.freed = Some(now);
            }
        }
    }

    fn fade(&mut self, now: Moment) {
        if now.saturating_since(self.faded) >= FADE_EVERY {
            self.faded = now;
            self.groups.fade();
            self.keys.fade();
            self.identities.fade();
        }
    }

    fn trouble(&mut self, kind: TroubleKind, about: String, what: String) {
        let at = SystemClock.wall().as_micros() / 1_000;
        self.troubles.add(at, kind, about, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far above what it takes, since tests share a busy machine with others.
    const MOST: Duration = Duration::from_micros(500);
    const CYCLES: u32 = 20_000;

    fn cycle(insights: &Insights, number: u32, attempts: &everlock::AttemptCounter) {
        let key = format!("tenant-{}:order:{number}:pay", number % 300);
        let setting = Setting {
            lease_ms: 10_000,
            ..Setting::default()
        };
        let mut asking = insights.asks("anonymous", &key, "owner", setting, attempts);
        asking.ends(AcquireEnd::Acquired);
        drop(asking);
        insights.released("anonymous", &key, "owner", Some(Duration::from_millis(7)));
    }

    #[test]
    fn recording_takes_microseconds_however_many_keys_there_are_and_nothing_while_it_is_off() {
        let attempts = everlock::AttemptCounter::default();
        let cost = |insights: &Insights| {
            let began = SystemClock.now();
            for number in 0..CYCLES {
                cycle(insights, number, &attempts);
            }
            SystemClock.now().saturating_since(began) / CYCLES
        };
        let (on, off) = (Insights::on(), Insights::off());
        let (recording, nothing) = (cost(&on), cost(&off));
        println!("an acquire and a release: {recording:?} recorded, {nothing:?} not");
        assert!(recording < MOST, "{recording:?}");
        let state = on.lock().unwrap();
        assert!(state.asking.is_empty() && state.unfreed.is_empty() && state.rivals.is_empty());
        assert!(state.granted.is_empty());
        drop(state);
        assert!(serde_json::to_vec(&on.snapshot()).unwrap().len() < 64 * 1024);
        assert!(off.snapshot().is_none());
    }
}
