//! Releases.

use hyper::StatusCode;

use super::{refusal, softened};
use crate::answer::Answer;
use crate::api::{Fields, ReleaseAnswer, ReleaseRequest, millis_up};
use crate::app::App;
use crate::identity::Caller;
use crate::problem::Problem;

pub(crate) async fn handle(app: &App, caller: &Caller, fields: &Fields) -> Result<Answer, Problem> {
    let held = ReleaseRequest::read(fields)?;
    let resource = app.resource(&caller.identity, &held.key);
    let Err(error) = app.redlock.release((&resource, &held.owner)).await else {
        let body = ReleaseAnswer {
            released: true,
            message: None,
            retry_after: None,
        };
        return Ok(Answer::json(StatusCode::OK, &body));
    };
    let refusal = refusal("release", &error)?;
    let body = ReleaseAnswer {
        released: false,
        message: Some(refusal.message),
        retry_after: refusal.free_in.map(millis_up),
    };
    Ok(softened(
        Answer::json(refusal.status, &body),
        held.soft_fail,
    ))
}
