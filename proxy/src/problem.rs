//! What can be wrong with a request, and what HTTP calls it: one table.

use std::borrow::Cow;

use hyper::StatusCode;

use crate::answer::Answer;
use crate::verb::Verb;

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request can't be understood, or asks for what is out of bounds.
    BadRequest,
    /// There is no valid API key.
    Unauthenticated,
    /// Whether an API key is valid can't be told.
    Unsure,
    /// There is no good licence.
    Unlicensed,
    /// Whether a licence is good can't be told.
    LicenceUnknown,
    /// It is not allowed here, whoever asks.
    Forbidden,
    /// What was asked for is not as the client has seen it.
    Changed,
    /// There is no such API key.
    NoSuchKey,
    /// There is nothing at that path.
    NoSuchRoute,
    /// The path exists, but not for this method.
    WrongMethod(&'static str),
    /// The body took too long to arrive.
    SlowBody,
    /// The body is too large.
    LargeBody,
    /// The body is said to be something else than JSON.
    NotJson,
    /// The header is too large.
    LargeHeader,
    /// There is too much under way, of all or of one identity; seconds after which to ask again.
    TooMany(u64),
    /// The licence's allowance is used up.
    UsedUp,
    /// The proxy is about to end.
    Draining,
    /// A fault of ours; the log knows more.
    Internal,
}

/// An allowance changes when somebody buys more or a month ends: asking more often is of no use.
const USED_UP_RETRY_AFTER: u64 = 3600;

/// Kind, status, seconds after which to try again, and whether the connection
/// is no good for another request.
const fn row(kind: Kind) -> (StatusCode, Option<u64>, bool) {
    match kind {
        Kind::BadRequest => (StatusCode::BAD_REQUEST, None, false),
        Kind::Unauthenticated => (StatusCode::UNAUTHORIZED, None, false),
        Kind::Unsure => (StatusCode::SERVICE_UNAVAILABLE, Some(1), false),
        Kind::Unlicensed | Kind::Forbidden => (StatusCode::FORBIDDEN, None, false),
        Kind::Changed => (StatusCode::CONFLICT, None, false),
        Kind::LicenceUnknown => (StatusCode::SERVICE_UNAVAILABLE, Some(5), false),
        Kind::NoSuchKey | Kind::NoSuchRoute => (StatusCode::NOT_FOUND, None, false),
        Kind::WrongMethod(_) => (StatusCode::METHOD_NOT_ALLOWED, None, false),
        Kind::SlowBody => (StatusCode::REQUEST_TIMEOUT, None, true),
        Kind::LargeBody => (StatusCode::PAYLOAD_TOO_LARGE, None, true),
        Kind::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None, false),
        Kind::LargeHeader => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, None, true),
        Kind::TooMany(seconds) => (StatusCode::TOO_MANY_REQUESTS, Some(seconds), false),
        Kind::UsedUp => (
            StatusCode::TOO_MANY_REQUESTS,
            Some(USED_UP_RETRY_AFTER),
            false,
        ),
        Kind::Draining => (StatusCode::SERVICE_UNAVAILABLE, Some(1), true),
        Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, None, false),
    }
}

impl Kind {
    /// What HTTP calls it.
    pub(crate) const fn status(self) -> StatusCode {
        row(self).0
    }

    /// Seconds after which to try again.
    pub(crate) const fn retry_after(self) -> Option<u64> {
        row(self).1
    }
}

/// Why a request is not served.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) message: Cow<'static, str>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { kind, message }
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    /// The answer; on the lock routes it says that nothing was acquired, extended or released.
    pub(crate) fn answer(self, verb: Option<Verb>) -> Answer {
        let (status, retry_after, close) = row(self.kind);
        let mut body = serde_json::Map::new();
        if let Some(verb) = verb {
            body.insert(verb.outcome_field().to_owned(), false.into());
        }
        body.insert("message".to_owned(), self.message.into());
        let mut answer = Answer::json(status, &body);
        answer.retry_after = retry_after;
        answer.close = close;
        if let Kind::WrongMethod(allow) = self.kind {
            answer.allow = Some(allow);
        }
        answer.authenticate = self.kind == Kind::Unauthenticated;
        answer
    }
}
