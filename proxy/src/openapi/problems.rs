//! Problems in the document: what each is, the headers that come with it, and its body.

use serde_json::{Value, json};

use super::Schemas;
use crate::problem::Kind;
use crate::verb::Verb;

/// What a client reads of a kind of problem.
pub(super) const fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::BadRequest => {
            "The request can't be understood, or a value is out of bounds: the message names the \
             field and its bound."
        }
        Kind::Unauthenticated => {
            "There is no API key, or one that is malformed, unknown or deleted."
        }
        Kind::Unsure => "Whether API keys are valid can't be told now.",
        Kind::Unlicensed => "There is no such licence, or it was revoked or has expired.",
        Kind::LicenceUnknown => "Whether the licence is good can't be told now.",
        Kind::Forbidden => "It is not allowed here.",
        Kind::Changed => "It is not as the client has seen it.",
        Kind::NoSuchKey => "There is no such API key of this licence.",
        Kind::NoSuchRoute => "There is nothing at this path.",
        Kind::WrongMethod(_) => "The path does not take this method.",
        Kind::SlowBody => "The body did not arrive in time.",
        Kind::LargeBody => "The body is too large.",
        Kind::NotJson => "The body is said to be something else than JSON.",
        Kind::LargeHeader => "The header is too large.",
        Kind::TooMany(_) => "There is too much under way, of all or of one identity.",
        Kind::UsedUp => "The licence's allowance of lock acquisition attempts is used up.",
        Kind::Draining => "The proxy is about to end.",
        Kind::Internal => "A fault of the proxy's.",
    }
}

/// The headers that come with it.
pub(super) fn headers(kind: Kind) -> Vec<(&'static str, Value)> {
    let mut headers = Vec::new();
    if kind.retry_after().is_some() {
        headers.push(retry_after());
    }
    if kind == Kind::Unauthenticated {
        let about = "The scheme by which API keys are shown: Bearer.";
        headers.push(("WWW-Authenticate", header(about)));
    }
    headers
}

/// When to ask again.
pub(super) fn retry_after() -> (&'static str, Value) {
    let about = "Whole seconds after which asking again is worth it.";
    let schema = json!({ "type": "integer", "minimum": 0 });
    (
        "Retry-After",
        json!({ "description": about, "schema": schema }),
    )
}

/// A header with a text.
pub(super) fn header(about: &str) -> Value {
    json!({ "description": about, "schema": { "type": "string" } })
}

/// The body of a problem. On the lock routes it says that nothing was done, by the same field as
/// an answer of the operation.
pub(super) fn schema(verb: Option<Verb>, schemas: &mut Schemas) -> Value {
    let message = json!({ "type": "string", "description": "What is wrong, for people." });
    let mut schema = json!({
        "type": "object",
        "description": "A request that was not served.",
        "required": ["message"],
        "properties": { "message": message },
    });
    let Some(verb) = verb else {
        return schemas.add("Problem", &schema);
    };
    let field = verb.outcome_field();
    schema["required"] = json!([field, "message"]);
    schema["properties"][field] = json!({ "type": "boolean", "enum": [false] });
    let name = match verb {
        Verb::Acquire => "AcquireProblem",
        Verb::Extend => "ExtendProblem",
        Verb::Release => "ReleaseProblem",
    };
    schemas.add(name, &schema)
}
