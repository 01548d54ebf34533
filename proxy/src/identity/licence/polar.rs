//! Licences that are sold through Polar.
//!
//! A licence key is validated once, when an API key is made; later the licence is looked up by
//! Polar's own name for it, so that no licence key has to be kept. Usage is reported as events with
//! ids, which Polar counts once however often they come; increments, which it counts as often as
//! they come, are not used.
//!
//! Invariant: whatever is not a clear yes or no counts as no answer. While Polar asks for patience,
//! it is asked nothing; if it asked so because of a licence key that somebody showed, only nothing of
//! that kind: anybody can show some, and what was sold goes on.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    Asking, Backend, Bounds, Licence, LicenceKey, Period, Unlicensed, UsageEvent, micros_of,
};
use crate::identity::https::{Fetched, Https};
use crate::identity::{Identity, is_name};

/// Polar answers in a fraction of it, and a client waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
/// Polar grants an organisation 500 requests a minute, whoever asks. Strangers may use up a part
/// of that with licence keys they made up; those that are known are looked up apart from it.
const VALIDATIONS: NonZeroU32 = NonZeroU32::new(2).expect("it is not zero");
const LOOK_UPS: NonZeroU32 = NonZeroU32::new(4).expect("it is not zero");
const BURST: NonZeroU32 = NonZeroU32::new(20).expect("it is not zero");
/// Where Polar says that it is asked too often, and not for how long.
const BLOCKED: Duration = Duration::from_mins(1);
/// The name of our events.
const EVENT: &str = "lock_acquisition_attempts";

/// What Polar is asked for: how often, and whether at all now.
struct Lane {
    rate: DefaultDirectRateLimiter,
    blocked_until: Mutex<Option<Moment>>,
}

/// Polar's API, as one organisation.
pub(crate) struct Polar {
    https: Https,
    organisation: String,
    token: String,
    /// Licence keys that somebody shows.
    strangers: Lane,
    /// Licences that are known, and what was used of them.
    known: Lane,
}

impl Lane {
    fn new(rate: NonZeroU32) -> Self {
        Self {
            rate: RateLimiter::direct(Quota::per_second(rate).allow_burst(BURST)),
            blocked_until: Mutex::new(None),
        }
    }

    fn is_blocked(&self) -> bool {
        let now = SystemClock.now();
        self.blocked_until().is_some_and(|until| now < until)
    }

    fn block(&self, until: Moment) {
        *self.blocked_until() = Some(until);
    }

    fn blocked_until(&self) -> MutexGuard<'_, Option<Moment>> {
        self.blocked_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Polar {
    pub(crate) fn new(https: Https, organisation: &str, token: &str) -> Self {
        Self {
            https,
            organisation: organisation.to_owned(),
            token: token.to_owned(),
            strangers: Lane::new(VALIDATIONS),
            known: Lane::new(LOOK_UPS),
        }
    }

    async fn ask(
        &self,
        lane: &Lane,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Fetched> {
        // Where known licences have to wait, strangers do, too.
        if lane.is_blocked() || self.known.is_blocked() {
            return None;
        }
        let asked = self.https.ask(method, path, Some(&self.token), body).await;
        let fetched = match asked {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(%error, "Polar does not answer");
                return None;
            }
        };
        match fetched.status {
            StatusCode::TOO_MANY_REQUESTS => {
                let pause = fetched.retry_after().unwrap_or(BLOCKED).min(10 * BLOCKED);
                lane.block(SystemClock.now() + pause);
                tracing::warn!(seconds = pause.as_secs(), "Polar asks for patience");
                None
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                tracing::error!("Polar does not take the organisation's token");
                None
            }
            status if status.is_server_error() || status.is_redirection() => {
                tracing::warn!(status = status.as_u16(), "Polar does not answer");
                None
            }
            _ => Some(fetched),
        }
    }

    fn read(&self, fetched: Option<Fetched>) -> Result<Licence, Unlicensed> {
        let fetched = fetched.ok_or(Unlicensed::Unavailable)?;
        match fetched.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                return Err(Unlicensed::Refused);
            }
            _ => return Err(Unlicensed::Unavailable),
        }
        let json = fetched.json().ok_or(Unlicensed::Unavailable)?;
        let text = |field: &str| json[field].as_str().map(ToOwned::to_owned);
        if json["organization_id"] != *self.organisation || json["status"] != "granted" {
            return Err(Unlicensed::Refused);
        }
        let expires = match &json["expires_at"] {
            Value::Null => None,
            time => Some(
                time.as_str()
                    .and_then(micros_of)
                    .ok_or(Unlicensed::Unavailable)?,
            ),
        };
        let reference = text("id")
            .filter(|id| is_name(id))
            .ok_or(Unlicensed::Unavailable)?;
        let customer = text("customer_id").ok_or(Unlicensed::Unavailable)?;
        let owner = text("user_id").unwrap_or_else(|| customer.clone());
        let licence = Licence {
            reference,
            identity: Identity::new(&owner).ok_or(Unlicensed::Unavailable)?,
            customer,
            expires,
            allowance: json["limit_usage"].as_u64(),
            period: Period::Total,
            used_elsewhere: json["usage"].as_u64().unwrap_or(0),
            bounds: Bounds::default(),
        };
        if licence.has_expired() {
            return Err(Unlicensed::Refused);
        }
        Ok(licence)
    }
}

impl Backend for Polar {
    fn validate<'a>(&'a self, key: &'a LicenceKey) -> Asking<'a, Result<Licence, Unlicensed>> {
        Box::pin(async move {
            if self.strangers.rate.check().is_err() {
                return Err(Unlicensed::Unavailable);
            }
            let body = json!({"key": key.reveal(), "organization_id": self.organisation});
            let path = "/license-keys/validate";
            let asked = self.ask(&self.strangers, Method::POST, path, Some(&body));
            self.read(asked.await)
        })
    }

    fn look_up<'a>(&'a self, reference: &'a str) -> Asking<'a, Result<Licence, Unlicensed>> {
        Box::pin(async move {
            if self.known.rate.check().is_err() {
                return Err(Unlicensed::Unavailable);
            }
            let path = format!("/license-keys/{reference}");
            let asked = self.ask(&self.known, Method::GET, &path, None);
            self.read(asked.await)
        })
    }

    fn report<'a>(&'a self, events: &'a [UsageEvent]) -> Asking<'a, bool> {
        Box::pin(async move {
            let events = events.iter().map(|event| {
                json!({
                    "name": EVENT,
                    "customer_id": event.customer,
                    "external_id": event.id,
                    "metadata": {"attempts": event.attempts, "license_key_id": event.licence},
                })
            });
            let body = json!({"events": events.collect::<Vec<_>>()});
            let path = "/events/ingest";
            let asked = self.ask(&self.known, Method::POST, path, Some(&body));
            let Some(fetched) = asked.await else {
                return false;
            };
            if !fetched.status.is_success() {
                let status = fetched.status.as_u16();
                tracing::error!(status, "Polar does not take the usage that is reported");
            }
            fetched.status.is_success()
        })
    }
}

/// The token is not shown.
impl fmt::Debug for Polar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polar").finish_non_exhaustive()
    }
}
