//! The advisor: from what was seen of a group of keys to what would serve it better.
//!
//! Invariant: [`advise`] is a pure function. It knows no clock, no randomness, no network; the
//! endpoint, the command line and the console all show what it says. It never panics, and no
//! figure that it gives is infinite or no number, whatever it is given.
//!
//! What it does not do: change anything. Leases, delays and retries are the clients'.

mod advice;
mod lease;
mod replay;
mod report;
mod retries;
mod samples;
#[cfg(test)]
mod simulation;
mod spread;
#[cfg(test)]
mod tests;
mod words;

pub use self::advice::{
    Advice, Cost, Finding, LeaseAdvice, Need, Point, PollingAdvice, Renewal, Subject, Utilisation,
    Weight,
};
pub use self::report::{Group, Report, SCOPE};
pub use self::samples::{Samples, Setting, Used};
pub use self::spread::{LONGEST, Spread};
pub(crate) use self::words::shown;

use std::time::Duration;

use self::replay::{Replay, mean_step};
use self::spread::float;

/// From here on a lock is so busy that waiters queue whatever they do.
const SATURATED: f64 = 0.8;
/// With fewer times to replay, no delay is advised.
const ENOUGH_TO_REPLAY: u64 = 50;
/// One acquire in a thousand may fail.
pub const DEFAULT_FAILURE: f64 = 0.001;
/// Fewer failures than this can't be asked of retries: the nodes themselves fail more often.
const RAREST_FAILURE: f64 = 1e-9;

/// Whole milliseconds, upwards: nothing is told shorter than it was.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// What the advice is to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// The share of acquires that may give up since others hold the lock.
    pub failure: f64,
    /// How long the caller itself may wait: the timeout of its function or balancer.
    pub timeout_ms: Option<u64>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            failure: DEFAULT_FAILURE,
            timeout_ms: None,
        }
    }
}

/// What these samples say, and what would serve better.
#[must_use]
pub fn advise(samples: &Samples, wanted: &Wanted) -> Advice {
    let usual = samples.usual();
    let utilisation = utilisation(samples);
    let saturated = utilisation.is_some_and(|known| known.saturated);
    let mut advice = Advice {
        acquires: samples.acquires(),
        holds: samples.holds.count().saturating_add(samples.lapsed),
        window_ms: samples.window_ms,
        utilisation,
        current: usual.map(|(setting, _)| setting),
        current_share: usual.map_or(0.0, |(_, share)| share),
        cost: cost(samples),
        lease: lease::advise(samples),
        polling: None,
        needs: Vec::new(),
        findings: Vec::new(),
    };
    if let (Some((now, _)), false) = (usual, saturated)
        && samples.time_to_free.count() >= ENOUGH_TO_REPLAY
        && !now.fifo
    {
        advice.polling = Some(polling(samples, now, wanted));
    }
    advice.needs = needs(samples, &advice);
    advice.findings = words::findings(samples, &advice, wanted);
    advice
}

fn utilisation(samples: &Samples) -> Option<Utilisation> {
    if samples.window_ms == 0 || samples.holds.count() == 0 {
        return None;
    }
    let window = float(samples.window_ms);
    // A hold that ends in the window may have begun before it.
    let busiest = (float(samples.busiest_held_ms) / window).min(1.0);
    Some(Utilisation {
        busiest,
        locks_held: float(samples.held_ms) / window,
        saturated: busiest >= SATURATED,
    })
}

fn cost(samples: &Samples) -> Cost {
    let ended = samples.acquired.saturating_add(samples.contended);
    let share = |part: u64, whole: u64| (float(part) / float(whole.max(1))).min(1.0);
    let wasted = samples.attempts.saturating_sub(samples.acquired);
    let waits = samples.waits.count();
    // Those who found the lock free did not wait.
    let all = samples.acquired.max(waits);
    let waiting = share(waits, all);
    let p99 = (waiting > 0.01).then(|| samples.waits.quantile(1.0 - 0.01 / waiting));
    Cost {
        attempts_per_acquire: float(samples.attempts) / float(samples.acquires().max(1)),
        wasted_attempts: wasted,
        wasted_share: share(wasted, samples.attempts),
        failure_share: share(samples.contended, ended),
        p99_wait_ms: p99.flatten().unwrap_or(0),
    }
}

fn polling(samples: &Samples, now: Setting, wanted: &Wanted) -> PollingAdvice {
    let replay = Replay::of(samples, now);
    let best = replay.best();
    let failure = if wanted.failure.is_finite() {
        wanted.failure.clamp(RAREST_FAILURE, 1.0)
    } else {
        DEFAULT_FAILURE
    };
    let stretch = replay.stretch(best);
    let needed = retries::advise(samples, failure, stretch, mean_step(best.0, best.1));
    let same = best == (now.delay_ms, now.jitter_ms);
    // More retries than needed cost nothing: who gets the lock makes no more of them.
    let retries = if same {
        needed.max(now.retries)
    } else {
        needed
    };
    let advised = Setting {
        delay_ms: best.0,
        jitter_ms: best.1,
        retries,
        ..now
    };
    PollingAdvice {
        advised,
        change: advised != now,
        expected: Point {
            advised: true,
            ..replay.point(best)
        },
        curve: replay.curve(best),
    }
}

fn needs(samples: &Samples, advice: &Advice) -> Vec<Need> {
    let need = |what, have: u64, enough: u64| {
        let more = enough.saturating_sub(have);
        (more > 0).then_some(Need { what, have, more })
    };
    let waited = samples.time_to_free.count();
    let contended = samples
        .waits
        .count()
        .saturating_add(samples.gave_up.count())
        > 0;
    let all = [
        need(Subject::Utilisation, samples.holds.count(), 1),
        need(Subject::Lease, advice.holds, lease::ENOUGH),
        // Where nobody finds the lock held, there is nothing to tune.
        contended
            .then(|| need(Subject::Delay, waited, ENOUGH_TO_REPLAY))
            .flatten(),
    ];
    all.into_iter().flatten().collect()
}
