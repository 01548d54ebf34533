//! What a lease is built with: checked once, when it is built.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Habits;
use crate::config::MAX_DELAY;
use crate::core::types::{InvalidName, MAX_RESOURCE_BYTES};
use crate::error::ConfigError;

/// Long enough that a renewal may fail twice, short enough to recover from a crash.
pub const DEFAULT_TTL: Duration = Duration::from_secs(15);
/// What can be said in whole milliseconds.
pub const MIN_TTL: Duration = Duration::from_millis(1);
/// A holder that is gone for longer without anybody's noticing is no use.
pub const MAX_TTL: Duration = Duration::from_hours(24);
/// More is a mistake: it would be hours at any sensible delay.
pub const MAX_ATTEMPTS: u32 = 100_000;
/// The longest delay between attempts.
pub const MAX_RETRY_DELAY: Duration = MAX_DELAY;
/// Names and owners have at most so many bytes; some backends take fewer.
const MAX_NAME_BYTES: usize = MAX_RESOURCE_BYTES;

/// What a lease is built with; made by [`LeaseOptions::builder`].
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseOptions {
    name: Arc<str>,
    owner: Arc<str>,
    ttl: Duration,
    renewal_interval: Option<Duration>,
    acquire_retries: Option<u32>,
    acquire_retry_delay: Option<Duration>,
}

impl LeaseOptions {
    /// Begins the options of a lease of this name for this owner, neither of them empty.
    pub fn builder(name: impl Into<Arc<str>>, owner: impl Into<Arc<str>>) -> LeaseOptionsBuilder {
        LeaseOptionsBuilder(Self {
            name: name.into(),
            owner: owner.into(),
            ttl: DEFAULT_TTL,
            renewal_interval: None,
            acquire_retries: None,
            acquire_retry_delay: None,
        })
    }

