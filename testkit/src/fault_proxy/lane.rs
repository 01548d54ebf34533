//! The two directions of one connection.
//!
//! A lane is a reader and a writer with a bounded queue between them, so that a delay adds to the
//! latency of every piece without adding up, and the end of the stream keeps its place in line.
//! Delays are fixed when bytes arrive; every other fault is decided when they would leave.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Flow, Switches};

/// One read takes at most this much.
const PIECE: usize = 16 * 1024;

/// So many pieces may be under way in one direction of a connection.
const PIECES: usize = 64;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    Reset,
}

/// What arrives from a peer.
enum Piece {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Replies,
}

/// Passes bytes both ways until the connection ends.
pub(super) async fn both(
    client: &mut TcpStream,
    server: &mut TcpStream,
    switches: &Switches,
) -> Ending {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let outcome = tokio::try_join!(
        Lane::new(Direction::Requests, switches).run(from_client, to_server),
        Lane::new(Direction::Replies, switches).run(from_server, to_client),
    );
    outcome.err().unwrap_or(Ending::Close)
}

struct Lane<'a> {
    direction: Direction,
    flow: watch::Receiver<Flow>,
    passed: &'a AtomicU64,
    switches: &'a Switches,
}

impl<'a> Lane<'a> {
    fn new(direction: Direction, switches: &'a Switches) -> Self {
        let (flow, passed) = match direction {
            Direction::Requests => (&switches.requests, &switches.request_bytes),
            Direction::Replies => (&switches.replies, &switches.reply_bytes),
        };
        Self {
            direction,
            flow: flow.subscribe(),
            passed,
            switches,
        }
    }

    /// `Ok` when this direction is over and the other may go on.
    async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), Ending> {
        let (pieces, queue) = mpsc::channel(PIECES);
        let reader = read(from, self.flow.clone(), pieces);
        let writer = self.write(to, queue);
        tokio::pin!(writer);
        tokio::select! {
            outcome = &mut writer => return outcome,
            () = reader => {}
        }
        writer.await
    }

    async fn write(
        mut self,
        mut to: WriteHalf<'_>,
        mut queue: mpsc::Receiver<(Instant, Piece)>,
    ) -> Result<(), Ending> {
        let mut lost = false;
        while let Some((due, piece)) = queue.recv().await {
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
            }
            let flow = *self
                .flow
                .wait_for(|flow| *flow != Flow::Stall)
                .await
                .expect("the switches outlive the connection");
            lost |= flow == Flow::Swallow;
            match piece {
                Piece::Bytes(_) if lost => {}
                Piece::Bytes(bytes) => lost = self.pass(&mut to, bytes).await?,
                // Nobody is there to get replies any more: there is nothing to keep up.
                Piece::Reset if self.direction == Direction::Requests => return Err(Ending::Reset),
                Piece::Fin if lost && self.direction == Direction::Requests => {
                    return Err(Ending::Close);
                }
                // The client does not learn of it, and goes on sending into the void.
                Piece::Fin | Piece::Reset if lost => return Ok(()),
                Piece::Fin => {
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Piece::Reset => return Err(Ending::Reset),
            }
        }
        Ok(())
    }

    /// Writes bytes, or what the test leaves of them; says whether the direction is lost.
    async fn pass(&self, to: &mut WriteHalf<'_>, bytes: Vec<u8>) -> Result<bool, Ending> {
        let keep = self.keep(bytes.len());
        let bytes = &bytes[..keep.unwrap_or(bytes.len())];
        if to.write_all(bytes).await.is_err() {
            return self.peer_is_gone();
        }
        self.passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if keep.is_some() {
            let _ = to.shutdown().await;
            return Err(Ending::Close);
        }
        Ok(false)
    }

    /// How many of `len` bytes of a reply pass if it is the one to be truncated.
    fn keep(&self, len: usize) -> Option<usize> {
        let mut keep = None;
        if self.direction == Direction::Replies {
            self.switches.cut_after.send_if_modified(|cut_after| {
                match *cut_after {
                    Some(left) if left < len => keep = cut_after.take(),
                    Some(left) => *cut_after = Some(left - len),
                    None => {}
                }
                false
            });
        }
        keep
    }

    /// A write failed. If the client is gone, its requests still under way decide about the rest.
    /// If the target is gone, the client gets to know, unless a fault of the replies hides it.
    fn peer_is_gone(&self) -> Result<bool, Ending> {
        let replies = *self.switches.replies.borrow();
        let hidden = matches!(replies, Flow::Swallow | Flow::Stall);
        if self.direction == Direction::Requests && !hidden {
            return Err(Ending::Reset);
        }
        Ok(true)
    }
}

/// Takes what comes and notes when it may leave.
async fn read(
    mut from: ReadHalf<'_>,
    flow: watch::Receiver<Flow>,
    pieces: mpsc::Sender<(Instant, Piece)>,
) {
    loop {
        let mut bytes = vec![0; PIECE];
        let piece = match from.read(&mut bytes).await {
            Ok(0) => Piece::Fin,
            Ok(read) => {
                bytes.truncate(read);
                Piece::Bytes(bytes)
            }
            Err(_) => Piece::Reset,
        };
        let last = !matches!(piece, Piece::Bytes(_));
        let mut due = Instant::now();
        if let Flow::Delay(delay) = *flow.borrow() {
            due += delay;
        }
        if pieces.send((due, piece)).await.is_err() || last {
            return;
        }
    }
}
