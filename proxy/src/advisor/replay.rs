//! Polling replayed: what other delays would have cost on the same times until the lock was free.
//!
//! Those times are the holders' doing, not the waiters': they stay as they are when the delay
//! changes, so what is advised on them does not move once it was followed. The two curves are
//! scaled to go through what was measured at the present setting: waiters who lose the lock to
//! others wait for more than one holder, and those who are woken ask less often.

use super::advice::Point;
use super::samples::{Samples, Setting};
use super::spread::{Spread, float};

/// Delays that are looked at: round numbers, some six for each factor of ten.
const DELAYS: [u64; 25] = [
    5, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 400, 500, 700, 1_000, 1_500, 2_000, 3_000,
    5_000, 7_000, 10_000, 15_000, 20_000, 30_000, 60_000,
];
/// What attempts weigh against waiting: two per cent fewer of them are worth three per cent more of
/// it, since they are billed, and cost every node. More weight than this, and waiters leave the lock
/// unused; none, and they poll.
const ATTEMPTS_WEIGH: f64 = 1.5;
/// A delay that is this much better than the present one is worth a change.
const WORTH_IT: f64 = 0.9;
/// Replayed figures beyond this are a mistake in what was recorded.
const MOST: f64 = 1e9;

/// The replay of one group of keys.
pub(super) struct Replay<'a> {
    free: &'a Spread,
    /// The share of acquires that found the lock held.
    held: f64,
    attempts_scale: f64,
    wait_scale: f64,
    /// The jitter that goes with a delay, as a share of it.
    jitter: f64,
    now: Setting,
}

impl<'a> Replay<'a> {
    pub(super) fn of(samples: &'a Samples, now: Setting) -> Self {
        let free = &samples.time_to_free;
        let found_held = samples
            .waits
            .count()
            .saturating_add(samples.gave_up.count());
        let ended = samples.acquired.saturating_add(samples.contended);
        let held = (float(found_held) / float(ended.max(1))).min(1.0);
        let step = mean_step(now.delay_ms, now.jitter_ms);
        let retries = float(samples.attempts.saturating_sub(samples.acquires()));
        let measured = retries / float(found_held.max(1));
        let mut waits = samples.waits.clone();
        waits.merge(&samples.gave_up);
        Self {
            free,
            held,
            attempts_scale: ratio(measured, free.mean(|time| polls(time, step))),
            wait_scale: ratio(
                waits.mean(|wait| wait),
                free.mean(|time| polls(time, step) * step),
            ),
            jitter: if samples.most_waiters >= 2 { 1.0 } else { 0.0 },
            now,
        }
    }

    /// The delay that is best, or the present one if that is nearly as good.
    ///
    /// Best is the smallest product of attempts, weighed, and wait: beyond it fewer attempts would
    /// cost more waiting than they are worth.
    pub(super) fn best(&self) -> (u64, u64) {
        let price = |(delay, jitter): (u64, u64)| {
            let step = mean_step(delay, jitter);
            let polls = |time| polls(time, step);
            self.free.mean(polls).powf(ATTEMPTS_WEIGH) * self.free.mean(|time| polls(time) * step)
        };
        let now = (self.now.delay_ms, self.now.jitter_ms);
        let all = DELAYS.iter().map(|delay| self.with_jitter(*delay));
        let best = all.min_by(|a, b| price(*a).total_cmp(&price(*b)));
        let best = best.unwrap_or(now);
        let has_jitter = self.now.jitter_ms >= self.now.delay_ms / 2 || self.jitter < 0.5;
        if has_jitter && now.0 > 0 && price(best) > price(now) * WORTH_IT {
            return now;
        }
        best
    }

    /// What these would cost.
    pub(super) fn point(&self, (delay_ms, jitter_ms): (u64, u64)) -> Point {
        let step = mean_step(delay_ms, jitter_ms);
        let retries = self.free.mean(|time| polls(time, step)) * self.attempts_scale;
        Point {
            delay_ms,
            jitter_ms,
            attempts: (1.0 + self.held * retries).min(MOST),
            p99_wait_ms: self.p99_wait(step),
            current: (delay_ms, jitter_ms) == (self.now.delay_ms, self.now.jitter_ms),
            advised: false,
        }
    }

    /// Attempts against the wait, from short delays to long ones, the present one and `advised`
    /// among them.
    pub(super) fn curve(&self, advised: (u64, u64)) -> Vec<Point> {
        let now = (self.now.delay_ms, self.now.jitter_ms);
        let mut all: Vec<_> = DELAYS
            .iter()
            .map(|delay| self.with_jitter(*delay))
            .chain([now, advised])
            .collect();
        all.sort_unstable();
        all.dedup();
        let mark = |at| Point {
            advised: at == advised,
            ..self.point(at)
        };
        all.into_iter().map(mark).collect()
    }

    /// By how much waits change from the present setting to this one.
    pub(super) fn stretch(&self, to: (u64, u64)) -> f64 {
        let wait = |(delay, jitter)| {
            let step = mean_step(delay, jitter);
            self.free.mean(|time| polls(time, step) * step)
        };
        ratio(wait(to), wait((self.now.delay_ms, self.now.jitter_ms)))
    }

    fn with_jitter(&self, delay: u64) -> (u64, u64) {
        (delay, if self.jitter > 0.5 { delay } else { 0 })
    }

    /// Who finds the lock free does not wait, and counts as well.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is finite, not negative and bounded"
    )]
    fn p99_wait(&self, step: f64) -> u64 {
        if self.held <= 0.01 {
            return 0;
        }
        let time = self.free.quantile(1.0 - 0.01 / self.held).unwrap_or(0);
        let wait = polls(float(time), step) * step * self.wait_scale;
        wait.min(MOST) as u64
    }
}

/// Attempts after the first one until a lock that is free after this time is got.
fn polls(time: f64, step: f64) -> f64 {
    (time / step).ceil().max(1.0)
}

/// The time between two attempts, on average.
pub(super) fn mean_step(delay: u64, jitter: u64) -> f64 {
    (float(delay) + float(jitter) / 2.0).max(1.0)
}

/// A ratio to scale by; one where it can't be told.
fn ratio(of: f64, to: f64) -> f64 {
    let ratio = of / to;
    if ratio.is_finite() && ratio > 0.0 {
        ratio.min(1e6)
    } else {
        1.0
    }
}
