//! Plans run against outcomes, to their ends.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HELD: Loss = Loss::Contended {
    free_in: None,
    split: false,
};

fn plan(retries: u32, delay: Duration) -> Plan {
    Plan {
        retries,
        delay,
        jitter: Duration::ZERO,
        deadline: None,
        patience: SECOND,
    }
}

/// Runs a plan against outcomes until it gives up: the moments of its attempts.
fn run(plan: Plan, mut outcome: impl FnMut(Moment) -> Loss) -> (Vec<Moment>, Schedule) {
    let mut schedule = Schedule::new(plan);
    schedule.begin();
    let mut moments = vec![Moment::default()];
    let mut now = Moment::default();
    while let Next::At(next) = schedule.after(outcome(now), now, 0.5) {
        assert!(
            next >= now && moments.len() < 10_000,
            "time goes on and plans end"
        );
        now = next;
        schedule.begin();
        moments.push(now);
    }
    (moments, schedule)
}

#[test]
fn without_prompts_every_retry_is_made_at_its_delay_and_no_more() {
    let (moments, schedule) = run(plan(3, SECOND), |_| HELD);
    let seconds: Vec<_> = moments.iter().map(|m| m.since_origin().as_secs()).collect();
    assert_eq!(seconds, [0, 1, 2, 3]);
    assert_eq!(schedule.attempts(), 4);
}

#[test]
fn no_retries_means_one_attempt_whatever_prompts() {
    for loss in [
        HELD,
        Loss::Unavailable,
        Loss::Contended {
            free_in: None,
            split: true,
        },
    ] {
        let (moments, schedule) = run(plan(0, SECOND), |_| loss);
        assert_eq!((moments.len(), schedule.attempts()), (1, 1), "{loss:?}");
    }
}

#[test]
fn retries_without_a_delay_are_all_made_but_not_at_once() {
    let (moments, schedule) = run(plan(50, Duration::ZERO), |_| HELD);
    assert_eq!((moments.len(), schedule.attempts()), (51, 51));
    let apart = |pair: &[Moment]| pair[1].saturating_since(pair[0]);
    let shortest = moments.windows(2).map(apart).min();
    assert_eq!(shortest, Some(SHORTEST_DELAY));
}

#[test]
fn a_delay_that_is_long_enough_is_the_delay_to_the_microsecond() {
    for micros in [1_000, 1_001, 2_500] {
        let delay = Duration::from_micros(micros);
        let (moments, _) = run(plan(3, delay), |_| HELD);
        assert_eq!(moments.last().unwrap().since_origin(), 3 * delay);
    }
}

#[test]
fn no_answer_makes_a_waiter_without_a_delay_come_back_sooner() {
    let split = Loss::Contended {
        free_in: None,
        split: true,
    };
    let ended = Loss::Contended {
        free_in: Some(Duration::ZERO),
        split: false,
    };
    for loss in [HELD, split, ended, Loss::Unavailable, Loss::Late] {
        for roll in [0.0, 1.0] {
            let mut schedule = Schedule::new(plan(2, Duration::ZERO));
            let now = Moment::default();
            let Next::At(next) = schedule.after(loss, now, roll) else {
                panic!("{loss:?}: two retries are left")
            };
            assert!(next >= now + SHORTEST_DELAY, "{loss:?} {roll}");
        }
    }
}

#[test]
fn a_waiter_tries_when_the_lease_ends_not_a_long_delay_later() {
    let ends = Moment::default() + Duration::from_secs(5);
    let mut schedule = Schedule::new(plan(1, Duration::from_mins(1)));
    let held = Loss::Contended {
        free_in: Some(Duration::from_secs(5)),
        split: false,
    };
    let Next::At(next) = schedule.after(held, Moment::default(), 0.5) else {
        panic!("one retry is left")
    };
    assert!(next > ends && next < ends + Duration::from_millis(100));
}

