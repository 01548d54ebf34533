//! Extensions: relative to the current expiry.

use hyper::StatusCode;

use super::{refusal, softened};
use crate::answer::Answer;
use crate::api::{ExtendAnswer, ExtendRequest, Fields, millis, millis_up};
use crate::app::App;
use crate::identity::Caller;
use crate::problem::Problem;

pub(crate) async fn handle(app: &App, caller: &Caller, fields: &Fields) -> Result<Answer, Problem> {
    let request = ExtendRequest::read(fields, app.max_lease(caller))?;
    let held = request.held;
    let resource = app.resource(&caller.identity, &held.key);
    let error = match app
        .redlock
        .extend((&resource, &held.owner), request.by)
        .await
    {
        Ok(extension) => {
            let body = ExtendAnswer {
                extended: true,
                message: None,
                validity: Some(millis(extension.remaining())),
                retry_after: None,
            };
            return Ok(Answer::json(StatusCode::OK, &body));
        }
        Err(error) => error,
    };
    let refusal = refusal("extend", &error)?;
    let body = ExtendAnswer {
        extended: false,
        message: Some(refusal.message),
        validity: None,
        retry_after: refusal.free_in.map(millis_up),
    };
    Ok(softened(
        Answer::json(refusal.status, &body),
        held.soft_fail,
    ))
}
