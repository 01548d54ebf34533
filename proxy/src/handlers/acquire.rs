//! Acquires: `Waiting => (Acquired | Refused | Drained)`.
//!
//! A client that goes away has its handler dropped, and with it the library's
//! future, which undoes what was begun. An orderly end of the proxy does the
//! same, but answers.

use everlock::clock::{Clock as _, SystemClock};
use everlock::{AttemptCounter, Error, Grant};
use hyper::StatusCode;

use super::usage::over;
use super::{refusal, softened};
use crate::answer::Answer;
use crate::api::{
    AcquireRequest, Acquired, Always, Config, Fields, NotAcquired, Nothing, millis, millis_up,
};
use crate::app::App;
use crate::identity::Caller;
use crate::insights::AcquireEnd;
use crate::problem::{Kind, Problem};
use crate::verb::Verb;

const DRAINING: &str = "this proxy is about to end: ask again";

pub(crate) async fn handle(
    app: &App,
    caller: &Caller,
    fields: &Fields,
    attempts: &AttemptCounter,
) -> Result<Answer, Problem> {
    let request = AcquireRequest::read(fields, app.max_wait(caller), app.max_lease(caller))?;
    if app.is_draining() {
        // No attempt was made, so there is no count of attempts to give.
        let answer = Problem::new(Kind::Draining, DRAINING).answer(Some(Verb::Acquire));
        return Ok(softened(answer, request.soft_fail));
    }
    // Counts what the attempts were, whatever ends them.
    let metered = app.gate.meter(caller, attempts).await;
    let _metered = metered.map_err(over)?;
    let resource = app.resource(&caller.identity, &request.config.key);
    let options = request.options().count_attempts(attempts.clone());
    let (who, key) = (caller.identity.as_str(), &request.config.key);
    let setting = request.config.setting();
    let mut asking = app
        .insights
        .asks(who, key, request.owner.as_str(), setting, attempts);
    let acquiring = app.redlock.acquire(resource, options);
    let acquired = tokio::select! {
        biased;
        acquired = acquiring => Some(acquired),
        // Waiting => Drained: the library's future is dropped here, and undone.
        () = app.draining() => None,
    };
    match &acquired {
        Some(Ok(_)) => asking.ends(AcquireEnd::Acquired),
        Some(Err(Error::Contended { .. } | Error::QueueFull { .. })) => {
            asking.ends(AcquireEnd::Contended);
        }
        Some(Err(_)) => asking.ends(AcquireEnd::Unavailable),
        None => {}
    }
    match acquired {
        Some(Ok(grant)) => Ok(granted(request, &grant)),
        Some(Err(error)) => refused(request, &error),
        None => Ok(drained(request, attempts.made())),
    }
}

fn granted(request: AcquireRequest, grant: &Grant) -> Answer {
    let valid_from = SystemClock.now();
    let body = Acquired {
        acquired: Always,
        lock_acquisition_attempts: grant.attempts(),
        config: request.config,
        message: Nothing,
        fencing_token: grant.token().as_u64(),
        validity: millis(grant.remaining()),
    };
    let mut answer = Answer::json(StatusCode::OK, &body);
    answer.attempts = Some(body.lock_acquisition_attempts);
    answer.valid_from = Some(valid_from);
    answer
}

fn refused(request: AcquireRequest, error: &Error) -> Result<Answer, Problem> {
    let refusal = refusal("acquire", error)?;
    let mut body = failure(request.config, error.attempts(), refusal.message);
    body.retry_after = refusal.free_in.map(millis_up);
    if let (true, Error::Contended { report, .. }) = (body.config.fifo, error) {
        // Who has nobody before it waits for the holder alone.
        body.position = Some(report.position().unwrap_or(0));
    }
    Ok(softened(answer(refusal.status, &body), request.soft_fail))
}

fn drained(request: AcquireRequest, attempts: u32) -> Answer {
    let body = failure(request.config, attempts, DRAINING);
    let mut answer = answer(StatusCode::SERVICE_UNAVAILABLE, &body);
    answer.close = true;
    softened(answer, request.soft_fail)
}

fn failure(config: Config, attempts: u32, message: &'static str) -> NotAcquired {
    NotAcquired {
        acquired: Always,
        // An operation that was begun has made an attempt.
        lock_acquisition_attempts: attempts.max(1),
        config,
        message,
        retry_after: None,
        position: None,
    }
}

fn answer(status: StatusCode, body: &NotAcquired) -> Answer {
    let mut answer = Answer::json(status, body);
    answer.attempts = Some(body.lock_acquisition_attempts);
    answer
}
