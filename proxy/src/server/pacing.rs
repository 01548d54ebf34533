//! How long a connection may be quiet, how long a header may take, and whether the peer is still
//! there while it is answered.
//!
//! HTTP/1.1: `Idle => Head => Busy => Idle`. hyper has one time-out for the first two,
//! counted from the end of the last request. One that is short enough for a
//! header would close kept connections just when a balancer uses them again, and
//! one that is longer would cut off a header that begins at its end. So hyper's
//! is off, and both are here: a header gets its time from its first byte, and a
//! connection on which one has begun is not idle.
//! HTTP/2: hyper pings quiet peers but keeps those that answer, so what is idle
//! is told here, headers that never end included.
//!
//! hyper sees the end of an HTTP/1.1 connection where it would read the next request. While a
//! request is under way it reads no further once there is a byte behind it, and would answer a peer
//! that is long gone. So it is looked here, below TLS, whether the peer has closed, beyond whatever
//! it sent. As with hyper, who closes the sending side alone is gone as well. Only the end of a
//! peer that filled all buffers before is not seen: it does not come through.
//!
//! A request that is on its way while an idle connection is closed goes
//! unanswered, as HTTP/1.1 has it. One that has arrived is answered.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::time::{Sleep, sleep};

use super::transport::{self, Begun, Transport};

/// What had arrived before is read by then.
const SECOND_LOOK: Duration = Duration::from_millis(10);
/// How often it is looked whether the peer of a request that is under way is still there: seldom
/// enough to cost nothing beside the attempts that are made for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether requests of a connection are being answered; shared with its service.
#[derive(Clone, Debug)]
pub(super) struct Busy(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    requests: usize,
    idle_since: Moment,
}

impl Busy {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            requests: 0,
            idle_since: SystemClock.now(),
        })))
    }

    /// Another request is being answered, until the guard is dropped.
    pub(super) fn begin(&self) -> BusyGuard {
        self.lock().requests += 1;
        BusyGuard(self.clone())
    }

    /// A request has begun to come in.
    fn touch(&self) {
        self.lock().idle_since = SystemClock.now();
    }

    /// Waits until there was no request for so long.
    ///
    /// After the process was stopped or starved, its timers may be seen before what arrived
    /// meanwhile: so the end is believed only when it is seen twice.
    pub(super) async fn idle_for(&self, time: Duration) {
        let mut seen = false;
        loop {
            let left = {
                let state = self.lock();
                let idle = SystemClock.now().saturating_since(state.idle_since);
                if state.requests > 0 {
                    time
                } else {
                    time.saturating_sub(idle)
                }
            };
            if !left.is_zero() {
                seen = false;
                sleep(left).await;
            } else if seen {
                return;
            } else {
                seen = true;
                sleep(SECOND_LOOK).await;
            }
        }
    }

    fn is_set(&self) -> bool {
        self.lock().requests > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct BusyGuard(Busy);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.requests -= 1;
        state.idle_since = SystemClock.now();
    }
}

/// A connection that ends when a header takes too long, and when nobody is there for an answer.
pub(super) struct Paced {
    stream: TokioIo<Transport>,
    /// What was read before, and is read again.
    start: Vec<u8>,
    busy: Busy,
    /// None where headers of several requests come in at once, and all is read always (HTTP/2).
    header_timeout: Option<Duration>,
    /// Whether a header has begun to come in.
    begun: bool,
    /// Runs while the rest of it is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Runs until the next look after the peer of a request that is under way.
    look: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(
        stream: Transport,
        begun: Begun,
        busy: Busy,
        header_timeout: Duration,
    ) -> Self {
        Self {
            stream: TokioIo::new(stream),
            start: begun.start,
            busy,
            header_timeout: (!begun.http2).then_some(header_timeout),
            begun: false,
            deadline: None,
            look: None,
        }
    }

    /// Whether there is nobody to answer, as far as is known. Wakes the task for the next look.
    fn is_deserted(&mut self, cx: &mut Context<'_>) -> bool {
        if self.header_timeout.is_none() || !self.busy.is_set() {
            self.look = None;
            return false;
        }
        loop {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK_EVERY)));
            if look.as_mut().poll(cx).is_pending() {
                return false;
            }
            if transport::is_closed(self.stream.inner(), cx) {
                return true;
            }
            self.look = None;
        }
    }
}

impl Read for Paced {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = if this.start.is_empty() {
            Pin::new(&mut this.stream).poll_read(cx, buf)
        } else {
            let most = this.start.len().min(buf.remaining());
            buf.put_slice(&this.start[..most]);
            this.start.drain(..most);
            Poll::Ready(Ok(()))
        };
        let Some(header_timeout) = this.header_timeout.filter(|_| !this.busy.is_set()) else {
            (this.begun, this.deadline) = (false, None);
            return polled;
        };
        if polled.is_ready() {
            if !this.begun {
                this.busy.touch();
            }
            this.begun = true;
        } else if this.begun {
            let fresh = || Box::pin(sleep(header_timeout));
            let deadline = this.deadline.get_or_insert_with(fresh);
            if deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        polled
    }
}

impl Write for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    /// hyper flushes whenever it is polled, also while there is nothing to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deserted(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
