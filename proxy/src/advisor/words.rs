//! The advice in words: what it says, why, and what it does not know.

use super::advice::{Advice, Finding, Subject, Weight};
use super::lease;
use super::samples::Samples;
use super::{ENOUGH_TO_REPLAY, Wanted};

/// How long well-known parties in between wait for an answer.
const TIMEOUTS: [(&str, u64); 2] = [
    ("API gateways cut requests off after 29 s", 29_000),
    (
        "most balancers cut requests off after 60 s without a byte",
        60_000,
    ),
];
/// From this share on, wasted attempts are worth a word.
const WASTEFUL: f64 = 0.5;
/// From this share on, so many different settings are in use that no single one stands for them.
const MIXED: f64 = 0.5;
/// From this share on, outages are worth a word.
const OUTAGES: u64 = 100;

/// The findings, the weightiest first.
pub(super) fn findings(samples: &Samples, advice: &Advice, wanted: &Wanted) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    let mut say = |weight, about, text| {
        all.push(Finding {
            weight,
            about,
            text,
        });
    };
    busy(advice, &mut say);
    holds(samples, advice, &mut say);
    retries(samples, advice, &mut say);
    timeouts(advice, wanted, &mut say);
    outages(samples, &mut say);
    too_few(advice, &mut say);
    // Stable: within a weight, the order above.
    all.sort_by_key(|finding| finding.weight);
    all
}

type Say<'a> = &'a mut dyn FnMut(Weight, Subject, String);

fn busy(advice: &Advice, say: Say<'_>) {
    let Some(known) = advice.utilisation else {
        return;
    };
    let busiest = percent(known.busiest);
    if known.saturated {
        let text = format!(
            "The busiest lock is held {busiest} of the time: no delay and no number of retries can \
             help. Hold it for less time, split its key, or wait in line (fifo)."
        );
        say(Weight::Warning, Subject::Utilisation, text);
    } else {
        let text = format!("The busiest lock is held {busiest} of the time.");
        say(Weight::Note, Subject::Utilisation, text);
    }
}

fn holds(samples: &Samples, advice: &Advice, say: Say<'_>) {
    if samples.lapsed > 0 {
        let text = format!(
            "{} of {} holds outlived their lease: the work went on without the lock. Renew the \
             lease, or ask for a longer one.",
            samples.lapsed, advice.holds
        );
        say(Weight::Warning, Subject::Lease, text);
    }
    let Some(known) = advice.lease else { return };
    let (advised, p999) = (shown(known.advised_ms), shown(known.p999_ms));
    let provisional = if known.provisional {
        ", as far as it can be told yet"
    } else {
        ""
    };
    let why = format!("999 of 1,000 holds end within {p999}{provisional}");
    match known.current_ms {
        Some(now) if now < known.p999_ms => {
            let text = format!("A lease of {advised} in place of {}: {why}.", shown(now));
            say(Weight::Warning, Subject::Lease, text);
        }
        // Up to twice as long costs little: it counts only after a crash.
        Some(now) if now < known.advised_ms || now > known.advised_ms.saturating_mul(2) => {
            let text = format!("A lease of {advised} in place of {}: {why}.", shown(now));
            say(Weight::Advice, Subject::Lease, text);
        }
        Some(now) => {
            let text = format!("The lease of {} is right: {why}.", shown(now));
            say(Weight::Note, Subject::Lease, text);
        }
        None => {
            let text = format!("A lease of {advised}: {why}.");
            say(Weight::Note, Subject::Lease, text);
        }
    }
    if let Some(renewal) = known.renewal {
        let text = format!(
            "A few holds are far longer than most (half end within {}): better a lease of {} that \
             is extended every {} while the work goes on, so that a crash blocks others for no \
             longer than that.",
            shown(known.p50_ms),
            shown(renewal.lease_ms),
            shown(renewal.every_ms)
        );
        say(Weight::Advice, Subject::Lease, text);
    }
}