    /// What is leased.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who holds it.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// For how long it is owned unless it is renewed.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// These options with what the backend takes where they say nothing.
    pub(super) fn terms(&self, habits: Habits) -> Terms {
        let interval = self
            .renewal_interval
            .unwrap_or_else(|| habits.shortest_interval.max(self.ttl / 3));
        Terms {
            ttl: self.ttl,
            // A renewal that fails must leave time for another.
            interval: interval.min(self.ttl / 2),
            attempts: self.acquire_retries.unwrap_or(habits.attempts),
            delay: self.acquire_retry_delay.unwrap_or(habits.retry_delay),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (field, text) in [("name", &self.name), ("owner", &self.owner)] {
            bounded(field, text, MAX_NAME_BYTES)?;
        }
        let within = |field, value, least, most| {
            let fits = (least..=most).contains(&value);
            fits.then_some(())
                .ok_or_else(|| ConfigError::bounds(field, value, least, most))
        };
        within("ttl", self.ttl, MIN_TTL, MAX_TTL)?;
        if let Some(interval) = self.renewal_interval {
            let least = Duration::from_nanos(1);
            within("renewal_interval", interval, least, self.ttl / 2)?;
        }
        if let Some(delay) = self.acquire_retry_delay {
            within(
                "acquire_retry_delay",
                delay,
                Duration::ZERO,
                MAX_RETRY_DELAY,
            )?;
        }
        match self.acquire_retries {
            Some(attempts) if !(1..=MAX_ATTEMPTS).contains(&attempts) => {
                Err(ConfigError::OutOfBounds {
                    field: "acquire_retries",
                    value: attempts.to_string(),
                    bounds: format!("1 to {MAX_ATTEMPTS} attempts in all"),
                })
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a name that is empty or too long, and says which one.
pub(super) fn bounded(field: &'static str, text: &str, max: usize) -> Result<(), InvalidName> {
    match text.len() {
        0 => Err(InvalidName::Empty { field, max }),
        len if len > max => Err(InvalidName::TooLong { field, len, max }),
        _ => Ok(()),
    }
}

/// Sizes in place of names, which may tell a customer's.
impl fmt::Debug for LeaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseOptions")
            .field("name", &format_args!("{} bytes", self.name.len()))
            .field("owner", &format_args!("{} bytes", self.owner.len()))
            .field("ttl", &self.ttl)
            .field("renewal_interval", &self.renewal_interval)
            .field("acquire_retries", &self.acquire_retries)
            .field("acquire_retry_delay", &self.acquire_retry_delay)
            .finish()
    }
}

/// Options that are not checked yet.
#[derive(Clone, Debug)]
#[must_use]
pub struct LeaseOptionsBuilder(LeaseOptions);

impl LeaseOptionsBuilder {
    /// For how long the lease is owned unless it is renewed: [`MIN_TTL`] to
    /// [`MAX_TTL`]; [`DEFAULT_TTL`] if it is not given. Backends have bounds of their own.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.0.ttl = ttl;
        self
    }

    /// How long after one renewal the next is made, half of the ttl at most. A third
    /// of the ttl if it is not given, or 100 ms (Kubernetes: 500 ms) if that is more,
    /// but never above half of the ttl.
    pub const fn renewal_interval(mut self, interval: Duration) -> Self {
        self.0.renewal_interval = Some(interval);
        self
    }

    /// How many attempts an acquire makes in all, where another one may help: while
    /// another holds the lease (in-memory, Redlock), or after a lost race
    /// (Kubernetes). 1 to [`MAX_ATTEMPTS`]; 1 if it is not given (Kubernetes: 3).
    pub const fn acquire_retries(mut self, attempts: u32) -> Self {
        self.0.acquire_retries = Some(attempts);
        self
    }

    /// The time between attempts, [`MAX_RETRY_DELAY`] at most; 50 ms if it is not
    /// given (Kubernetes: 100 ms).
    pub const fn acquire_retry_delay(mut self, delay: Duration) -> Self {
        self.0.acquire_retry_delay = Some(delay);
        self
    }

    /// The options, unless something is out of its bounds: the error says what.
    pub fn build(self) -> Result<LeaseOptions, ConfigError> {
        self.0.check()?;
        Ok(self.0)
    }
}

/// Options without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) ttl: Duration,
    pub(super) interval: Duration,
    pub(super) attempts: u32,
    pub(super) delay: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HABITS: Habits = Habits::PLAIN;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn of(ttl: Duration) -> LeaseOptionsBuilder {
        LeaseOptions::builder("name", "owner").ttl(ttl)
    }

    #[track_caller]
    fn refused(builder: LeaseOptionsBuilder, message: &str) {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_its_name_and_its_bounds() {
        let builder = LeaseOptions::builder;
        refused(builder("", "o"), "name is empty: it takes 1 to 1024 bytes");
        refused(builder("n", ""), "owner is empty: it takes 1 to 1024 bytes");
        refused(of(Duration::ZERO), "ttl is 0 ms: it takes 1 to 86400000 ms");
        refused(
            of(ms(900)).renewal_interval(ms(451)),
            "renewal_interval is 451 ms: it takes 0 to 450 ms",
        );
        assert!(
            of(ms(900))
                .renewal_interval(Duration::ZERO)
                .build()
                .is_err()
        );
        refused(
            of(ms(900)).acquire_retries(0),
            "acquire_retries is 0: it takes 1 to 100000 attempts in all",
        );
        assert!(
            of(ms(9))
                .acquire_retry_delay(MAX_RETRY_DELAY * 2)
                .build()
                .is_err()
        );
    }

    #[test]
    fn the_interval_is_a_third_of_the_ttl_and_never_above_half_of_it() {
        for (ttl, expected) in [(9_000, 3_000), (300, 100), (210, 100), (150, 75), (2, 1)] {
            let terms = of(ms(ttl)).build().unwrap().terms(HABITS);
            assert_eq!(terms.interval, ms(expected), "{ttl}");
        }
        let given = of(ms(9_000)).renewal_interval(ms(10)).build().unwrap();
        assert_eq!(given.terms(HABITS).interval, ms(10));
    }

    #[test]
    fn what_is_not_said_is_the_backends() {
        let terms = of(ms(900)).build().unwrap().terms(HABITS);
        assert_eq!((terms.attempts, terms.delay), (1, ms(50)));
    }

    #[test]
    fn debug_reveals_neither_the_name_nor_the_owner() {
        let options = LeaseOptions::builder("s3cret", "s3cret").build().unwrap();
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
