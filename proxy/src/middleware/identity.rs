//! Whose locks a request is about: told before its body is read.
//!
//! A request without an API key, and one with a key that is malformed, unknown or deleted, get one
//! and the same answer: nobody learns which keys there were.

use hyper::HeaderMap;
use hyper::header;

use crate::app::App;
use crate::identity::{Caller, Refusal, Unlicensed};
use crate::problem::{Kind, Problem};

const SCHEME: &str = "bearer";

pub(super) async fn resolve(app: &App, headers: &HeaderMap) -> Result<Caller, Problem> {
    let admitted = app.gate.admit(bearer(headers)).await;
    admitted.map_err(|refusal| match refusal {
        Refusal::Unauthenticated => {
            let message = "a valid API key is needed: Authorization: Bearer <API key>";
            Problem::new(Kind::Unauthenticated, message)
        }
        Refusal::Unsure => {
            let message = "no quorum of nodes answers: whether API keys were deleted is not known";
            Problem::new(Kind::Unsure, message)
        }
        Refusal::Unlicensed(Unlicensed::Refused) => {
            let message = "the licence of this API key was revoked or has expired";
            Problem::new(Kind::Unlicensed, message)
        }
        Refusal::Unlicensed(Unlicensed::Unavailable) => {
            let message = "the licence of this API key can't be looked up now";
            Problem::new(Kind::LicenceUnknown, message)
        }
    })
}

/// The API key, if one was given, and not two.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (only, None) = (given.next()?, given.next()) else {
        return None;
    };
    let (scheme, key) = only.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| key.trim_start_matches(' '))
}
