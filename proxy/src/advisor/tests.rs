//! What the advice is worth: on simulated clients, and on input that nobody should give.

use proptest::prelude::*;

use super::simulation::{Clients, Outcome, run};
use super::*;

const HOURS: f64 = 3_600_000.0;

/// Ten clients that hold a lock for half a second on average.
const TEN: Clients = Clients {
    count: 10,
    hold: (100.0, 900.0),
    think: 6_700.0,
};

fn setting(delay_ms: u64, jitter_ms: u64, retries: u64) -> Setting {
    Setting {
        lease_ms: 10_000,
        delay_ms,
        jitter_ms,
        retries,
        fifo: false,
    }
}

fn simulated(clients: Clients, setting: Setting) -> Outcome {
    run(clients, setting, 10.0 * HOURS, 7)
}

fn advised(outcome: &Outcome) -> Setting {
    let advice = advise(&outcome.samples, &Wanted::default());
    advice.polling.expect("enough waits").advised
}

fn text(advice: &Advice) -> String {
    let all = advice.findings.iter().map(|finding| finding.text.as_str());
    all.collect::<Vec<_>>().join("\n")
}

#[test]
fn ten_polling_clients_cost_what_they_are_known_to_cost() {
    let known = [
        (setting(500, 0, 10), 2.7, 0.012),
        (setting(100, 0, 50), 5.7, 0.0),
        (setting(500, 500, 20), 2.3, 0.0),
    ];
    for (setting, attempts, failures) in known {
        let seen = simulated(TEN, setting);
        let (a, f) = (seen.attempts, seen.failures);
        assert!((a - attempts).abs() < 0.2, "{setting:?}: {a} attempts");
        assert!((f - failures).abs() < 0.003, "{setting:?}: {f} fail");
    }
}

#[test]
fn who_polls_too_often_or_without_jitter_is_advised_what_costs_less_and_fails_no_more() {
    let busier = Clients {
        think: 5_200.0,
        ..TEN
    };
    let calm = Clients {
        think: 20_000.0,
        ..TEN
    };
    let long = Clients {
        count: 5,
        hold: (2_000.0, 8_000.0),
        think: 40_000.0,
    };
    for clients in [TEN, busier, calm, long] {
        for bad in [
            setting(500, 0, 10),
            setting(100, 0, 50),
            setting(100, 0, 10),
            setting(20, 5, 100),
        ] {
            let before = simulated(clients, bad);
            if before.samples.busiest_held_ms * 5 >= before.samples.window_ms * 4 {
                continue;
            }
            let better = advised(&before);
            let after = simulated(clients, better);
            let (was, is) = (before.attempts, after.attempts);
            assert!(is <= was * 1.02, "{bad:?} {better:?}: {was} {is}");
            let (was, is) = (before.failures, after.failures);
            assert!(is <= was.max(0.001), "{bad:?} {better:?}: {was} {is}");
        }
    }
}

#[test]
fn the_settings_of_the_table_lead_to_the_best_one_of_it() {
    for bad in [setting(500, 0, 10), setting(100, 0, 50)] {
        let better = advised(&simulated(TEN, bad));
        let after = simulated(TEN, better);
        assert!(after.attempts < 2.65, "{better:?}: {}", after.attempts);
        assert!(after.failures <= 0.001, "{better:?}: {}", after.failures);
        assert!((300..=700).contains(&better.delay_ms), "{better:?}");
        assert_eq!(better.jitter_ms, better.delay_ms);
    }
}

#[test]
fn who_polls_too_rarely_is_advised_what_waits_less_and_fails_no_more() {
    for bad in [setting(3_000, 3_000, 5), setting(5_000, 0, 3)] {
        let before = simulated(TEN, bad);
        let better = advised(&before);
        let after = simulated(TEN, better);
        assert!(after.wait < before.wait / 1.5, "{bad:?} {better:?}");
        assert!(after.failures <= before.failures, "{bad:?} {better:?}");
    }
}

#[test]
fn advice_that_was_followed_is_not_taken_back() {
    for bad in [
        setting(500, 0, 10),
        setting(20, 0, 500),
        setting(5_000, 0, 3),
    ] {
        let first = advised(&simulated(TEN, bad));
        let second = advised(&simulated(TEN, first));
        assert_eq!(
            (first.delay_ms, first.jitter_ms),
            (second.delay_ms, second.jitter_ms),
            "from {bad:?}"
        );
    }
}

