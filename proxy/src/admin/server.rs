//! The admin listener's thread, its connections, and their end.
//!
//! HTTP/1.1 alone. Its end is bounded: connections have a moment to finish what they answer.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Desk;
use super::prompt::Prompt;

/// Connections that are open at once; more wait to be accepted. Enough for scrapers, probes and
/// some people with a console, whose events hold a connection each.
pub(crate) const MAX_CONNECTIONS: usize = 64;
/// A header, and the pause before it, may take this long: a little longer than the pause between
/// two scrapes mostly is.
const HEADER_TIMEOUT: Duration = Duration::from_secs(35);
/// hyper answers 431 beyond these.
const MAX_HEADERS: usize = 64;
const MAX_BUFFER: usize = 32 * 1024;
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers that are under way have at the end.
const FAREWELL: Duration = Duration::from_millis(500);
/// Samples are merged this often also where nobody asks for metrics, so that they take no room.
const UPKEEP: Duration = Duration::from_secs(5);

/// A listener that serves; dropping it ends it without waiting.
#[derive(Debug)]
pub struct Running {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Serves in a thread of its own from now on.
pub fn start(listener: std::net::TcpListener, desk: Desk) -> io::Result<Running> {
    start_within(listener, desk, HEADER_TIMEOUT)
}

/// The same, where a header and the pause before it may take so long.
pub fn start_within(
    listener: std::net::TcpListener,
    desk: Desk,
    header_timeout: Duration,
) -> io::Result<Running> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stop = CancellationToken::new();
    let (told, ended) = oneshot::channel();
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name("everlock-admin".to_owned())
        .spawn(move || {
            serve(runtime, listener, (desk, header_timeout), &stopped);
            // Nobody listens after a drop.
            let _ = told.send(());
        })?;
    Ok(Running {
        stop,
        ended,
        thread: Some(thread),
    })
}

impl Running {
    /// Ends it, and waits for that a moment at most.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(2 * FAREWELL, &mut self.ended).await;
        if let (Ok(_), Some(thread)) = (ended, self.thread.take()) {
            // It has done all it does, or has panicked, which the hook has reported.
            drop(thread.join());
        } else {
            tracing::warn!("the admin listener did not end in time");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn serve(
    runtime: Runtime,
    listener: std::net::TcpListener,
    (desk, header_timeout): (Desk, Duration),
    stop: &CancellationToken,
) {
    runtime.block_on(async {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the admin listener can't be served"),
        };
        let metrics = desk.app.metrics.clone();
        let upkeep = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                metrics.upkeep();
            }
        };
        let (desk, connections) = (Arc::new(desk), TaskTracker::new());
        tokio::select! {
            never = accept(&listener, (&desk, header_timeout), &connections, stop) => match never {},
            () = upkeep => {}
            () = stop.cancelled() => {}
        }
        drop(listener);
        connections.close();
        // What has not ended by then ends with the runtime.
        let _ = tokio::time::timeout(FAREWELL, connections.wait()).await;
    });
    runtime.shutdown_background();
}

async fn accept(
    listener: &TcpListener,
    (desk, header_timeout): (&Arc<Desk>, Duration),
    connections: &TaskTracker,
    stop: &CancellationToken,
) -> Infallible {
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await;
        let seat = seat.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = connection(stream, Arc::clone(desk), header_timeout, stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "an admin connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn connection(
    stream: TcpStream,
    desk: Arc<Desk>,
    header_timeout: Duration,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.handle(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(Prompt::new(stream)), service));
    // How a connection ended is between the peer and its network.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}
