//! Wire types: what is read from and written to clients, and nothing else.
//!
//! Invariant: a request that was read is within its bounds. Milliseconds exist
//! on the wire only; inside there are durations.

mod acquire;
mod api_key;
mod fields;
mod hold;

pub(crate) use acquire::{AcquireAnswer, AcquireRequest, Config};
pub(crate) use api_key::{ApiKeyAnswer, CreateKeyRequest, DeleteKeyRequest};
pub(crate) use fields::Fields;
pub(crate) use hold::{ExtendAnswer, ExtendRequest, ReleaseAnswer, ReleaseRequest};

use std::time::Duration;

/// The longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 512;

/// A duration on the wire, rounded down: nobody may rely on more than there is.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration on the wire, rounded up: nobody should come too early.
pub(crate) fn millis_up(duration: Duration) -> u64 {
    let partial = !duration.subsec_nanos().is_multiple_of(1_000_000);
    millis(duration).saturating_add(u64::from(partial))
}