#[test]
fn of_a_lock_that_is_held_nearly_always_it_says_that_retries_cannot_help() {
    let crowd = Clients {
        think: 500.0,
        ..TEN
    };
    let outcome = simulated(crowd, setting(100, 0, 50));
    let advice = advise(&outcome.samples, &Wanted::default());
    assert!(advice.utilisation.unwrap().saturated);
    assert_eq!(advice.polling, None);
    assert_eq!(advice.findings[0].about, Subject::Utilisation);
    for word in ["no delay", "less time", "split", "fifo"] {
        assert!(text(&advice).contains(word), "{}", text(&advice));
    }
}

#[test]
fn one_waiter_at_a_time_needs_no_jitter() {
    let pair = Clients {
        count: 2,
        think: 4_000.0,
        ..TEN
    };
    let mut outcome = simulated(pair, setting(50, 0, 100));
    assert_eq!(advised(&outcome).jitter_ms, advised(&outcome).delay_ms);
    outcome.samples.most_waiters = 1;
    assert_eq!(advised(&outcome).jitter_ms, 0);
}

fn holding(all: impl IntoIterator<Item = (u64, u64)>) -> Samples {
    let mut samples = Samples {
        window_ms: 3_600_000,
        drift_ppm: 10_000,
        drift_margin_ms: 2,
        round_trip_p99_ms: 8,
        ..Samples::default()
    };
    for (millis, count) in all {
        samples.holds.add(millis, count);
    }
    samples
}

#[test]
fn the_lease_is_half_as_long_again_as_nearly_all_holds_and_drift_and_a_round_trip() {
    let advice = advise(&holding([(50, 999), (60, 1_000)]), &Wanted::default());
    let lease = advice.lease.unwrap();
    // (60 × 1.5 + 2 + 8) / 0.99, to two digits upwards.
    assert_eq!((lease.p999_ms, lease.advised_ms), (60, 110));
    assert_eq!((lease.renewal, lease.provisional), (None, false));
}

#[test]
fn where_few_holds_are_far_longer_a_short_lease_is_to_be_renewed() {
    let advice = advise(&holding([(50, 9_900), (600_000, 100)]), &Wanted::default());
    let lease = advice.lease.unwrap();
    let renewal = lease.renewal.unwrap();
    assert!(lease.advised_ms >= 600_000);
    assert!(renewal.lease_ms < 60_000 && renewal.every_ms * 3 <= renewal.lease_ms);
    assert!(text(&advice).contains("extended every"));
}

#[test]
fn holds_that_outlived_the_lease_make_it_longer_than_it_was() {
    let mut samples = holding([(50, 2_000)]);
    let setting = setting(100, 100, 10);
    samples.settings = vec![Used { setting, count: 1 }];
    samples.lapsed = 40;
    let advice = advise(&samples, &Wanted::default());
    let lease = advice.lease.unwrap();
    assert!(lease.advised_ms >= 2 * setting.lease_ms && lease.provisional);
    assert!(text(&advice).contains("40 of 2040 holds outlived their lease"));
}

#[test]
fn with_too_few_samples_it_says_how_many_more_it_takes() {
    let none = advise(&Samples::default(), &Wanted::default());
    assert_eq!((none.lease, none.polling.as_ref()), (None, None));
    assert!(
        text(&none).contains("100 more are needed"),
        "{}",
        text(&none)
    );
    let some = advise(&holding([(50, 400)]), &Wanted::default());
    assert!(some.lease.unwrap().provisional);
    assert!(text(&some).contains("600 more"), "{}", text(&some));
    let mut few = run(TEN, setting(500, 0, 10), 60_000.0, 1).samples;
    few.time_to_free = Spread::from(vec![(100, 12)]);
    let few = advise(&few, &Wanted::default());
    assert!(text(&few).contains("38 more are needed"), "{}", text(&few));
}

#[test]
fn a_wait_that_outlasts_the_callers_timeout_is_warned_of() {
    let samples = simulated(TEN, setting(500, 0, 100)).samples;
    let with = |timeout_ms| {
        let wanted = Wanted {
            timeout_ms,
            ..Wanted::default()
        };
        text(&advise(&samples, &wanted))
    };
    assert!(with(Some(10_000)).contains("cut off after 10 s"));
    assert!(with(None).contains("API gateways"));
    assert!(!with(Some(600_000)).contains("cut off"));
}

#[test]
fn fewer_failures_take_more_retries() {
    let samples = simulated(TEN, setting(500, 0, 10)).samples;
    let retries = |failure| {
        let wanted = Wanted {
            failure,
            ..Wanted::default()
        };
        let advice = advise(&samples, &wanted);
        advice.polling.unwrap().advised.retries
    };
    let all = [0.1, 0.01, 0.001, 0.000_1].map(retries);
    assert!(all.is_sorted() && all[0] < all[3], "{all:?}");
}

