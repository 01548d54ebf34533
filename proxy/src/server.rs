//! Connections: accepted, bounded, and brought to an orderly end.
//!
//! `Serving => Leaving => Draining => Closing => Done`. Leaving, which lasts for
//! as long as was asked for, is serving but for `/readyz`, so that balancers stop
//! sending before anybody is turned away. While draining, new connections
//! are still taken, so that holders can extend and release and probes see that
//! the proxy is not ready; it lasts until no request is being answered, which
//! is at once for waiting acquirers. Closing ends the connections, and waits
//! for undos to reach the nodes. All from draining on has one deadline, of which
//! each step leaves enough for those behind it. HTTP/2 peers hear of the end when leaving
//! begins; with HTTP/1.1 each answer says it from then on.

mod certificates;
mod listeners;
mod pacing;
mod transport;

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::listeners::Accepted;
pub use self::listeners::Listeners;
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
/// A peer that was idle has this long to agree to the end of the connection, and to take the last
/// answer.
const FAREWELL: Duration = Duration::from_secs(1);
/// So much of the drain's time is kept for what comes after the requests, or half of it if that is
/// less: a farewell to the connections, and as much for telling the nodes what is over.
const LAST_STEPS: Duration = Duration::from_secs(2);
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` completes, then ends in order. Whether everything
/// that was begun was brought to its end in time.
pub async fn run(
    listeners: impl Into<Listeners>,
    app: Arc<App>,
    shutdown: impl Future<Output = ()>,
) -> bool {
    let mut listeners = listeners.into();
    let server = Server {
        builder: builder(),
        seats: Arc::new(Semaphore::new(app.limits.max_connections)),
        connections: app.connections.clone(),
        closing: CancellationToken::new(),
        over: CancellationToken::new(),
        app,
    };
    // Serving => Leaving
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        never = server.accept(&mut listeners) => match never {},
        () = &mut shutdown => {}
    }
    server.leave(&mut listeners).await;
    // Leaving => Draining
    let deadline = SystemClock.now() + server.app.limits.drain_timeout;
    tracing::info!("draining");
    server.drain(listeners, deadline).await
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

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
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
    async fn accept(&self, listeners: &mut Listeners) -> Infallible {
        loop {
            let seat = Arc::clone(&self.seats).acquire_owned().await;
            let seat = seat.expect("the semaphore is never closed");
            match listeners.accept().await {
                Ok(accepted) => {
                    let over = self.over.clone();
                    let serving = over.run_until_cancelled_owned(self.serve(accepted));
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
    fn serve(&self, accepted: Accepted) -> impl Future<Output = ()> + 'static {
        let (app, builder) = (Arc::clone(&self.app), self.builder.clone());
        let closing = self.closing.clone();
        let tls = matches!(accepted, Accepted::Tls(..));
        async move {
            let header_timeout = app.limits.header_timeout;
            let beginning = async {
                let mut stream = transport::open(accepted).await?;
                let begins = transport::begins(&mut stream);
                let begun = tokio::time::timeout(header_timeout, begins).await.ok()??;
                Some((stream, begun))
            };
            let (stream, begun) = tokio::select! {
                begun = beginning => match begun {
                    Some(begun) => begun,
                    None => return,
                },
                () = closing.cancelled() => return,
            };
            let busy = Busy::new();
            let idle_timeout = app.limits.idle_timeout;
            let http2 = begun.http2;
            let paced = Paced::new(stream, begun, busy.clone(), header_timeout);
            let requests = busy.clone();
            let leaving = app.leaving();
            let mut tell = http2 && !leaving.is_cancelled();
            let service = service_fn(move |request| {
                let (app, busy) = (Arc::clone(&app), requests.begin());
                async move {
                    let _busy = busy;
                    Ok::<_, Infallible>(middleware::handle(&app, request, tls).await)
                }
            });
            // On the heap: a peer that has not said a word yet takes no room for it.
            let mut connection = Box::pin(builder.serve_connection(paced, service));
            // How a connection ended is between the peer and its network. It comes first: what has
            // arrived is read before the connection counts as idle, or is told to end.
            loop {
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => return,
                    () = closing.cancelled() => break,
                    () = leaving.cancelled(), if tell => {
                        connection.as_mut().graceful_shutdown();
                        tell = false;
                    }
                    () = busy.idle_for(idle_timeout) => break,
                }
            }
            connection.as_mut().graceful_shutdown();
            let farewell = async {
                tokio::time::sleep(FAREWELL).await;
                busy.idle_for(FAREWELL).await;
            };
            tokio::select! {
                biased;
                _ = connection => {}
                () = farewell => {}
            }
        }
    }

    /// Serves on until balancers had time to look elsewhere.
    async fn leave(&self, listeners: &mut Listeners) {
        self.app.begin_leaving();
        let delay = self.app.limits.drain_delay;
        if delay.is_zero() {
            return;
        }
        tracing::info!(?delay, "not ready any more, draining soon");
        tokio::select! {
            never = self.accept(listeners) => match never {},
            () = tokio::time::sleep(delay) => {}
        }
    }

    async fn drain(self, mut listeners: Listeners, deadline: Moment) -> bool {
        let kept = LAST_STEPS.min(self.app.limits.drain_timeout / 2);
        let left = || deadline.saturating_since(SystemClock.now());
        let left_but = |kept| left().saturating_sub(kept);
        self.app.begin_drain();
        self.app.requests.close();
        tokio::select! {
            never = self.accept(&mut listeners) => match never {},
            _ = tokio::time::timeout(left_but(kept), self.app.requests.wait()) => {}
        }
        // Draining => Closing
        drop(listeners);
        self.closing.cancel();
        self.connections.close();
        let closed = tokio::time::timeout(left_but(kept / 2), self.connections.wait()).await;
        self.over.cancel();
        // Those that were cut off have something to undo once they are gone, which is at once.
        let _ = tokio::time::timeout(left(), self.connections.wait()).await;
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

/// Whether an accept failed because of that one peer.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
