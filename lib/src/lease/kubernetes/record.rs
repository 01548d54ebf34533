//! The object of a lease: what stands in it, and what is written into it. Pure.
//!
//! Invariants: the time of renewal in it rises with every write, so that no write
//! leaves the object as it was; transitions never fall.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use crate::clock::{Moment, WallTime};
use crate::lease::{LeaseError, LeaseToken};

/// What others see change when the holder renews.
pub(super) type Stamp = LeaseSpec;

/// Whether the lease may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody holds it, or a holder who has not renewed it for its whole length.
    Free,
    /// The same owner holds it.
    Ours,
    /// Another holds it, as far as this process has seen.
    Anothers,
}

pub(super) fn standing(
    object: &Object,
    owner: &str,
    ttl: Duration,
    seen: &mut Option<(Stamp, Moment)>,
    now: Moment,
) -> Standing {
    let spec = object.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder.is_empty() || holder == owner {
        *seen = None;
        return if holder.is_empty() {
            Standing::Free
        } else {
            Standing::Ours
        };
    }
    // As long as the holder says, or as we would if it does not.
    let length = spec.lease_duration_seconds.map_or(ttl, |seconds| {
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
    });
    match seen {
        Some((stamp, since)) if *stamp == spec => {
            if now >= *since + length {
                Standing::Free
            } else {
                Standing::Anothers
            }
        }
        // What is seen for the first time may have been renewed just now.
        _ => {
            *seen = Some((spec, now));
            Standing::Anothers
        }
    }
}

/// The object of a lease that never was.
pub(super) fn created(name: &str, owner: &str, ttl: Duration, wall: WallTime) -> Object {
    let object = Object {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            lease_transitions: Some(0),
            ..LeaseSpec::default()
        }),
    };
    acquired(object, owner, ttl, wall, false)
}

/// The object, held by the owner from now on; `anew` if it was not the holder.
pub(super) fn acquired(
    mut object: Object,
    owner: &str,
    ttl: Duration,
    wall: WallTime,
    anew: bool,
) -> Object {
    let spec = object.spec.get_or_insert_default();
    let now = after(spec, wall);
    let transitions = spec.lease_transitions.unwrap_or(0).max(0);
    spec.lease_transitions = Some(transitions.saturating_add(anew.into()));
    spec.holder_identity = Some(owner.to_owned());
    spec.lease_duration_seconds = Some(seconds(ttl));
    spec.acquire_time = Some(now.clone());
    spec.renew_time = Some(now);
    object
}

pub(super) fn renewed(mut object: Object, wall: WallTime) -> Object {
    let spec = object.spec.get_or_insert_default();
    spec.renew_time = Some(after(spec, wall));
    object
}

/// The object without a holder. The transitions stay, so that later tokens are later.
pub(super) fn released(object: Object, wall: WallTime) -> Object {
    let mut object = renewed(object, wall);
    object.spec.get_or_insert_default().holder_identity = Some(String::new());
    object
}

/// Whether one and the same tenure stands in both: no other owner's, and no earlier
/// or later one of the same owner.
pub(super) fn is_same_tenure(known: &Object, found: &Object) -> bool {
    let tenure = |object: &Object| {
        let spec = object.spec.as_ref()?;
        Some((spec.holder_identity.clone(), spec.acquire_time.clone()))
    };
    tenure(known) == tenure(found)
}

pub(super) fn token(object: &Object) -> Result<LeaseToken, LeaseError> {
    let transitions = object.spec.as_ref().and_then(|spec| spec.lease_transitions);
    let transitions = u64::try_from(transitions.unwrap_or(0)).unwrap_or(0);
    let version = object.metadata.resource_version.as_deref();
    let version = version.and_then(|version| version.parse().ok());
    let version = version.ok_or_else(|| {
        LeaseError::refused("the API server's resource versions are no numbers: they have no order")
    })?;
    Ok(LeaseToken::of_numbers(&[transitions, version]))
}

/// The present time, or a microsecond after what stands in the object if that is
/// later: clocks of different machines differ.
fn after(spec: &LeaseSpec, wall: WallTime) -> MicroTime {
    let micros = |time: &Option<MicroTime>| time.as_ref().map(|time| time.0.as_microsecond());
    let last = micros(&spec.renew_time).max(micros(&spec.acquire_time));
    let now = i64::try_from(wall.as_micros()).unwrap_or(i64::MAX);
    let now = last.map_or(now, |last| now.max(last.saturating_add(1)));
    MicroTime(Timestamp::from_microsecond(now).unwrap_or(Timestamp::MAX))
}

