//! How many retries it takes to fail no more often than is wanted.
//!
//! Waits that were given up are known from below only. So the tail is taken for exponential, which
//! the wait for a lock is where many compete for it, and its rate is the most likely one under
//! what was seen to end and what was seen to go on.

use super::samples::Samples;
use super::spread::{Spread, float};

/// Retries take their time, and what is to come is not what was: more than was seen to suffice.
const MARGIN: f64 = 1.2;
/// As many as the API takes.
const MOST: f64 = 100_000.0;
/// Half an end more than was seen: without any, the rate would be zero.
const UNSEEN: f64 = 0.5;
/// A quantile with fewer samples beyond it is a guess.
const BEYOND: f64 = 10.0;

/// Retries at this mean step, when waits become `stretch` times as long as those that were seen.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is finite, not negative and bounded"
)]
pub(super) fn advise(samples: &Samples, failure: f64, stretch: f64, step: f64) -> u64 {
    let wait = longest_wait(samples, failure) * stretch * MARGIN;
    (wait / step).ceil().clamp(1.0, MOST) as u64
}

/// The wait that only so many of all acquires exceed.
fn longest_wait(samples: &Samples, failure: f64) -> f64 {
    let (won, lost) = (&samples.waits, &samples.gave_up);
    let mut all = won.clone();
    all.merge(lost);
    let count = float(all.count());
    let ended = samples.acquired.saturating_add(samples.contended);
    let held = (count / float(ended.max(1))).min(1.0);
    // Of those who find the lock held, so many may fail.
    let share = (failure / held.max(f64::MIN_POSITIVE)).clamp(f64::MIN_POSITIVE, 1.0);
    let middle = float(all.quantile(0.5).unwrap_or(0));
    let beyond = |spread: &Spread| {
        let longer = spread.iter().filter(|(wait, _)| float(*wait) > middle);
        longer.fold((0.0, 0.0), |(seen, time), (wait, count)| {
            let count = float(count);
            (seen + count, time + (float(wait) - middle) * count)
        })
    };
    let ((ends, first), (goes_on, second)) = (beyond(won), beyond(lost));
    let longer = (ends + goes_on) / count.max(1.0);
    let rate = (ends + UNSEEN) / (first + second);
    let tail = (longer / share).ln() / rate;
    let modelled = middle + if tail.is_finite() { tail.max(0.0) } else { 0.0 };
    // Where enough was seen that nothing has to be modelled, it counts as well.
    let seen = lost.count() == 0 && count * share >= BEYOND;
    let seen = seen.then(|| won.quantile(1.0 - share)).flatten();
    modelled.max(float(seen.unwrap_or(0)))
}
