//! The lease: long enough for nearly every hold, and no longer.
//!
//! Invariant: what is advised without renewal is never below the 99.9th percentile of the holds
//! that were seen. A hold that outlived its lease is only known to have been longer than it.

use super::advice::{LeaseAdvice, Renewal};
use super::samples::Samples;
use super::spread::{LONGEST, float};

/// The room above the longest hold but for one in a thousand.
const ROOM: f64 = 1.5;
/// From this ratio of p99.9 to p50 on, a lease for the longest holds is far too long for the rest:
/// after a crash everybody waits for it.
const SKEWED: f64 = 10.0;
/// With fewer holds, a p99.9 is a guess.
pub(super) const ENOUGH: u64 = 1_000;
/// With fewer holds, nothing is advised at all.
pub(super) const FEWEST: u64 = 100;
/// A lease that is renewed lasts for three renewals, so that two may fail.
const RENEWALS: u64 = 3;
/// Renewing more often than three times in this time costs more than the wait after a crash is worth.
const SHORTEST_RENEWED: f64 = 3_000.0;
/// Below this, drift and a round trip leave nothing: the library's own bound.
const SHORTEST: u64 = 10;
/// The largest share of a lease that drift may take: the library's own bound.
const MOST_DRIFT: f64 = 0.5;

/// The advice, once there are enough holds for any.
pub(super) fn advise(samples: &Samples) -> Option<LeaseAdvice> {
    let current = samples.usual().map(|(setting, _)| setting.lease_ms);
    let mut holds = samples.holds.clone();
    // They were at least as long as the lease.
    holds.add(current.unwrap_or(0), samples.lapsed);
    let count = holds.count();
    if count < FEWEST {
        return None;
    }
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| holds.quantile(share).unwrap_or(0));
    let mut advised = lasting(float(p999) * ROOM, samples);
    // The p99.9 itself lies among those of which only the beginning is known.
    let hidden = float(samples.lapsed) > float(count) / 1_000.0;
    if hidden {
        advised = advised.max(current.unwrap_or(0).saturating_mul(2).min(2 * LONGEST));
    }
    let advised_ms = round_up(advised.clamp(SHORTEST, 4 * LONGEST));
    let skewed = float(p999) > SKEWED * float(p50.max(1));
    // Worth it only if it is shorter than what lasts without.
    let renewal = skewed.then(|| renewal(p99, samples));
    Some(LeaseAdvice {
        current_ms: current,
        advised_ms,
        provisional: hidden || count < ENOUGH,
        p50_ms: p50,
        p99_ms: p99,
        p999_ms: p999,
        renewal: renewal.filter(|renewal| renewal.lease_ms < advised_ms),
    })
}

/// Most holds end before the first renewal of it.
fn renewal(p99: u64, samples: &Samples) -> Renewal {
    let most = float(p99).clamp(SHORTEST_RENEWED, SHORTEST_RENEWED * 10.0);
    let lease_ms = round_up(lasting(most, samples));
    Renewal {
        lease_ms,
        every_ms: lease_ms / RENEWALS,
    }
}

/// A lease of which this much is left when drift and a round trip are taken off it.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is finite and not negative, and saturates"
)]
fn lasting(millis: f64, samples: &Samples) -> u64 {
    let drift = (float(samples.drift_ppm) / 1e6).min(MOST_DRIFT);
    let lost = float(samples.drift_margin_ms) + float(samples.round_trip_p99_ms);
    (((millis + lost) / (1.0 - drift)).ceil() as u64).min(4 * LONGEST)
}

/// To two digits, upwards: more of them would pretend to more than is known.
pub(super) const fn round_up(millis: u64) -> u64 {
    let mut unit = 1;
    while millis / unit >= 100 {
        unit *= 10;
    }
    millis.div_ceil(unit) * unit
}
