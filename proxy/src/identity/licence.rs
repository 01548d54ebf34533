//! Licences: what their owners may do, and who knows it.
//!
//! Invariant: a licence key, which is a secret, is in no error, log or `Debug`. A backend that
//! can't be asked is told apart from one that says no.

pub(super) mod file;
pub(super) mod polar;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use everlock::clock::{Clock as _, SystemClock};

use super::Identity;

/// The longest licence key.
pub(crate) const MAX_LICENCE_KEY_BYTES: usize = 512;

/// A licence key, as its owner has it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct LicenceKey(String);

impl LicenceKey {
    pub(crate) fn new(key: &str) -> Self {
        Self(key.trim().to_owned())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LicenceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LicenceKey(…)")
    }
}

/// Over which time an allowance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// A calendar month, in UTC.
    Month,
    /// For ever.
    Total,
}

/// What a backend knows of a licence that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Licence {
    /// The backend's name for it, no secret.
    pub(crate) reference: String,
    pub(crate) identity: Identity,
    /// Whom usage is reported for.
    pub(crate) customer: String,
    /// Microseconds since 1970.
    pub(crate) expires: Option<u64>,
    /// Attempts to acquire that may be made in a period.
    pub(crate) allowance: Option<u64>,
    pub(crate) period: Period,
    /// What was used of the allowance and counted by the backend itself.
    pub(crate) used_elsewhere: u64,
    pub(crate) bounds: Bounds,
}

/// Bounds of one licence. Where the proxy has lower ones, those count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Requests in a second.
    pub(crate) rate: Option<u32>,
    /// Acquires that are under way at once, on one proxy.
    pub(crate) max_waiters: Option<usize>,
    pub(crate) max_lease: Option<Duration>,
    pub(crate) max_wait: Option<Duration>,
}

impl Licence {
    /// Whether its time is over, by the wall clock, which is what its owner goes by.
    pub(crate) fn has_expired(&self) -> bool {
        let now = SystemClock.wall().as_micros();
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// Why there is no licence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unlicensed {
    /// There is no such licence, or it was revoked or has expired.
    Refused,
    /// The backend can't be asked.
    Unavailable,
}

/// An answer that is on its way.
pub(crate) type Asking<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Usage to report: once, however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageEvent {
    /// Names the event; one that was taken in before is not counted again.
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) licence: String,
    pub(crate) attempts: u64,
}

/// Who knows licences. Every answer has a deadline.
pub(crate) trait Backend: Send + Sync + fmt::Debug {
    /// The licence with this key.
    fn validate<'a>(&'a self, key: &'a LicenceKey) -> Asking<'a, Result<Licence, Unlicensed>>;

    /// The licence with this reference, as the backend gave it.
    fn look_up<'a>(&'a self, reference: &'a str) -> Asking<'a, Result<Licence, Unlicensed>>;

    /// Reports usage: whether it was taken in, now or before. Nothing was, or all.
    fn report<'a>(&'a self, events: &'a [UsageEvent]) -> Asking<'a, bool>;
}

/// A time of RFC 3339 in UTC, in microseconds since 1970.
fn micros_of(text: &str) -> Option<u64> {
    let time = match text.strip_suffix("+00:00") {
        Some(local) => humantime::parse_rfc3339(&format!("{local}Z")),
        None => humantime::parse_rfc3339(text),
    };
    let since = time.ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}
