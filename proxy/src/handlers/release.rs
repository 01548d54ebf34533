//! Releases.

use everlock::Error;
use hyper::StatusCode;

use super::{refusal, softened};
use crate::answer::Answer;
use crate::api::{Always, Fields, NotReleased, Nothing, ReleaseRequest, Released, millis_up};
use crate::app::App;
use crate::identity::Caller;
use crate::problem::Problem;

pub(crate) async fn handle(app: &App, caller: &Caller, fields: &Fields) -> Result<Answer, Problem> {
    let held = ReleaseRequest::read(fields)?;
    let resource = app.resource(&caller.identity, &held.key);
    let released = app.redlock.release_timed((&resource, &held.owner)).await;
    let (who, key) = (caller.identity.as_str(), &held.key);
    let owner = held.owner.as_str();
    match &released {
        Ok(released) => app.insights.released(who, key, owner, released.held_for),
        Err(Error::NotHeld { .. } | Error::HeldByAnother { .. }) => {
            app.insights.lapsed(who, key, owner, true);
        }
        Err(_) => {}
    }
    let Err(error) = released else {
        let body = Released {
            released: Always,
            message: Nothing,
        };
        return Ok(Answer::json(StatusCode::OK, &body));
    };
    let refusal = refusal("release", &error)?;
    let body = NotReleased {
        released: Always,
        message: refusal.message,
        retry_after: refusal.free_in.map(millis_up),
    };
    Ok(softened(
        Answer::json(refusal.status, &body),
        held.soft_fail,
    ))
}