fn spreads() -> impl Strategy<Value = Spread> {
    let pair = prop_oneof![
        (0..5_000_u64, 0..2_000_u64),
        any::<(u64, u64)>(),
        (Just(u64::MAX), Just(u64::MAX)),
    ];
    prop::collection::vec(pair, 0..12).prop_map(Spread::from)
}

fn settings() -> impl Strategy<Value = Vec<Used>> {
    let number = || prop_oneof![0..20_000_u64, Just(0), any::<u64>()];
    let one = (
        number(),
        number(),
        number(),
        number(),
        any::<bool>(),
        number(),
    );
    let used = one.prop_map(
        |(lease_ms, delay_ms, jitter_ms, retries, fifo, count)| Used {
            setting: Setting {
                lease_ms,
                delay_ms,
                jitter_ms,
                retries,
                fifo,
            },
            count,
        },
    );
    prop::collection::vec(used, 0..4)
}

fn hostile() -> impl Strategy<Value = Samples> {
    let numbers = prop::array::uniform14(prop_oneof![Just(0), 0..5_000_u64, any::<u64>()]);
    let spreads = prop::array::uniform4(spreads());
    (numbers, spreads, settings()).prop_map(|(n, [holds, waits, gave_up, free], settings)| {
        Samples {
            window_ms: n[0],
            keys: n[1],
            held_ms: n[2],
            busiest_held_ms: n[3],
            lapsed: n[4],
            extensions: n[5],
            acquired: n[6],
            contended: n[7],
            unavailable: n[8],
            cancelled: n[9],
            attempts: n[10],
            most_waiters: n[11],
            round_trip_p99_ms: n[12],
            drift_ppm: n[13],
            drift_margin_ms: n[13],
            holds,
            waits,
            gave_up,
            time_to_free: free,
            settings,
        }
    })
}

proptest! {
    #[test]
    fn whatever_it_is_given_every_figure_is_a_number_within_bounds(
        samples in hostile(),
        failure in prop_oneof![any::<f64>(), 0.0..1.0_f64],
        timeout_ms in any::<Option<u64>>(),
    ) {
        let advice = advise(&samples, &Wanted { failure, timeout_ms });
        let json = serde_json::to_string(&advice).unwrap();
        // serde_json writes what is no finite number as null, which is then no advice.
        let back: Advice = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&back.needs, &advice.needs);
        prop_assert!(advice.utilisation.is_none_or(|known| known.busiest <= 1.0));
        if let Some(lease) = advice.lease {
            prop_assert!(lease.advised_ms >= lease.p999_ms);
            prop_assert!(lease.renewal.is_none_or(|renewal| renewal.every_ms > 0));
        }
        if let Some(polling) = &advice.polling {
            prop_assert!((1..=100_000).contains(&polling.advised.retries)
                || polling.advised.retries == advice.current.unwrap().retries);
            prop_assert_eq!(polling.curve.iter().filter(|point| point.current).count(), 1);
            prop_assert_eq!(polling.curve.iter().filter(|point| point.advised).count(), 1);
        }
    }

    #[test]
    fn the_advised_lease_is_never_below_the_longest_but_one_in_a_thousand_and_grows_with_holds(
        mut all in prop::collection::vec(0..100_000_u64, 100..400),
        longer in 100_000..200_000_u64,
    ) {
        let of = |all: &[u64]| {
            let samples = holding(all.iter().map(|millis| (*millis, 1)));
            advise(&samples, &Wanted::default()).lease.unwrap().advised_ms
        };
        let before = of(&all);
        all.push(longer);
        let after = of(&all);
        prop_assert!(after >= before);
        all.sort_unstable();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let rank = (0.999 * all.len() as f64).ceil() as usize;
        prop_assert!(after >= all[rank - 1]);
    }

    #[test]
    fn in_the_replay_a_longer_delay_never_takes_more_attempts(
        free in prop::collection::vec((1..60_000_u64, 1..100_u64), 1..20),
        delay in 1..5_000_u64,
    ) {
        let mut samples = holding([(50, 200)]);
        samples.settings = vec![Used { setting: setting(delay, 0, 10), count: 1 }];
        samples.time_to_free = Spread::from(free);
        samples.time_to_free.add(100, 50);
        samples.waits = samples.time_to_free.clone();
        samples.acquired = samples.waits.count();
        samples.attempts = samples.acquired * 3;
        let advice = advise(&samples, &Wanted::default());
        let polling = advice.polling.unwrap();
        let attempts: Vec<_> = polling.curve.iter().map(|point| point.attempts).collect();
        prop_assert!(attempts.is_sorted_by(|a, b| *a >= *b - 1e-9), "{attempts:?}");
    }
}
