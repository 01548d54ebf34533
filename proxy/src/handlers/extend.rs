//! Extensions: relative to the current expiry.

use everlock::Error;
use everlock::clock::{Clock as _, SystemClock};
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
    let extended = app.redlock.extend((&resource, &held.owner), request.by);
    let extended = extended.await;
    let (who, key) = (caller.identity.as_str(), &held.key);
    match &extended {
        Ok(_) => app.insights.extended(who, key),
        Err(Error::NotHeld { .. } | Error::Lost | Error::HeldByAnother { .. }) => {
            app.insights.lapsed(who, key, held.owner.as_str(), false);
        }
        Err(_) => {}
    }
    let error = match extended {
        Ok(extension) => {
            let valid_from = SystemClock.now();
            let body = Extended {
                extended: Always,
                message: Nothing,
                validity: millis(extension.remaining()),
            };
            let mut answer = Answer::json(StatusCode::OK, &body);
            answer.valid_from = Some(valid_from);
            return Ok(answer);
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
