//! Who a request acts for, and whether it may: identities, API keys, and those that were deleted.
//!
//! Invariant: a caller that was admitted holds an API key which this deployment signed, and which
//! is not deleted as far as a majority of nodes told within the last four seconds — or nobody has
//! to authenticate. HTTP stays outside: this module knows texts and answers, not headers.

mod accounts;
mod api_key;
mod gate;
mod https;
mod keeper;
mod ledger;
mod licence;
mod licences;
mod reporting;
mod revocations;
mod usage;

pub(crate) use self::accounts::{Accounts, Entry, OverLimit, Seat};
pub(crate) use self::api_key::{ApiKey, MAX_API_KEY_CHARS, Secrets, Verified};
pub use self::gate::Gate;
pub(crate) use self::gate::{Caller, DeleteError, Licensing, Refusal};
pub(crate) use self::https::{Fetched, Https, Unanswered, trust};
pub(crate) use self::keeper::Keeper;
pub(crate) use self::licence::file::LicenceFile;
pub(crate) use self::licence::polar::{DEADLINE as POLAR_DEADLINE, Polar};
pub(crate) use self::licence::{Backend, Bounds, LicenceKey, MAX_LICENCE_KEY_BYTES, Unlicensed};
pub(crate) use self::licences::Licences;
pub(crate) use self::reporting::Reporter;
pub(crate) use self::revocations::{Revocations, RevokeError};
pub(crate) use self::usage::{Meters, OverUsage};

use std::sync::Arc;

/// The longest identity: room for a UUID and more, short enough to be read in a key.
pub(crate) const MAX_IDENTITY_BYTES: usize = 64;

/// The owner of an account, the second segment of its keys on the nodes:
/// 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity(Arc<str>);

impl Identity {
    /// Everybody, where nobody has to authenticate. No API key is made for it.
    pub(crate) fn anonymous() -> Self {
        Self("anonymous".into())
    }

    /// An identity by its name; none if that could reach beyond its own segment of a key.
    pub(crate) fn new(name: &str) -> Option<Self> {
        is_name(name).then(|| Self(name.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this can stand between two colons and be told from all else there.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=MAX_IDENTITY_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_no_separators() {
        let long = "a".repeat(65);
        for name in ["", "a:b", "a~b", "a b", "ä", "a\0", "a\n", "a.b", &long] {
            assert_eq!(Identity::new(name), None, "{name:?}");
        }
        for name in ["a", "A-b_9", &long[..64]] {
            assert_eq!(Identity::new(name).unwrap().as_str(), name);
        }
    }
}
