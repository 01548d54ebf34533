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
pub const SHORTEST_DELAY: Duration = Duration::from_millis(1);
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
            None => now + self.step(roll),
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
            let steps = u32::try_from(late / step.as_nanos());
            steps.map_or(left, |steps| steps.saturating_add(1).min(left))
        };
        self.planned += passed;
        if passed < left {
            self.next_planned = Some(first + step * passed);
        }
    }

    /// The time from one planned attempt to the next, which is never nothing.
    #[must_use]
    pub fn step(&self, roll: f64) -> Duration {
        let asked = self.plan.delay + self.plan.jitter.mul_f64(roll);
        asked.max(SHORTEST_DELAY)
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
mod tests;
