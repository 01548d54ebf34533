//! `GET /usage`: what the caller has used.

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::app::App;
use crate::identity::{Caller, OverUsage};
use crate::problem::{Kind, Problem};

/// What the caller's licence has used.
#[derive(Serialize, ToSchema)]
pub(crate) struct UsageAnswer<'a> {
    identity: &'a str,
    /// `total`, or a month; null where nothing is counted.
    #[schema(required)]
    period: Option<String>,
    /// Lock acquisition attempts; null where nothing is counted.
    #[schema(required)]
    attempts: Option<u64>,
    /// How many there may be; null where there is no bound.
    #[schema(required)]
    allowance: Option<u64>,
    #[schema(required)]
    remaining: Option<u64>,
}

pub(crate) async fn handle(app: &App, caller: &Caller) -> Result<Answer, Problem> {
    let usage = app.gate.usage(caller).await.map_err(over)?;
    let attempts = usage.as_ref().map(|usage| usage.attempts);
    let allowance = usage.as_ref().and_then(|usage| usage.allowance);
    let left = |allowance: u64| allowance.saturating_sub(attempts.unwrap_or(0));
    let body = UsageAnswer {
        identity: caller.identity.as_str(),
        remaining: allowance.map(left),
        period: usage.map(|usage| usage.period),
        attempts,
        allowance,
    };
    Ok(Answer::json(StatusCode::OK, &body))
}

/// Why an acquire does not begin.
pub(super) fn over(why: OverUsage) -> Problem {
    match why {
        OverUsage::UsedUp => {
            let message = "the licence's allowance of lock acquisition attempts is used up";
            Problem::new(Kind::UsedUp, message)
        }
        OverUsage::Unknown => {
            let message = "no quorum of nodes answers: what was used of the licence is not known";
            Problem::new(Kind::Unsure, message)
        }
    }
}
