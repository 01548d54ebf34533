//! Extensions: relative to the current expiry.

use hyper::StatusCode;

use super::{refusal, softened};
use crate::answer::Answer;
use crate::api::{
    Always, ExtendRequest, Extended, Fields, NotExtended, Nothing, millis, millis_up,
};
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
            let body = Extended {
                extended: Always,
                message: Nothing,
                validity: millis(extension.remaining()),
            };
            return Ok(Answer::json(StatusCode::OK, &body));
        }
        Err(error) => error,
    };
    let refusal = refusal("extend", &error)?;
    let body = NotExtended {
        extended: Always,
        message: refusal.message,
        retry_after: refusal.free_in.map(millis_up),
    };
    Ok(softened(
        Answer::json(refusal.status, &body),
        held.soft_fail,
    ))
}
