//! How long an HTTP/1.1 connection may be quiet, and how long a header may take.
//!
//! `Idle => Head => Busy => Idle`. hyper has one time-out for the first two,
//! counted from the end of the last request. One that is short enough for a
//! header would close kept connections just when a balancer uses them again, so
//! hyper's is the long one, and a header gets its own here, from its first byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Whether a request of the connection is being answered; shared with its service.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    /// Head => Busy, until the guard is dropped: Busy => Idle.
    pub(super) fn begin(&self) -> BusyGuard {
        self.0.store(true, Ordering::Release);
        BusyGuard(self.clone())
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
pub(super) struct BusyGuard(Busy);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// A connection that ends when a header takes too long.
pub(super) struct Paced {
    stream: TokioIo<TcpStream>,
    busy: Busy,
    /// None where headers of several requests come in at once (HTTP/2).
    header_timeout: Option<Duration>,
    /// Whether a header has begun to come in.
    begun: bool,
    /// Runs while the rest of it is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(stream: TcpStream, busy: Busy, header_timeout: Option<Duration>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            busy,
            header_timeout,
            begun: false,
            deadline: None,
        }
    }
}

impl Read for Paced {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some(header_timeout) = this.header_timeout.filter(|_| !this.busy.is_set()) else {
            (this.begun, this.deadline) = (false, None);
            return polled;
        };
        if polled.is_ready() {
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
