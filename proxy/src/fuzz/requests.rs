//! Requests: read without a panic, within their bounds, or refused by name.

use std::time::Duration;

use everlock::config::{MAX_DELAY, MAX_RETRIES, MIN_LEASE};
use everlock::{MAX_OWNER_BYTES, OwnerId};
use serde_json::Value;

use crate::api::{AcquireRequest, ExtendRequest, Fields, MAX_KEY_BYTES, ReleaseRequest, millis};
use crate::app::resource;
use crate::config::Limits;
use crate::identity::Identity;
use crate::problem::{Kind, Problem};

/// All fields of all requests.
const FIELDS: [&str; 9] = [
    "key",
    "uuid",
    "lease",
    "retryAttempts",
    "retryDelay",
    "retryJitter",
    "softFail",
    "fifo",
    "extendBy",
];
const MAX_LEASE: Duration = Duration::from_mins(5);
/// Nobody reads more, and nobody's input comes back to them at length.
const MAX_MESSAGE_BYTES: usize = 300;
const PREFIX: &str = "Evermind";

/// A request's body; the first byte says which request.
pub fn requests(data: &[u8]) {
    let Some((route, body)) = data.split_first() else {
        return;
    };
    let limits = limits();
    let fields = match Fields::parse(body) {
        Ok(fields) => fields,
        Err(problem) => {
            assert!(problem.message.starts_with("the body "), "{problem:?}");
            return refused(&problem);
        }
    };
    let read = match route {
        b'e' => ExtendRequest::read(&fields, MAX_LEASE).map(|request| {
            let by = millis(request.by);
            assert!((1..=millis(MAX_LEASE)).contains(&by), "{by}");
            held(&request.held.key, &request.held.owner);
        }),
        b'r' => ReleaseRequest::read(&fields).map(|request| held(&request.key, &request.owner)),
        _ => AcquireRequest::read(&fields, limits.max_wait, MAX_LEASE)
            .map(|request| acquire(&request, &limits)),
    };
    if let Err(problem) = read {
        let message = &problem.message;
        let field = FIELDS.iter().find(|field| message.starts_with(**field));
        assert!(field.is_some(), "no field is named: {message}");
        let bound = message.contains(": it takes ") || message.contains(" takes up to ");
        assert!(bound, "no bound is named: {message}");
        refused(&problem);
    }
}

fn limits() -> Limits {
    let second = Duration::from_secs(1);
    Limits {
        max_lease: None,
        max_wait: 300 * second,
        max_connections: 1,
        max_waiters: 1,
        identity_rate: None,
        identity_max_waiters: None,
        max_body: 16 * 1024,
        header_timeout: second,
        idle_timeout: second,
        body_timeout: second,
        drain_delay: Duration::ZERO,
        drain_timeout: second,
    }
}

fn refused(problem: &Problem) {
    assert_eq!(problem.kind, Kind::BadRequest);
    let length = problem.message.len();
    assert!(length <= MAX_MESSAGE_BYTES, "{length}: {problem:?}");
}

/// The key on the nodes is in the identity's part, and is the user's own to the last byte.
fn held(key: &str, owner: &OwnerId) {
    assert!((1..=MAX_KEY_BYTES).contains(&key.len()));
    assert!((1..=MAX_OWNER_BYTES).contains(&owner.as_str().len()));
    let resource = resource(PREFIX, &Identity::anonymous(), key);
    let own = resource.as_str().strip_prefix("Evermind:anonymous:");
    assert_eq!(own, Some(key));
    let fence = resource.fence_key().to_string();
    assert_eq!(fence.strip_prefix("Evermind~fence:anonymous:"), Some(key));
}

fn acquire(request: &AcquireRequest, limits: &Limits) {
    let config = &request.config;
    held(&config.key, &request.owner);
    assert!(everlock::fuzz::accepts(&request.options(), MAX_LEASE));
    let echo = serde_json::to_value(config).expect("our own types are written");
    let number = |field: &str| echo[field].as_u64().expect("a whole number");
    let (lease, retries) = (number("lease"), number("retryAttempts"));
    let (delay, jitter) = (number("retryDelay"), number("retryJitter"));
    assert!((millis(MIN_LEASE)..=millis(MAX_LEASE)).contains(&lease));
    assert!(retries <= MAX_RETRIES.into());
    assert!(delay.max(jitter) <= millis(MAX_DELAY));
    assert!(retries * (delay + jitter) <= millis(limits.max_wait));
    assert_eq!(echo["uuid"], request.owner.as_str());
    assert_eq!(echo["fifo"], Value::Bool(config.fifo));
    // What is echoed is itself a request, for the very same.
    let again = Fields::parse(echo.to_string().as_bytes()).expect("it is JSON");
    let again =
        AcquireRequest::read(&again, limits.max_wait, MAX_LEASE).expect("it was accepted before");
    assert_eq!(&again.config, config);
}
