//! Whose locks a request is about.
//!
//! Nobody has to authenticate yet, so everybody is `anonymous` and an
//! `Authorization` header is not looked at. API keys come in here: this is
//! where a request without a valid one will be answered 401, before its body
//! is read.

use hyper::HeaderMap;

use crate::app::App;
use crate::identity::Identity;
use crate::problem::Problem;

#[allow(
    clippy::unused_async,
    reason = "looking up an API key asks others, and every caller is ready for that"
)]
pub(super) async fn resolve(_app: &App, _headers: &HeaderMap) -> Result<Identity, Problem> {
    Ok(Identity::ANONYMOUS)
}
