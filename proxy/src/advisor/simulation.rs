//! Clients that compete for one lock, simulated: what an advice is worth is tried on them.
//!
//! Each client thinks, asks, polls as its setting says, holds, releases, and thinks again. There is
//! one lock, no network, and a seed: the same seed is the same run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Samples, Setting, Used};

/// Who competes, and how long they hold.
#[derive(Clone, Copy)]
pub(super) struct Clients {
    pub(super) count: usize,
    /// Holds are spread evenly between these, in milliseconds.
    pub(super) hold: (f64, f64),
    /// The mean time from the end of one acquire to the next, in milliseconds.
    pub(super) think: f64,
}

/// What came of it.
pub(super) struct Outcome {
    pub(super) samples: Samples,
    /// Attempts for each lock that was got.
    pub(super) attempts: f64,
    /// The share of acquires that gave up.
    pub(super) failures: f64,
    /// The mean wait of all acquires that got the lock, in milliseconds.
    pub(super) wait: f64,
}

struct Dice(u64);

impl Dice {
    /// A number in `0.0..1.0` (splitmix64).
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[allow(clippy::cast_precision_loss)]
        let fraction = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        fraction
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.roll()).ln()
    }
}

#[derive(Clone, Copy, Default)]
struct Waiter {
    asked: f64,
    made: u64,
    /// When the lock was free for the first time since this one found it held.
    freed: Option<f64>,
}

/// Lets them compete for this many milliseconds.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "times of a simulation are small and positive"
)]
pub(super) fn run(clients: Clients, setting: Setting, millis: f64, seed: u64) -> Outcome {
    let mut dice = Dice(seed);
    let mut samples = Samples {
        window_ms: millis as u64,
        keys: 1,
        most_waiters: clients.count as u64,
        drift_ppm: 10_000,
        drift_margin_ms: 2,
        round_trip_p99_ms: 2,
        ..Samples::default()
    };
    let mut waiters = vec![Waiter::default(); clients.count];
    let mut events = BinaryHeap::new();
    let at = |time: f64| Reverse((time * 1_000.0) as u64);
    for client in 0..clients.count {
        events.push((at(dice.roll() * clients.think), client));
    }
    let (mut free, mut spent) = (0.0, 0.0);
    while let Some((Reverse(micros), client)) = events.pop() {
        let now = micros as f64 / 1_000.0;
        if now > millis {
            break;
        }
        let waiter = &mut waiters[client];
        if waiter.made == 0 {
            waiter.asked = now;
        }
        waiter.made += 1;
        samples.attempts += 1;
        let wait = now - waiter.asked;
        if now < free && waiter.made <= setting.retries {
            waiter.freed.get_or_insert(free);
            let pause = setting.delay_ms as f64 + dice.roll() * setting.jitter_ms as f64;
            events.push((at(now + pause.max(1.0)), client));
            continue;
        }
        if let Some(freed) = waiter.freed.filter(|freed| *freed <= now) {
            samples
                .time_to_free
                .record((freed - waiter.asked).ceil() as u64);
        }
        let mut next = now;
        if now < free {
            samples.contended += 1;
            samples.gave_up.record(wait.ceil() as u64);
        } else {
            let (short, long) = clients.hold;
            let hold = short + dice.roll() * (long - short);
            free = now + hold;
            next = free;
            samples.acquired += 1;
            spent += wait;
            samples.holds.record(hold.ceil() as u64);
            samples.held_ms += hold as u64;
            if waiter.made > 1 {
                samples.waits.record(wait.ceil() as u64);
            }
        }
        *waiter = Waiter::default();
        events.push((at(next + dice.exponential(clients.think)), client));
    }
    samples.busiest_held_ms = samples.held_ms;
    let count = samples.acquires();
    samples.settings = vec![Used { setting, count }];
    Outcome {
        attempts: samples.attempts as f64 / samples.acquired.max(1) as f64,
        failures: samples.contended as f64 / count.max(1) as f64,
        wait: spent / samples.acquired.max(1) as f64,
        samples,
    }
}
