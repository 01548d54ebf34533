//! What happens around every handler, in this order: request id · access log ·
//! what HTTP itself demands · the route · identity, before the body is read ·
//! the body · a seat for who may wait. And on the way out: the rest of an unread
//! body · the log line · the headers that every answer has.

mod access_log;
mod hygiene;
mod identity;
mod limits;
mod request_id;

use std::sync::Arc;

use everlock::AttemptCounter;
use everlock::clock::Moment;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Version};

use self::access_log::AccessLog;
use crate::answer::Answer;
use crate::api::{Fields, millis};
use crate::app::App;
use crate::metrics::method_name;
use crate::problem::{Kind, Problem};
use crate::router::{self, Route};
use crate::traces::RequestTrace;
use crate::verb::Verb;
use crate::{body, handlers, openapi, traces};

const TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Answers one request, which came over TLS or not. Dropping the future ends what it had begun.
pub(crate) async fn handle(
    app: &App,
    request: Request<Incoming>,
    tls: bool,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let route = router::find(parts.uri.path());
    let is_probe = matches!(route, Some(Route::Healthz | Route::Readyz));
    let path = route.map(Route::path);
    let method = method_name(&parts.method);
    let trace = app.traces.begin(&parts, path, method, is_probe, tls);
    match trace {
        None => answered(app, parts, body, route, None).await,
        Some(trace) => {
            // On the heap: a request that is not traced takes no room for it.
            let work = answered(app, parts, body, route, Some(Arc::clone(&trace)));
            Box::pin(traces::within(trace, work)).await
        }
    }
}

async fn answered(
    app: &App,
    parts: Parts,
    mut body: Incoming,
    route: Option<Route>,
    trace: Option<Arc<RequestTrace>>,
) -> Response<Full<Bytes>> {
    let _busy = app.requests.token();
    let id = request_id::of(&parts.headers);
    let mut log = AccessLog::begin(&parts.method, route, &id, &app.metrics, trace);
    let answer = match respond(app, &parts, &mut body, route, &log.attempts).await {
        Ok(answer) => answer,
        Err(problem) => {
            body::discard(&mut body, &parts.headers).await;
            problem.answer(route.and_then(Route::verb))
        }
    };
    log.end(&answer);
    let timing = answer.valid_from.map(|from| timing(log.started, from));
    let close = answer.close || app.is_leaving();
    let mut response = answer.into_response();
    let headers = response.headers_mut();
    headers.insert(request_id::HEADER, id);
    if let Some(timing) = timing {
        headers.insert(TIMING, timing);
    }
    if close && parts.version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// How long it took from the arrival of a request to the moment from which the validity in its
/// answer counts, rounded down: a client that adds it to when it sent the request knows how long to
/// rely on the lock at least, however long it waited and the answer travelled.
fn timing(arrived: Moment, valid_from: Moment) -> HeaderValue {
    let millis = millis(valid_from.saturating_since(arrived));
    HeaderValue::try_from(format!("everlock;dur={millis}")).expect("digits are visible ASCII")
}

async fn respond(
    app: &App,
    parts: &Parts,
    body: &mut Incoming,
    route: Option<Route>,
    attempts: &AttemptCounter,
) -> Result<Answer, Problem> {
    hygiene::check(parts)?;
    let nowhere = || Problem::new(Kind::NoSuchRoute, "there is nothing at this path");
    let route = route.filter(|route| *route != Route::ApiKey || app.gate.has_licences());
    let route = route.ok_or_else(nowhere)?;
    route.check(&parts.method)?;
    match route {
        Route::Healthz => Ok(handlers::health::alive()),
        Route::Readyz => Ok(handlers::health::ready(app).await),
        Route::ApiKey => api_key(app, parts, body).await,
        Route::Usage => {
            let caller = identity::resolve(app, &parts.headers).await?;
            limits::enter(app, &caller)?;
            handlers::usage::handle(app, &caller).await
        }
        Route::OpenApi => Ok(openapi::answer()),
        Route::Docs => Ok(openapi::page(app.gate.demands_keys())),
        Route::Lock(verb) => lock(app, parts, body, verb, attempts).await,
    }
}

/// Who asks here shows a licence key, in the body.
async fn api_key(app: &App, parts: &Parts, body: &mut Incoming) -> Result<Answer, Problem> {
    body::check_type(&parts.headers)?;
    let fields = Fields::parse(&body::read(body, &app.limits).await?)?;
    if parts.method == Method::DELETE {
        handlers::api_key::delete(app, &fields).await
    } else {
        handlers::api_key::create(app, &fields).await
    }
}

async fn lock(
    app: &App,
    parts: &Parts,
    body: &mut Incoming,
    verb: Verb,
    attempts: &AttemptCounter,
) -> Result<Answer, Problem> {
    let caller = identity::resolve(app, &parts.headers).await?;
    let entry = limits::enter(app, &caller)?;
    body::check_type(&parts.headers)?;
    let fields = Fields::parse(&body::read(body, &app.limits).await?)?;
    match verb {
        Verb::Acquire => {
            let _seat = limits::seat(app, &entry)?;
            handlers::acquire::handle(app, &caller, &fields, attempts).await
        }
        Verb::Extend => handlers::extend::handle(app, &caller, &fields).await,
        Verb::Release => handlers::release::handle(app, &caller, &fields).await,
    }
}
