//! Wire types: what is read from and written to clients, and nothing else.
//!
//! Invariant: a request that was read is within its bounds. Milliseconds exist
//! on the wire only; inside there are durations.

mod acquire;
mod always;
mod api_key;
mod fields;
mod hold;
mod shape;

pub(crate) use acquire::{AcquireRequest, Acquired, Config, NotAcquired};
pub(crate) use always::{Always, Nothing};
pub(crate) use api_key::{ApiKeyAnswer, CreateKeyRequest, DeleteKeyRequest};
pub(crate) use fields::Fields;
pub(crate) use hold::{
    ExtendRequest, Extended, NotExtended, NotReleased, ReleaseRequest, Released,
};
pub(crate) use shape::{Field, Flag, Shape, Text, Whole};

use std::time::Duration;

/// The longest key, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 512;

const KEY: Text = Text {
    name: "key",
    most: MAX_KEY_BYTES,
    about: "The resource to lock: any text of 1 to 512 bytes of UTF-8.",
};
const SOFT_FAIL: Flag = Flag {
    name: "softFail",
    about: "What the lock operation itself answers (404, 409, 503) comes with status 200.",
};

/// A duration on the wire, rounded down: nobody may rely on more than there is.
#[allow(
    clippy::cast_possible_truncation,
    reason = "what would not fit is the most that does; try_from can't be used in constants"
)]
pub(crate) const fn millis(duration: Duration) -> u64 {
    let millis = duration.as_millis();
    if millis > u64::MAX as u128 {
        u64::MAX
    } else {
        millis as u64
    }
}

/// A duration on the wire, rounded up: nobody should come too early.
pub(crate) fn millis_up(duration: Duration) -> u64 {
    let partial = !duration.subsec_nanos().is_multiple_of(1_000_000);
    millis(duration).saturating_add(u64::from(partial))
}
