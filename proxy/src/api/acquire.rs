//! `POST /lock/acquire`.

use std::time::Duration;

use everlock::config::{DEFAULT_LEASE, MAX_DELAY, MAX_RETRIES, MIN_LEASE};
use everlock::{AcquireOptions, MAX_OWNER_BYTES, OwnerId};
use serde::Serialize;

use super::{Fields, MAX_KEY_BYTES, millis};
use crate::problem::Problem;

/// What Evermind's documentation says.
const DEFAULT_RETRY_ATTEMPTS: u64 = 10;
const DEFAULT_RETRY_DELAY: u64 = 500;
const DEFAULT_RETRY_JITTER: u64 = 0;
/// Attempts take time themselves; this much is borne beyond the wait that was asked for.
const ATTEMPTS_TIME: Duration = Duration::from_secs(5);

/// A request to acquire, within its bounds.
#[derive(Debug)]
pub(crate) struct AcquireRequest {
    pub(crate) config: Config,
    pub(crate) owner: OwnerId,
    pub(crate) soft_fail: bool,
    /// How long the attempts may go on altogether.
    deadline: Duration,
}

impl AcquireRequest {
    pub(crate) fn read(
        fields: &Fields,
        max_wait: Duration,
        max_lease: Duration,
    ) -> Result<Self, Problem> {
        let key = fields.required_text("key", MAX_KEY_BYTES)?.to_owned();
        let bounds = millis(MIN_LEASE)..=millis(max_lease);
        let lease = fields.whole("lease", &bounds)?;
        let retries = fields.whole("retryAttempts", &(0..=u64::from(MAX_RETRIES)))?;
        let delays = 0..=millis(MAX_DELAY);
        let delay = fields.whole("retryDelay", &delays)?;
        let jitter = fields.whole("retryJitter", &delays)?;
        let uuid = fields.text("uuid", MAX_OWNER_BYTES)?;
        let owner = match uuid {
            Some(uuid) => OwnerId::new(uuid).expect("its bytes were counted"),
            None => OwnerId::fresh(),
        };
        let config = Config {
            key,
            lease: lease.unwrap_or_else(|| millis(DEFAULT_LEASE.min(max_lease))),
            retry_attempts: retries.unwrap_or(DEFAULT_RETRY_ATTEMPTS),
            retry_delay: delay.unwrap_or(DEFAULT_RETRY_DELAY),
            uuid: owner.as_str().to_owned(),
            retry_jitter: jitter.unwrap_or(DEFAULT_RETRY_JITTER),
            fifo: fields.flag("fifo")?,
        };
        config.check_wait(max_wait)?;
        Ok(Self {
            config,
            owner,
            soft_fail: fields.flag("softFail")?,
            deadline: max_wait + ATTEMPTS_TIME,
        })
    }

    /// The same in the library's terms.
    pub(crate) fn options(&self) -> AcquireOptions {
        let config = &self.config;
        AcquireOptions::new()
            .lease(Duration::from_millis(config.lease))
            .retries(u32::try_from(config.retry_attempts).unwrap_or(MAX_RETRIES))
            .delay(Duration::from_millis(config.retry_delay))
            .jitter(Duration::from_millis(config.retry_jitter))
            .deadline(self.deadline)
            .owner(self.owner.clone())
            .fifo(config.fifo)
    }
}

/// What the acquire went by, echoed in the answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) key: String,
    lease: u64,
    retry_attempts: u64,
    retry_delay: u64,
    uuid: String,
    retry_jitter: u64,
    pub(crate) fifo: bool,
}

impl Config {
    fn check_wait(&self, max_wait: Duration) -> Result<(), Problem> {
        // Neither overflows: each factor was bounded.
        let wait = self.retry_attempts * (self.retry_delay + self.retry_jitter);
        let most = millis(max_wait);
        if wait <= most {
            return Ok(());
        }
        Err(Problem::bad_request(format!(
            "retryAttempts × (retryDelay + retryJitter) is {wait}: the whole wait takes up to {most} \
             milliseconds"
        )))
    }
}

/// The answer, where the lock operation was understood.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AcquireAnswer {
    pub(crate) acquired: bool,
    pub(crate) lock_acquisition_attempts: u32,
    pub(crate) config: Config,
    pub(crate) message: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fencing_token: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) validity: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
    /// How many stood before a waiter that asked for its turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u32>,
}
