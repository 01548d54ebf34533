//! Whose locks a request is about.
//!
//! Nobody has to authenticate yet, so everybody is `anonymous` and an
//! `Authorization` header is not looked at. API keys come in here: this is
//! where a request without a valid one will be answered 401, before its body
//! is read.

use hyper::HeaderMap;

use crate::app::App;
use crate::problem::Problem;

/// The owner of an account, the second segment of its keys on the nodes:
/// 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity(&'static str);

impl Identity {
    /// Everybody, where nobody has to authenticate.
    pub(crate) const ANONYMOUS: Self = Self("anonymous");

    pub(crate) const fn as_str(&self) -> &str {
        self.0
    }
}

#[allow(
    clippy::unused_async,
    reason = "looking up an API key asks others, and every caller is ready for that"
)]
pub(crate) async fn resolve(_app: &App, _headers: &HeaderMap) -> Result<Identity, Problem> {
    Ok(Identity::ANONYMOUS)
}
