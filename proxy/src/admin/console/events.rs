//! `GET /events`: a snapshot each second, as server-sent events.
//!
//! Invariant: a stream is only made while its client takes what it was sent, so a slow one costs a
//! seat and one snapshot, never a queue.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use hyper::header::{self, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::Body;
use super::state::State;
use crate::problem::{Kind, Problem};

/// The time between two snapshots of a stream.
const EVERY: Duration = Duration::from_secs(1);
/// Streams at once: half of the listener's connections, so that there is room for scrapers.
const MAX_STREAMS: usize = 32;
/// Milliseconds after which a page asks again once its stream broke.
const RETRY: u64 = 2_000;

/// Seats for those who listen.
pub(super) struct Seats(Arc<Semaphore>);

impl Default for Seats {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }
}

pub(super) fn answer(seats: &Seats, state: Arc<State>) -> Result<Response<Body>, Problem> {
    let seat = Arc::clone(&seats.0).try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_STREAMS} consoles are open, as many as this proxy serves");
        Problem::new(Kind::TooMany(5), message)
    })?;
    let events = Events {
        next: Box::pin(first(Arc::clone(&state))),
        state,
        _seat: seat,
    };
    let mut response = Response::new(events.boxed_unsync());
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

type Next = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// The body: one event after the other, for ever. Dropping it gives the seat back.
struct Events {
    next: Next,
    state: Arc<State>,
    _seat: OwnedSemaphorePermit,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.next.as_mut().poll(context).map(|event| {
            self.next = Box::pin(later(Arc::clone(&self.state)));
            Some(Ok(Frame::data(event)))
        })
    }
}

async fn first(state: Arc<State>) -> Bytes {
    let snapshot = state.now().await;
    format!("retry: {RETRY}\ndata: {snapshot}\n\n").into()
}

async fn later(state: Arc<State>) -> Bytes {
    tokio::time::sleep(EVERY).await;
    // JSON as we write it is one line.
    let snapshot = state.now().await;
    format!("data: {snapshot}\n\n").into()
}
