//! `POST /lock/acquire`.

use std::time::Duration;

use everlock::config::{DEFAULT_LEASE, MAX_DELAY, MAX_RETRIES, MIN_LEASE};
use everlock::protocol::{MAX_MAX_LEASE, SHORTEST_DELAY};
use everlock::{AcquireOptions, MAX_OWNER_BYTES, OwnerId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Always, Field, Fields, Flag, KEY, Nothing, SOFT_FAIL, Shape, Text, Whole, millis};
use crate::advisor::Setting;
use crate::problem::Problem;

/// Attempts take time themselves; this much is borne beyond the wait that was asked for.
const ATTEMPTS_TIME: Duration = Duration::from_secs(5);

const LEASE: Whole = Whole {
    name: "lease",
    least: millis(MIN_LEASE),
    most: millis(MAX_MAX_LEASE),
    default: Some(millis(DEFAULT_LEASE)),
    about: "Milliseconds for which the lock is held unless it is extended or released. A deployment \
            may take less than the maximum given here; the default is then its maximum, if that is \
            less than 10000.",
};
/// The defaults of the wait are what Evermind's documentation says.
const RETRY_ATTEMPTS: Whole = Whole {
    name: "retryAttempts",
    least: 0,
    most: MAX_RETRIES as u64,
    default: Some(10),
    about: "Retries after the first attempt. retryAttempts × (retryDelay + retryJitter) may not \
            exceed the deployment's longest wait, 300000 milliseconds unless configured otherwise.",
};
const RETRY_DELAY: Whole = Whole {
    name: "retryDelay",
    least: 0,
    most: millis(MAX_DELAY),
    default: Some(500),
    about: "Milliseconds between attempts.",
};
const RETRY_JITTER: Whole = Whole {
    name: "retryJitter",
    least: 0,
    most: millis(MAX_DELAY),
    default: Some(0),
    about: "A random amount of up to so many milliseconds is added to each delay.",
};
const UUID: Text = Text {
    name: "uuid",
    most: MAX_OWNER_BYTES,
    about: "The lock's owner: whoever knows it can extend and release. 1 to 128 bytes of UTF-8; a \
            fresh UUIDv7 if it is not given. Asking again with the uuid that holds the lock \
            succeeds with the same token.",
};
const FIFO: Flag = Flag {
    name: "fifo",
    about: "First in, first out among all who ask with it.",
};

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
    pub(crate) const SHAPE: Shape = Shape {
        name: "AcquireRequest",
        about: "Which lock, for how long, and how long to try for it.",
        fields: &[
            Field::Text(&KEY),
            Field::MaybeWhole(&LEASE),
            Field::MaybeWhole(&RETRY_ATTEMPTS),
            Field::MaybeWhole(&RETRY_DELAY),
            Field::MaybeWhole(&RETRY_JITTER),
            Field::MaybeText(&UUID),
            Field::Flag(&SOFT_FAIL),
            Field::Flag(&FIFO),
        ],
    };

    pub(crate) fn read(
        fields: &Fields,
        max_wait: Duration,
        max_lease: Duration,
    ) -> Result<Self, Problem> {
        let key = KEY.read(fields)?.to_owned();
        let lease = LEASE.read_or_default_up_to(fields, millis(max_lease))?;
        let retry_attempts = RETRY_ATTEMPTS.read_or_default(fields)?;
        let retry_delay = RETRY_DELAY.read_or_default(fields)?;
        let retry_jitter = RETRY_JITTER.read_or_default(fields)?;
        let owner = match UUID.read_if_given(fields)? {
            Some(uuid) => OwnerId::new(uuid).expect("its bytes were counted"),
            None => OwnerId::fresh(),
        };
        let config = Config {
            key,
            lease,
            retry_attempts,
            retry_delay,
            uuid: owner.as_str().to_owned(),
            retry_jitter,
            fifo: FIFO.read(fields)?,
        };
        config.check_wait(max_wait)?;
        Ok(Self {
            config,
            owner,
            soft_fail: SOFT_FAIL.read(fields)?,
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
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AcquireConfig)]
pub(crate) struct Config {
    pub(crate) key: String,
    /// In milliseconds.
    lease: u64,
    retry_attempts: u64,
    /// In milliseconds.
    retry_delay: u64,
    /// The lock's owner, to extend and release with.
    uuid: String,
    /// In milliseconds.
    retry_jitter: u64,
    pub(crate) fifo: bool,
}

impl Config {
    /// The part that the advisor knows.
    pub(crate) const fn setting(&self) -> Setting {
        Setting {
            lease_ms: self.lease,
            delay_ms: self.retry_delay,
            jitter_ms: self.retry_jitter,
            retries: self.retry_attempts,
            fifo: self.fifo,
        }
    }

    fn check_wait(&self, max_wait: Duration) -> Result<(), Problem> {
        let (asked, least) = (self.retry_delay + self.retry_jitter, millis(SHORTEST_DELAY));
        // Nothing overflows: each factor was bounded.
        let wait = self.retry_attempts * asked.max(least);
        let most = millis(max_wait);
        if wait <= most {
            return Ok(());
        }
        let each = if asked < least {
            ", with a millisecond each,"
        } else {
            ""
        };
        Err(Problem::bad_request(format!(
            "retryAttempts × (retryDelay + retryJitter){each} is {wait}: the whole wait takes up to \
             {most} milliseconds"
        )))
    }
}

/// The lock is the caller's.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(
    clippy::struct_field_names,
    reason = "the name of the field is the protocol's"
)]
pub(crate) struct Acquired {
    #[schema(inline)]
    pub(crate) acquired: Always<true>,
    /// 1 + the retries that were made.
    #[schema(minimum = 1)]
    pub(crate) lock_acquisition_attempts: u32,
    pub(crate) config: Config,
    #[schema(inline)]
    pub(crate) message: Nothing,
    /// Rises with each acquisition of the key: hand it to your storage and have it refuse lower ones.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    pub(crate) fencing_token: u64,
    /// Milliseconds that the holder may rely on, from the time of answering.
    pub(crate) validity: u64,
}

/// The lock is not the caller's.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotAcquired {
    #[schema(inline)]
    pub(crate) acquired: Always<false>,
    /// 1 + the retries that were made.
    #[schema(minimum = 1)]
    pub(crate) lock_acquisition_attempts: u32,
    pub(crate) config: Config,
    pub(crate) message: &'static str,
    /// Milliseconds until the holder's lease ends, if the lock is held by others and that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) retry_after: Option<u64>,
    /// With `fifo`, where others hold the lock: how many stood before this request in line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) position: Option<u32>,
}
