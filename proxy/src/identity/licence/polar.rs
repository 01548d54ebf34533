//! Licences that are sold through Polar.
//!
//! A licence key is validated once, when an API key is made; later the licence is looked up by
//! Polar's own name for it, so that no licence key has to be kept. Usage is reported as events with
//! ids, which Polar counts once however often they come; increments, which it counts as often as
//! they come, are not used.
//!
//! Invariant: whatever is not a clear yes or no counts as no answer. While Polar asks for patience,
//! it is asked nothing.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
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

/// Polar's API, as one organisation.
pub(crate) struct Polar {
    https: Https,
    organisation: String,
    token: String,
    validations: DefaultDirectRateLimiter,
    look_ups: DefaultDirectRateLimiter,
    blocked_until: Mutex<Option<Moment>>,
}

impl Polar {
    pub(crate) fn new(https: Https, organisation: &str, token: &str) -> Self {
        let limiter = |rate| RateLimiter::direct(Quota::per_second(rate).allow_burst(BURST));
        Self {
            https,
            organisation: organisation.to_owned(),
            token: token.to_owned(),
            validations: limiter(VALIDATIONS),
            look_ups: limiter(LOOK_UPS),
            blocked_until: Mutex::new(None),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Fetched> {
        let now = SystemClock.now();
        let blocked = *self.blocked();
        if blocked.is_some_and(|until| now < until) {
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
                *self.blocked() = Some(SystemClock.now() + pause);
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

    fn blocked(&self) -> std::sync::MutexGuard<'_, Option<Moment>> {
        self.blocked_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
            if self.validations.check().is_err() {
                return Err(Unlicensed::Unavailable);
            }
            let body = json!({"key": key.reveal(), "organization_id": self.organisation});
            self.read(
                self.ask(Method::POST, "/license-keys/validate", Some(&body))
                    .await,
            )
        })
    }

    fn look_up<'a>(&'a self, reference: &'a str) -> Asking<'a, Result<Licence, Unlicensed>> {
        Box::pin(async move {
            if self.look_ups.check().is_err() {
                return Err(Unlicensed::Unavailable);
            }
            let path = format!("/license-keys/{reference}");
            self.read(self.ask(Method::GET, &path, None).await)
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
            let fetched = self.ask(Method::POST, "/events/ingest", Some(&body)).await;
            let Some(fetched) = fetched else {
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
