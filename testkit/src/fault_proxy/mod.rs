//! A TCP proxy that misbehaves on command, in front of one address.
//!
//! Each direction has its [`Flow`], the listening port its [`Door`]; both are switched while
//! connections are open. A fault meets the bytes that are in flight when it begins. Bytes are
//! never reordered, and a connection that lost some delivers nothing more in that direction, even
//! after healing: what follows a gap would be garbage that no TCP connection delivers.
//!
//! Buffers are bounded; what does not fit waits in the kernel, as behind a real network.

mod door;
mod lane;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::port::ReservedPort;
use crate::redis::RedisServer;

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// They pass at once.
    #[default]
    Pass,
    /// They pass this much later; those in flight stay as late as they were when they came.
    Delay(Duration),
    /// They are kept, and delivered in order when the flow is switched to another.
    Stall,
    /// They are lost, and with them the rest of that direction of their connection. The end of a
    /// connection gets lost too: a client does not learn that the server behind a swallowing
    /// direction has gone.
    Swallow,
}

/// What happens to new connections. Open connections go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// They are accepted and connected to the target; reset if that is not to be reached.
    #[default]
    Open,
    /// They are accepted and reset at once.
    Reset,
    /// Nobody listens: they are refused.
    Closed,
    /// The handshake gets no answer: connecting hangs until the client gives up, or until it
    /// tries again (about a second later) through a door that has been opened.
    Hang,
}

/// The proxy; dropping it closes its port and its connections. It lives in the tokio runtime in
/// which it was started.
#[derive(Debug)]
pub struct FaultProxy {
    port: ReservedPort,
    switches: Arc<Switches>,
    server: JoinHandle<()>,
}

/// What the test switches and the proxy's tasks obey.
#[derive(Debug)]
struct Switches {
    target: SocketAddr,
    requests: watch::Sender<Flow>,
    replies: watch::Sender<Flow>,
    door: watch::Sender<Door>,
    /// The door that is in effect, which follows `door`.
    door_now: watch::Sender<Option<Door>>,
    /// Counts resets; the number itself means nothing.
    resets: watch::Sender<u64>,
    /// How much of the next reply passes before its connection is closed.
    cut_after: watch::Sender<Option<usize>>,
    accepted: AtomicU64,
    open: AtomicU64,
    request_bytes: AtomicU64,
    reply_bytes: AtomicU64,
}

impl FaultProxy {
    /// Listens on a free loopback port and passes everything on to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let port = ReservedPort::take();
        let switches = Arc::new(Switches {
            target,
            requests: watch::Sender::default(),
            replies: watch::Sender::default(),
            door: watch::Sender::default(),
            door_now: watch::Sender::default(),
            resets: watch::Sender::default(),
            cut_after: watch::Sender::default(),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            reply_bytes: AtomicU64::new(0),
        });
        let server = tokio::spawn(door::serve(port.addr(), Arc::clone(&switches)));
        let proxy = Self {
            port,
            switches,
            server,
        };
        proxy.door(Door::Open).await;
        proxy
    }

    /// The same in front of a server of the kit.
    pub async fn in_front_of(server: &RedisServer) -> Self {
        Self::start(server.addr()).await
    }

    /// The proxy's address.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The proxy's port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// The URL of a plain Redis server behind the proxy.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port())
    }

    /// Switches the direction from clients to the target.
    pub fn requests(&self, flow: Flow) {
        self.switches.requests.send_replace(flow);
    }

    /// Switches the direction from the target to clients.
    pub fn replies(&self, flow: Flow) {
        self.switches.replies.send_replace(flow);
    }

    /// Switches both directions.
    pub fn both(&self, flow: Flow) {
        self.requests(flow);
        self.replies(flow);
    }

    /// Switches what new connections meet, and returns when that is in effect.
    pub async fn door(&self, door: Door) {
        self.switches.door.send_replace(door);
        let mut now = self.switches.door_now.subscribe();
        now.wait_for(|now| *now == Some(door))
            .await
            .expect("the sender is ours");
    }

    /// Ends all open connections with a reset (RST) towards both sides.
    pub fn reset_connections(&self) {
        self.switches.resets.send_modify(|resets| *resets += 1);
    }

    /// Lets the first `keep` bytes of the next reply pass and then closes its connection, once.
    pub fn truncate_next_reply(&self, keep: usize) {
        self.switches.cut_after.send_replace(Some(keep));
    }

    /// Lets everything pass again, in both directions and for new connections.
    pub async fn heal(&self) {
        self.switches.cut_after.send_replace(None);
        self.both(Flow::Pass);
        self.door(Door::Open).await;
    }

    /// How many connections were accepted so far, those that were reset at once included.
    pub fn connections(&self) -> u64 {
        self.switches.accepted.load(Ordering::Relaxed)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> u64 {
        self.switches.open.load(Ordering::Relaxed)
    }

    /// How many bytes were passed on from clients to the target.
    pub fn request_bytes(&self) -> u64 {
        self.switches.request_bytes.load(Ordering::Relaxed)
    }

    /// How many bytes were passed on from the target to clients.
    pub fn reply_bytes(&self) -> u64 {
        self.switches.reply_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}
