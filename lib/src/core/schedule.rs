//! When to try again, and when to give up: one acquire request's plan.
//!
//! The wait is a budget of time, the sum of the delays and jitters asked for.
//! The planned attempts stand at its steps. In between, an attempt may be
//! *prompted*: when the holder's lease ends, when rivals split the vote, while
//! a quorum is away for a moment. Prompted attempts use up no retries, so a
//! waiter neither sleeps past the moment when the lock is free nor pays for
//! having been woken.

use std::time::Duration;

use super::attempt::Loss;
use super::time::Moment;

/// The parts of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Retries after the first attempt.
    pub retries: u32,
    /// The time between two planned attempts; one millisecond at least is kept.
    pub delay: Duration,
    /// A random amount up to this is added to each delay.
    pub jitter: Duration,
    /// The moment after which no attempt is begun.
    pub deadline: Option<Moment>,
    /// For how long a missing quorum is borne before that is the answer.
    pub patience: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again at this moment.
    At(Moment),
    /// Answer with what the last attempt said.
    GiveUp,
}

/// However short the delay that was asked for: a waiter without any would use
/// the nodes as fast as they answer, to the cost of all others.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);
/// Prompted attempts are at least this far apart, however short the leases.
const SHORTEST_PROMPT: Duration = Duration::from_millis(5);
/// The key may end a moment later than was reported; and not all waiters at once.
const EXPIRY_SPREAD: Duration = Duration::from_millis(10);
/// Rivals that split a vote try again within this, doubled at each further split.
const SPLIT_SPREAD: Duration = Duration::from_millis(20);
/// Rivals wait no longer than this for one another.
const LONGEST_SPLIT_SPREAD: Duration = Duration::from_millis(320);
/// A missing quorum is looked for this often.
const OUTAGE_PROMPT: Duration = Duration::from_millis(100);

/// Where an acquire request stands in its plan.
#[derive(Clone, Debug)]
pub struct Schedule {
    plan: Plan,
    /// Planned attempts made, the first one included.
    planned: u32,
    /// All attempts made.
    made: u32,
    /// The planned attempt that comes next, while it lies ahead.
    next_planned: Option<Moment>,
    away_since: Option<Moment>,
    splits: u32,
}

impl Schedule {
    /// A plan of which no attempt has been made.
    #[must_use]
    pub const fn new(plan: Plan) -> Self {
        Self {
            plan,
            planned: 1,
            made: 0,
            next_planned: None,
            away_since: None,
            splits: 0,
        }
    }

    /// The next attempt is being made.
    pub const fn begin(&mut self) {
        self.made = self.made.saturating_add(1);
    }

    /// Attempts to be accounted for: never more than 1 + retries.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.made.min(self.plan.retries.saturating_add(1))
    }

    /// The last attempt ended at `now` like this. `roll` is a random number in `0.0..1.0`.
    pub fn after(&mut self, loss: Loss, now: Moment, roll: f64) -> Next {
        let roll = if roll.is_finite() {
            roll.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self.note_outage(loss, now);
        let outage_is_over = self
            .away_since
            .is_some_and(|since| now.saturating_since(since) >= self.plan.patience);
        let planned = match self.next_planned {
            Some(moment) => moment,
            None if self.planned > self.plan.retries => return Next::GiveUp,
            None => {
                let asked = self.plan.delay + self.plan.jitter.mul_f64(roll);
                now + asked.max(SHORTEST_DELAY)
            }
        };
        if outage_is_over {
            return Next::GiveUp;
        }
        let prompted = self
            .prompt(loss, roll)
            .map(|wait| now + wait.max(SHORTEST_PROMPT));
        let next = match prompted {
            Some(moment) if moment < planned => {
                self.next_planned = Some(planned);
                moment
            }
            _ => {
                self.next_planned = None;
                self.planned += 1;
                planned
            }
        };
        if self.plan.deadline.is_some_and(|deadline| next >= deadline) {
            return Next::GiveUp;
        }
        Next::At(next)
    }

    /// What was to be done at this moment is done earlier, for another reason;
    /// a planned attempt is still planned.
    pub const fn interrupted(&mut self, next: Moment) {
        if self.next_planned.is_none() {
            self.next_planned = Some(next);
            self.planned -= 1;
        }
    }

    /// When the plan is over, if no attempt is made before. While others stand
    /// before us, planned attempts pass without being made.
    #[must_use]
    pub fn end(&self, now: Moment, roll: f64) -> Moment {
        let left = self.plan.retries.saturating_sub(self.planned - 1);
        let (first, left) = match self.next_planned {
            Some(planned) => (planned, left.saturating_sub(1)),
            None => (now, left),
        };
        let end = first + self.step(roll).saturating_mul(left);
        self.plan.deadline.map_or(end, |deadline| end.min(deadline))
    }

    /// The planned attempts between these moments passed without being made.
    pub fn skip(&mut self, from: Moment, now: Moment, roll: f64) {
        let step = self.step(roll);
        let first = self.next_planned.take().unwrap_or(from + step);
        let left = self.plan.retries.saturating_sub(self.planned - 1);
        let passed = if now < first {
            0
        } else {
            let late = now.saturating_since(first).as_nanos();
            let steps = late.checked_div(step.as_nanos());
            let steps = steps.and_then(|steps| u32::try_from(steps).ok());
            steps.map_or(left, |steps| steps.saturating_add(1).min(left))
        };
        self.planned += passed;
        if passed < left {
            self.next_planned = Some(first + step * passed);
        }
    }

    /// The time from one planned attempt to the next.
    fn step(&self, roll: f64) -> Duration {
        self.plan.delay + self.plan.jitter.mul_f64(roll)
    }

    fn note_outage(&mut self, loss: Loss, now: Moment) {
        if loss == Loss::Unavailable {
            self.away_since.get_or_insert(now);
        } else {
            self.away_since = None;
        }
    }

    /// How soon to try before the next planned attempt, if there is a reason to.
    fn prompt(&mut self, loss: Loss, roll: f64) -> Option<Duration> {
        match loss {
            Loss::Contended { split: true, .. } => {
                let doubled = SPLIT_SPREAD * (1 << self.splits.min(8));
                self.splits = self.splits.saturating_add(1);
                Some(doubled.min(LONGEST_SPLIT_SPREAD).mul_f64(roll))
            }
            Loss::Contended {
                free_in,
                split: false,
            } => {
                self.splits = 0;
                free_in.map(|left| left + Duration::from_millis(1) + EXPIRY_SPREAD.mul_f64(roll))
            }
            Loss::Unavailable => Some(OUTAGE_PROMPT),
            Loss::Late | Loss::Propose { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
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
}
