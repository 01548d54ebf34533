//! Request bodies: bounded in size and time, and JSON.
//!
//! A request without a content type is taken for JSON, as simple clients send
//! none; one that says it is something else is refused.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header;

use crate::config::Limits;
use crate::problem::{Kind, Problem};

/// What is read and thrown away of a body that is not wanted, so that a client
/// which is still writing gets to see the answer instead of a reset.
const MAX_DISCARDED: usize = 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Refuses a body that is said to be something else than JSON.
pub(crate) fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let problem = || {
        let message = "the content type must be application/json";
        Problem::new(Kind::NotJson, message)
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let Some(value) = types.next() else {
        return Ok(());
    };
    if types.next().is_some() {
        return Err(problem());
    }
    let essence = value
        .to_str()
        .ok()
        .and_then(|text| text.split(';').next())
        .ok_or_else(problem)?;
    if essence.trim().eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(problem())
    }
}

/// The whole body.
pub(crate) async fn read(body: &mut Incoming, limits: &Limits) -> Result<Bytes, Problem> {
    let too_large = || {
        let message = format!(
            "the body is too large: it takes up to {} bytes",
            limits.max_body
        );
        Problem::new(Kind::LargeBody, message)
    };
    let most = u64::try_from(limits.max_body).unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        return Err(too_large());
    }
    let whole = async {
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::bad_request("the body ends too early"))?;
            if let Some(data) = frame.data_ref() {
                if whole.len() + data.len() > limits.max_body {
                    return Err(too_large());
                }
                whole.extend_from_slice(data);
            }
        }
        Ok(Bytes::from(whole))
    };
    let read = tokio::time::timeout(limits.body_timeout, whole).await;
    read.unwrap_or_else(|_| {
        let seconds = limits.body_timeout.as_secs_f64();
        let message = format!("the body did not arrive within {seconds} s");
        Err(Problem::new(Kind::SlowBody, message))
    })
}

/// Reads on for a bounded amount of what is not wanted.
///
/// A client that asked whether it should send the body at all is told by the
/// answer alone; asking it for the body now would be for nothing.
pub(crate) async fn discard(body: &mut Incoming, headers: &HeaderMap) {
    let expects = headers.get(header::EXPECT);
    let waits = expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits || body.is_end_stream() {
        return;
    }
    let reading = async {
        let mut discarded = 0;
        while discarded < MAX_DISCARDED
            && let Some(Ok(frame)) = body.frame().await
        {
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whoever is slower than that has not earned the answer.
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}
