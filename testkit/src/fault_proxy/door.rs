//! The listening side of the proxy: who gets in, and a connection from its begin to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::lane::{self, Ending};
use super::{Door, Switches};

/// As many connections may wait for being accepted.
const BACKLOG: u32 = 1024;

/// Seconds in all, which a process takes to start on a machine that is very busy.
const LISTEN_ATTEMPTS: u32 = 5_000;

/// On loopback a handshake that takes longer gets no answer.
const UNANSWERED_AFTER: Duration = Duration::from_millis(50);

/// Serves until it is aborted; its connections end with it.
pub(super) async fn serve(addr: SocketAddr, switches: Arc<Switches>) {
    let mut wanted = switches.door.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let door = *wanted.borrow_and_update();
        // The fillers occupy a hanging door for as long as it hangs.
        let (listener, _fillers) = match door {
            Door::Open | Door::Reset => (Some(listen(addr, BACKLOG).await), Vec::new()),
            Door::Closed => (None, Vec::new()),
            Door::Hang => {
                let listener = listen(addr, 0).await;
                let fillers = fill(addr).await;
                (Some(listener), fillers)
            }
        };
        switches.door_now.send_replace(Some(door));
        loop {
            let welcome = listener.as_ref().filter(|_| door != Door::Hang);
            tokio::select! {
                _ = wanted.changed() => break,
                Some(_) = connections.join_next() => {}
                client = accept(welcome) => {
                    switches.accepted.fetch_add(1, Ordering::Relaxed);
                    if door == Door::Open {
                        connections.spawn(connect(client, Arc::clone(&switches)));
                    } else {
                        let _ = client.set_zero_linger();
                    }
                }
            }
        }
        if door == Door::Open {
            for client in listener.map(queued).unwrap_or_default() {
                switches.accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(connect(client, Arc::clone(&switches)));
            }
        }
    }
}

/// The address is the proxy's own, reserved and left by its last listener: nobody else has it. But
/// a process that is just being started has all of our sockets until it runs its own program, and
/// so the last listener for that long.
async fn listen(addr: SocketAddr, backlog: u32) -> TcpListener {
    let listening = || -> io::Result<TcpListener> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        socket.listen(backlog)
    };
    for _ in 0..LISTEN_ATTEMPTS {
        match listening() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            listener => return listener.expect("the proxy's port is reserved for it"),
        }
    }
    panic!("somebody listens on the proxy's port {addr}");
}

/// Fills the queue of a listener that nobody empties; then the kernel answers no handshake.
async fn fill(addr: SocketAddr) -> Vec<TcpStream> {
    let mut fillers = Vec::new();
    while let Ok(Ok(filler)) =
        tokio::time::timeout(UNANSWERED_AFTER, TcpStream::connect(addr)).await
    {
        fillers.push(filler);
    }
    fillers
}

/// The next client; never, where there is no listener.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            // The client went away already, or descriptors ran out for a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Closes a listener; the clients that it had connected but not accepted are in.
fn queued(listener: TcpListener) -> Vec<TcpStream> {
    let Ok(listener) = listener.into_std() else {
        return Vec::new();
    };
    let mut clients = Vec::new();
    while let Ok((client, _)) = listener.accept() {
        let nonblocking = client.set_nonblocking(true);
        clients.extend(nonblocking.and_then(|()| TcpStream::from_std(client)));
    }
    clients
}

/// Serves one connection to its end.
async fn connect(mut client: TcpStream, switches: Arc<Switches>) {
    let mut resets = switches.resets.subscribe();
    let _open = Counted::new(&switches.open);
    let Ok(mut server) = TcpStream::connect(switches.target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ending = tokio::select! {
        ending = lane::both(&mut client, &mut server, &switches) => ending,
        _ = resets.changed() => Ending::Reset,
    };
    if ending == Ending::Reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Counts one as long as it lives, also if its task is aborted.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