fn retries(samples: &Samples, advice: &Advice, say: Say<'_>) {
    let cost = advice.cost;
    if let (Some(polling), Some(now)) = (&advice.polling, advice.current) {
        let to = polling.advised;
        let moved = (to.delay_ms, to.jitter_ms) != (now.delay_ms, now.jitter_ms);
        if moved {
            let text = format!(
                "A delay of {} with a jitter of {} in place of {} and {}: {:.1} attempts an acquire \
                 in place of {:.1}, and a p99 wait of about {} in place of {}, by replay.",
                shown(to.delay_ms),
                shown(to.jitter_ms),
                shown(now.delay_ms),
                shown(now.jitter_ms),
                polling.expected.attempts,
                cost.attempts_per_acquire,
                shown(polling.expected.p99_wait_ms),
                shown(cost.p99_wait_ms)
            );
            say(Weight::Advice, Subject::Delay, text);
        } else {
            let text = format!(
                "The delay of {} is right for these locks.",
                shown(now.delay_ms)
            );
            say(Weight::Note, Subject::Delay, text);
        }
        if to.retries != now.retries && (moved || to.retries > now.retries) {
            let text = format!(
                "{} retries in place of {}, since {} of the acquires gave up.",
                to.retries,
                now.retries,
                percent(cost.failure_share)
            );
            say(Weight::Advice, Subject::Retries, text);
        }
    }
    if let Some(now) = advice
        .current
        .filter(|now| now.fifo && cost.wasted_attempts > 0)
    {
        let text = format!(
            "These wait in line (fifo): the delay of {} matters little, since who is next is woken.",
            shown(now.delay_ms)
        );
        say(Weight::Note, Subject::Delay, text);
    }
    if cost.wasted_share >= WASTEFUL && samples.attempts > 0 {
        let text = format!(
            "{} of {} attempts ({}) did not get the lock.",
            cost.wasted_attempts,
            samples.attempts,
            percent(cost.wasted_share)
        );
        say(Weight::Note, Subject::WastedAttempts, text);
    }
    if advice.current.is_some() && advice.current_share < MIXED {
        let text = format!(
            "Clients ask with many settings: the commonest is that of {} of the acquires, and all \
             this goes by it.",
            percent(advice.current_share)
        );
        say(Weight::Note, Subject::Samples, text);
    }
}

fn timeouts(advice: &Advice, wanted: &Wanted, say: Say<'_>) {
    let advised = advice.polling.as_ref().map(|polling| polling.advised);
    let both = [("present", advice.current), ("advised", advised)];
    for (which, setting) in both {
        let Some(wait) = setting.map(|setting| setting.whole_wait_ms()) else {
            continue;
        };
        if which == "advised" && setting == advice.current {
            continue;
        }
        let waits = format!("The {which} retries may last {} altogether", shown(wait));
        if let Some(timeout) = wanted.timeout_ms {
            if wait >= timeout {
                let text = format!(
                    "{waits}, and the caller is cut off after {}: what it waits for then is lost.",
                    shown(timeout)
                );
                say(Weight::Warning, Subject::Timeout, text);
            }
        } else if let Some((who, _)) = TIMEOUTS.iter().rfind(|(_, time)| wait >= *time) {
            let text = format!("{waits}; {who}, functions often before.");
            say(Weight::Warning, Subject::Timeout, text);
        }
    }
}

fn outages(samples: &Samples, say: Say<'_>) {
    let share = samples.acquires() / OUTAGES;
    if samples.unavailable > 0 && samples.unavailable >= share {
        let text = format!(
            "No quorum of nodes answered {} of {} acquires: see to the nodes first.",
            samples.unavailable,
            samples.acquires()
        );
        say(Weight::Warning, Subject::Outage, text);
    }
}

fn too_few(advice: &Advice, say: Say<'_>) {
    for need in &advice.needs {
        let text = match need.what {
            Subject::Lease if advice.lease.is_some() => format!(
                "The lease rests on {} holds: {} more, and the p99.9 is one.",
                need.have, need.more
            ),
            Subject::Lease => format!(
                "Too few holds to advise a lease: {} seen, {} more are needed.",
                need.have,
                lease::FEWEST.saturating_sub(need.have)
            ),
            Subject::Delay => format!(
                "Too few waits to advise a delay: {} of {ENOUGH_TO_REPLAY}, {} more are needed.",
                need.have, need.more
            ),
            _ => "No release was seen: how busy the locks are is not known.".to_owned(),
        };
        say(Weight::Note, Subject::Samples, text);
    }
}

fn percent(share: f64) -> String {
    let hundred = share * 100.0;
    if hundred > 0.0 && hundred < 10.0 {
        format!("{hundred:.1} %")
    } else {
        format!("{hundred:.0} %")
    }
}

/// A duration for people.
pub(crate) fn shown(millis: u64) -> String {
    let of = |unit: u64, name: &str| {
        let (whole, tenth) = (millis / unit, millis % unit * 10 / unit);
        if tenth == 0 || whole >= 100 {
            format!("{whole} {name}")
        } else {
            format!("{whole}.{tenth} {name}")
        }
    };
    match millis {
        0..1_000 => of(1, "ms"),
        1_000..120_000 => of(1_000, "s"),
        120_000..7_200_000 => of(60_000, "min"),
        _ => of(3_600_000, "h"),
    }
}
