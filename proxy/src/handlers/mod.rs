//! One handler for each route: from a request within its bounds to an answer.

pub(crate) mod acquire;
pub(crate) mod api_key;
pub(crate) mod extend;
pub(crate) mod health;
pub(crate) mod release;
pub(crate) mod usage;

use std::time::Duration;

use everlock::Error;
use hyper::StatusCode;

use crate::answer::Answer;
use crate::problem::{Kind, Problem};
use crate::telemetry;

/// Seconds after which an outage is worth another try: nodes that are back are used within one.
const OUTAGE_RETRY_AFTER: u64 = 1;

/// What a lock operation says when it did not do what it was asked.
struct Refusal {
    status: StatusCode,
    message: &'static str,
    /// When the present holder's lease ends.
    free_in: Option<Duration>,
}

/// The library's errors in HTTP's terms. The nodes' own words stay in the log:
/// their addresses are nobody's business outside.
fn refusal(operation: &'static str, error: &Error) -> Result<Refusal, Problem> {
    let (status, message, free_in) = match error {
        Error::Contended { retry_after, .. } => (
            StatusCode::CONFLICT,
            "the lock is held by others",
            *retry_after,
        ),
        Error::QueueFull { .. } => {
            let message = "too many wait in line for the lock already";
            (StatusCode::CONFLICT, message, None)
        }
        Error::HeldByAnother { retry_after, .. } => {
            let message = "the lock is held under another uuid";
            (StatusCode::CONFLICT, message, *retry_after)
        }
        Error::NotHeld { .. } | Error::Lost => {
            let message = "the lock does not exist: it never did, has expired, or was released";
            (StatusCode::NOT_FOUND, message, None)
        }
        Error::Unavailable { report, .. } => {
            telemetry::note_outage(operation, report);
            let message = "no quorum of nodes answers";
            (StatusCode::SERVICE_UNAVAILABLE, message, None)
        }
        // What was out of bounds before the bounds were known: the library names field and bounds.
        Error::Config(problem) => return Err(Problem::bad_request(problem.to_string())),
        other => {
            tracing::error!(operation, error = %other, "a lock operation failed unexpectedly");
            return Err(Problem::new(Kind::Internal, "something went wrong"));
        }
    };
    Ok(Refusal {
        status,
        message,
        free_in,
    })
}

/// What the lock operation itself answers is no HTTP error with `softFail`.
fn softened(mut answer: Answer, soft_fail: bool) -> Answer {
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        answer.retry_after = Some(OUTAGE_RETRY_AFTER);
    }
    if soft_fail {
        answer.status = StatusCode::OK;
    }
    answer
}
