//! What the fake answers.

use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{FakePolar, Fault, Licence, State};

/// What Polar grants its public routes, and for how long it blocks whoever asks more.
const PUBLIC_RATE: usize = 3;
const BLOCK: Duration = Duration::from_mins(1);
/// What is more than any client should read.
const ENDLESS: usize = 1024 * 1024;

type Answered = Response<Full<Bytes>>;

/// The answer, or none where the connection is to be cut.
pub(super) async fn answer(state: &Mutex<State>, request: Request<Incoming>) -> Option<Answered> {
    let (head, body) = request.into_parts();
    let fault = lock(state).fault;
    let path = head.uri.path().strip_prefix("/v1").unwrap_or_default();
    let named = path
        .strip_prefix("/license-keys/")
        .filter(|rest| *rest != "validate");
    let route = match named {
        Some(_) => format!("{} /license-keys/{{id}}", head.method),
        None => format!("{} {path}", head.method),
    };
    *lock(state).calls.entry(route.clone()).or_default() += 1;
    match fault {
        Fault::ThrottledValidations if named.is_none() && path.ends_with("/validate") => {
            return Some(throttled());
        }
        Fault::None | Fault::LostAnswer | Fault::ThrottledValidations => {}
        Fault::Silent => pending().await,
        Fault::Broken => return Some(error(500, "InternalServerError", "Internal Server Error")),
        Fault::Throttled => return Some(throttled()),
        Fault::Redirect => {
            let mut response = reply(307, &Value::Null);
            let elsewhere = header::HeaderValue::from_static("https://127.0.0.1:1/v1");
            response.headers_mut().insert(header::LOCATION, elsewhere);
            return Some(response);
        }
        Fault::Endless => return Some(reply(200, &json!("x".repeat(ENDLESS)))),
    }
    if head.method == Method::POST && !head.headers.contains_key(header::CONTENT_LENGTH) {
        return Some(
            Response::builder()
                .status(411)
                .body(Full::default())
                .expect("it is valid"),
        );
    }
    let body = body.collect().await.ok()?.to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let authorization = head.headers.get(header::AUTHORIZATION);
    let wanted = format!("Bearer {}", FakePolar::TOKEN);
    let authorized = authorization.is_some_and(|given| given.as_bytes() == wanted.as_bytes());
    let response = match route.as_str() {
        "POST /customer-portal/license-keys/validate" => public(state, &body),
        _ if !authorized => error(401, "Unauthorized", "Unauthorized"),
        "POST /license-keys/validate" => validate(state, &body),
        "GET /license-keys/{id}" => get(state, named.unwrap_or_default()),
        "POST /events/ingest" => ingest(state, &body),
        _ => error(404, "ResourceNotFound", "Not found"),
    };
    (fault != Fault::LostAnswer).then_some(response)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn public(state: &Mutex<State>, body: &Value) -> Answered {
    {
        let now = Instant::now();
        let mut state = lock(state);
        state
            .public
            .retain(|then| now.duration_since(*then) < Duration::from_secs(1));
        state.public.push(now);
        if state.public.len() > PUBLIC_RATE {
            state.blocked_until = Some(now + BLOCK);
        }
        if state.blocked_until.is_some_and(|until| now < until) {
            return throttled();
        }
    }
    validate(state, body)
}

fn validate(state: &Mutex<State>, body: &Value) -> Answered {
    let (Some(key), Some(organisation)) = (body["key"].as_str(), body["organization_id"].as_str())
    else {
        let detail = json!([{"loc": ["body", "key"], "msg": "Field required", "type": "missing"}]);
        return reply(
            422,
            &json!({"error": "RequestValidationError", "detail": detail}),
        );
    };
    let mut state = lock(state);
    let known = state.licences.get_mut(key);
    let Some(licence) = known.filter(|_| organisation == FakePolar::ORGANISATION) else {
        return error(404, "ResourceNotFound", "Not found");
    };
    if licence.status != "granted" {
        return error(404, "ResourceNotFound", "License key is no longer active.");
    }
    // Tests only use years that are far away on either side.
    if licence.expires_at.as_deref().is_some_and(|at| at < "2020") {
        return error(404, "ResourceNotFound", "License key has expired.");
    }
    let more = body["increment_usage"].as_u64().unwrap_or(0);
    if let Some(limit) = licence.limit_usage
        && more > 0
        && licence.usage + more > limit
    {
        let left = limit.saturating_sub(licence.usage);
        let detail = format!("License key only has {left} more usages.");
        return error(400, "BadRequest", &detail);
    }
    licence.usage += more;
    reply(200, &shown(licence))
}

fn get(state: &Mutex<State>, id: &str) -> Answered {
    let state = lock(state);
    let found = state.licences.values().find(|licence| licence.id == id);
    match found {
        Some(licence) => {
            let mut body = shown(licence);
            body["activations"] = json!([]);
            reply(200, &body)
        }
        None => error(404, "ResourceNotFound", "Not found"),
    }
}

fn shown(licence: &Licence) -> Value {
    json!({
        "id": licence.id, "organization_id": FakePolar::ORGANISATION,
        "customer_id": licence.customer_id, "user_id": licence.customer_id,
        "customer": {"id": licence.customer_id, "email": "someone@example.com", "external_id": null},
        "benefit_id": "7c1b4a52-9d3e-4f60-a1b2-c3d4e5f60718", "key": licence.key,
        "display_key": "****", "status": licence.status, "limit_activations": null,
        "usage": licence.usage, "limit_usage": licence.limit_usage, "validations": 1,
        "last_validated_at": "2026-01-01T00:00:00Z", "expires_at": licence.expires_at,
        "activation": null,
    })
}

fn ingest(state: &Mutex<State>, body: &Value) -> Answered {
    let Some(events) = body["events"]
        .as_array()
        .filter(|events| !events.is_empty())
    else {
        return reply(
            422,
            &json!({"error": "RequestValidationError", "detail": []}),
        );
    };
    let mut state = lock(state);
    let (mut inserted, mut duplicates) = (0, 0);
    for event in events {
        let id = event["external_id"].as_str().map(ToOwned::to_owned);
        if id.is_some_and(|id| !state.external_ids.insert(id)) {
            duplicates += 1;
        } else {
            state.events.push(event.clone());
            inserted += 1;
        }
    }
    reply(
        200,
        &json!({"inserted": inserted, "duplicates": duplicates}),
    )
}

fn error(status: u16, error: &str, detail: &str) -> Answered {
    reply(status, &json!({"error": error, "detail": detail}))
}

fn throttled() -> Answered {
    let response = Response::builder()
        .status(StatusCode::TOO_MANY_REQUESTS)
        .header(header::RETRY_AFTER, BLOCK.as_secs());
    response.body(Full::default()).expect("it is valid")
}

fn reply(status: u16, body: &Value) -> Answered {
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json");
    let body = Full::from(body.to_string());
    response.body(body).expect("it is valid")
}