#[test]
fn prompted_attempts_use_up_no_time_and_are_accounted_for_within_the_bound() {
    // The lock changes hands every 100 ms: ten prompts per delay.
    let held = |_| Loss::Contended {
        free_in: Some(Duration::from_millis(100)),
        split: false,
    };
    let (moments, schedule) = run(plan(2, SECOND), held);
    assert_eq!(
        moments.last().unwrap().since_origin(),
        2 * SECOND,
        "the whole budget is used"
    );
    assert!(moments.len() > 10);
    assert_eq!(schedule.attempts(), 3);
}

#[test]
fn a_missing_quorum_is_borne_for_the_patience_and_not_for_the_whole_budget() {
    let (moments, _) = run(plan(100, Duration::from_mins(1)), |_| Loss::Unavailable);
    let last = moments.last().unwrap().since_origin();
    assert!(
        last + OUTAGE_PROMPT >= SECOND && last <= SECOND + OUTAGE_PROMPT,
        "{last:?}"
    );
}

#[test]
fn an_outage_that_ends_in_time_is_forgotten() {
    let away_before = Moment::default() + Duration::from_millis(500);
    let (moments, _) = run(plan(3, SECOND), |now| {
        if now < away_before {
            Loss::Unavailable
        } else {
            HELD
        }
    });
    assert_eq!(moments.last().unwrap().since_origin(), 3 * SECOND);
}

#[test]
fn rivals_that_split_the_vote_try_again_soon_and_further_apart_each_time() {
    let split = Loss::Contended {
        free_in: None,
        split: true,
    };
    let (moments, _) = run(plan(1, SECOND), |_| split);
    assert!(moments[1].since_origin() <= SPLIT_SPREAD);
    assert!(moments.len() > 4, "several tries within one delay");
    assert!(moments.len() < 20, "but no storm: {}", moments.len());
}

#[test]
fn attempts_that_pass_unmade_use_up_the_plan_and_are_not_accounted_for() {
    let start = Moment::default();
    let mut schedule = Schedule::new(plan(5, SECOND));
    assert_eq!(schedule.end(start, 0.5), start + 5 * SECOND);
    // The attempts at 1 s and 2 s pass; that at 3 s is still planned.
    let turn = start + Duration::from_millis(2_500);
    schedule.skip(start, turn, 0.5);
    assert_eq!(schedule.end(turn, 0.5), start + 5 * SECOND);
    assert_eq!(
        schedule.after(HELD, turn, 0.5),
        Next::At(start + 3 * SECOND)
    );
    schedule.begin();
    assert_eq!(schedule.attempts(), 1);
    schedule.skip(start + 3 * SECOND, start + 9 * SECOND, 0.5);
    assert_eq!(schedule.after(HELD, start + 9 * SECOND, 0.5), Next::GiveUp);
}

#[test]
fn what_is_done_earlier_leaves_the_planned_attempt_in_its_place() {
    let start = Moment::default();
    let mut schedule = Schedule::new(plan(1, SECOND));
    schedule.begin();
    let planned = Next::At(start + SECOND);
    assert_eq!(schedule.after(HELD, start, 0.5), planned);
    for millis in [100, 200, 300] {
        schedule.interrupted(start + SECOND);
        let now = start + Duration::from_millis(millis);
        assert_eq!(schedule.after(HELD, now, 0.5), planned);
    }
    assert_eq!(schedule.after(HELD, start + SECOND, 0.5), Next::GiveUp);
}

#[test]
fn nothing_is_begun_at_or_after_the_deadline() {
    let deadline = Moment::default() + Duration::from_millis(2_500);
    let plan = Plan {
        deadline: Some(deadline),
        ..plan(100, SECOND)
    };
    let (moments, _) = run(plan, |_| HELD);
    assert_eq!(moments.len(), 3);
    assert!(moments.iter().all(|moment| *moment < deadline));
}