/// In whole seconds, rounded up: others wait for no less than the holder counts on.
fn seconds(ttl: Duration) -> i32 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_millis(1_500);

    fn wall(seconds: u64) -> WallTime {
        WallTime::from_micros(seconds * 1_000_000)
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_origin(Duration::from_secs(seconds))
    }

    fn spec(object: &Object) -> &LeaseSpec {
        object.spec.as_ref().unwrap()
    }

    #[test]
    fn times_are_written_with_six_digits_whatever_the_instant() {
        for micros in [
            0,
            1,
            1_700_000_000_000_000,
            1_700_000_000_123_000,
            1_700_000_000_100_001,
        ] {
            let object = created("n", "a", TTL, WallTime::from_micros(micros));
            let time = spec(&object).renew_time.clone().unwrap();
            let text = serde_json::to_string(&time).unwrap();
            let digits = text.trim_end_matches("Z\"").rsplit_once('.').unwrap().1;
            assert_eq!(digits.len(), 6, "{text}");
        }
    }

    #[test]
    fn a_length_is_rounded_up_to_whole_seconds_and_is_one_at_least() {
        for (millis, expected) in [(1, 1), (1_000, 1), (1_001, 2), (1_500, 2), (9_000, 9)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected, "{millis}");
        }
    }

    #[test]
    fn what_is_written_is_later_than_what_stood_there_also_by_a_slow_clock() {
        let held = created("n", "a", TTL, wall(1_000));
        let renewed = renewed(held.clone(), wall(10));
        assert!(spec(&renewed).renew_time > spec(&held).renew_time);
        let taken = acquired(renewed.clone(), "b", TTL, wall(10), true);
        assert!(spec(&taken).acquire_time > spec(&renewed).renew_time);
        assert_eq!(spec(&taken).lease_transitions, Some(1));
        let free = released(taken, wall(10));
        assert_eq!(spec(&free).lease_transitions, Some(1));
        assert_eq!(spec(&free).holder_identity.as_deref(), Some(""));
    }

    #[test]
    fn anothers_lease_is_over_when_it_was_seen_unchanged_for_its_length() {
        let mut seen = None;
        let mut object = created("n", "other", TTL, wall(1));
        let mut look = |object: &Object, now| standing(object, "own", TTL, &mut seen, at(now));
        // However old it is by the wall clock: it is seen for the first time.
        assert_eq!(look(&object, 100), Standing::Anothers);
        assert_eq!(look(&object, 101), Standing::Anothers);
        object = renewed(object, wall(2));
        assert_eq!(look(&object, 103), Standing::Anothers, "it was renewed");
        assert_eq!(look(&object, 104), Standing::Anothers);
        assert_eq!(look(&object, 105), Standing::Free);
        assert_eq!(
            look(&released(object.clone(), wall(3)), 105),
            Standing::Free
        );
        assert_eq!(
            look(&created("n", "own", TTL, wall(3)), 105),
            Standing::Ours
        );
        assert_eq!(look(&object, 106), Standing::Anothers, "seen anew");
    }

    #[test]
    fn a_later_tenure_of_the_same_owner_is_another_one() {
        let first = created("n", "a", TTL, wall(5));
        assert!(is_same_tenure(&first, &renewed(first.clone(), wall(6))));
        let again = acquired(first.clone(), "a", TTL, wall(5), false);
        assert!(!is_same_tenure(&first, &again));
        assert!(!is_same_tenure(&first, &released(first.clone(), wall(6))));
    }

    #[test]
    fn tokens_are_padded_and_transitions_come_first() {
        let of = |transitions, version: &str| {
            let mut object = created("n", "a", TTL, wall(1));
            object.spec.as_mut().unwrap().lease_transitions = Some(transitions);
            object.metadata.resource_version = Some(version.to_owned());
            token(&object)
        };
        assert!(of(1, "9").unwrap() < of(1, "10").unwrap());
        assert!(of(1, "99").unwrap() < of(2, "10").unwrap());
        assert!(of(9, "99").unwrap() < of(10, "1").unwrap());
        assert!(of(1, "abc").is_err() && of(1, "").is_err());
    }
}
