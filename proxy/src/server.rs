//! Connections: accepted, bounded, and brought to an orderly end.
//!
//! `Serving => Draining => Closing => Done`. While draining, new connections
//! are still taken, so that holders can extend and release and probes see that
//! the proxy is not ready; it lasts until no request is being answered, which
//! is at once for waiting acquirers. Closing ends the connections, and waits
//! for undos to reach the nodes. All of it together has one deadline.

mod pacing;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::pacing::{Busy, Paced};
use crate::app::App;
use crate::middleware;

/// hyper answers 431 beyond these, without a body; ours lie below and have one.
const HARD_MAX_HEADERS: usize = 128;
const HARD_MAX_HEADER_BYTES: usize = 64 * 1024;
/// One HTTP/2 connection can't hold more of the waiters' seats than this.
const MAX_STREAMS: u32 = 100;
/// A quiet HTTP/2 peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that was idle has this long to agree to the end of the connection.
const FAREWELL: Duration = Duration::from_secs(1);
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The rest of a preface that came in parts is looked for this often.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);

/// Serves until `shutdown` completes, then ends in order. Whether everything
/// that was begun was brought to its end in time.
pub async fn run(listener: TcpListener, app: Arc<App>, shutdown: impl Future<Output = ()>) -> bool {
    let server = Server {
        builder: builder(app.limits.idle_timeout),
        seats: Arc::new(Semaphore::new(app.limits.max_connections)),
        connections: TaskTracker::new(),
        closing: CancellationToken::new(),
        over: CancellationToken::new(),
        app,
    };
    // Serving => Draining
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        never = server.accept(&listener) => match never {},
        () = &mut shutdown => {}
    }
    let deadline = SystemClock.now() + server.app.limits.drain_timeout;
    tracing::info!("draining");
    server.drain(listener, deadline).await
}

struct Server {
    app: Arc<App>,
    builder: Builder<TokioExecutor>,
    /// One permit for each open connection.
    seats: Arc<Semaphore>,
    connections: TaskTracker,
    /// Connections end once their requests are answered.
    closing: CancellationToken,
    /// Connections end now.
    over: CancellationToken,
}

fn builder(idle_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_timeout)
        .max_headers(HARD_MAX_HEADERS)
        .max_buf_size(HARD_MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(HARD_MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

impl Server {
    async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            let seat = Arc::clone(&self.seats).acquire_owned().await;
            let seat = seat.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => {
                    let over = self.over.clone();
                    let serving = over.run_until_cancelled_owned(self.serve(stream));
                    self.connections.spawn(async move {
                        let _ = serving.await;
                        drop(seat);
                    });
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "connections can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection, from its first byte to its last.
    fn serve(&self, stream: TcpStream) -> impl Future<Output = ()> + 'static {
        let (app, builder) = (Arc::clone(&self.app), self.builder.clone());
        let closing = self.closing.clone();
        async move {
            // Small answers must not wait for acknowledgements of earlier ones.
            let _ = stream.set_nodelay(true);
            let header_timeout = app.limits.header_timeout;
            let begins = tokio::time::timeout(header_timeout, begins(&stream));
            let http2 = tokio::select! {
                begun = begins => match begun {
                    Ok(Some(http2)) => http2,
                    _ => return,
                },
                () = closing.cancelled() => return,
            };
            let busy = Busy::new();
            let idle_timeout = app.limits.idle_timeout;
            let paced = Paced::new(stream, busy.clone(), (!http2).then_some(header_timeout));
            let requests = busy.clone();
            let service = service_fn(move |request| {
                let (app, busy) = (Arc::clone(&app), requests.begin());
                async move {
                    let _busy = busy;
                    Ok::<_, Infallible>(middleware::handle(&app, request).await)
                }
            });
            let mut connection = pin!(builder.serve_connection(paced, service));
            // How a connection ended is between the peer and its network.
            tokio::select! {
                _ = connection.as_mut() => {}
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
                () = busy.idle_for(idle_timeout) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(FAREWELL, connection).await;
                }
            }
        }
    }

    async fn drain(self, listener: TcpListener, deadline: Moment) -> bool {
        let left = || deadline.saturating_since(SystemClock.now());
        self.app.begin_drain();
        self.app.requests.close();
        tokio::select! {
            never = self.accept(&listener) => match never {},
            _ = tokio::time::timeout(left(), self.app.requests.wait()) => {}
        }
        // Draining => Closing
        drop(listener);
        self.closing.cancel();
        self.connections.close();
        let closed = tokio::time::timeout(left(), self.connections.wait()).await;
        self.over.cancel();
        // Closing => Done. Undos go on meanwhile by themselves.
        let flushing = tokio::time::timeout(left(), self.app.gate.flush());
        let (undone, flushed) = tokio::join!(self.app.redlock.drained(left()), flushing);
        if flushed.is_err() {
            tracing::warn!("the nodes were not told of everything that was used");
        }
        if closed.is_err() {
            tracing::warn!("connections were still open at the end of the drain");
        }
        if !undone {
            tracing::warn!(
                "nodes were not told of everything that is over: leases end by themselves"
            );
        }
        closed.is_ok() && undone
    }
}

/// Waits until it is clear which HTTP the peer speaks, which hyper would do for
/// ever: whether it is HTTP/2, or nothing if the peer closed without a word.
async fn begins(stream: &TcpStream) -> Option<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let seen = stream
            .peek(&mut start)
            .await
            .ok()
            .filter(|seen| *seen > 0)?;
        if start[..seen] != PREFACE[..seen] {
            return Some(false);
        }
        if seen == PREFACE.len() {
            return Some(true);
        }
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

/// Whether an accept failed because of that one peer.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
