//! A node, as the quorum code sees it, and the ballot that collects its replies.
//!
//! Invariant: a command that was submitted is sent, and its reply slot is
//! answered exactly once, whatever becomes of the caller. Giving up therefore
//! never skips a command half of the nodes have seen, and what comes after the
//! caller has gone is still heard of.

mod ears;
pub mod memory;
mod observed;
pub mod redis;

#[cfg(feature = "test-util")]
pub mod conformance;
#[cfg(feature = "test-util")]
pub mod faulty;

pub(crate) use ears::Ears;
pub use ears::{Ear, Listening};
pub(crate) use observed::observed;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::clock::Moment;
use crate::core::admission::ServerFacts;
use crate::core::command::Command;
use crate::core::marker::{MarkerCommand, MarkerState};
use crate::core::quorum::{Fault, FaultKind, Reply};
use crate::core::types::{NodeId, Resource};
use crate::observer::Trace;

/// A future of a node's rarer operations.
pub type NodeFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// One independent server that votes.
pub trait Node: Send + Sync + fmt::Debug {
    /// The node's name in reports and logs.
    fn id(&self) -> &NodeId;

    /// Hands a command over. It is sent whatever becomes of the caller, unless
    /// that can't be done by `not_after`; `slot` is answered in any case.
    /// Commands that one caller submits in turn reach the node in turn.
    fn submit(&self, command: Command, not_after: Moment, slot: ReplySlot);

    /// Reads or changes the node's marker.
    ///
    /// Dropping the future leaves the change made or not made, never half made.
    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState>;

    /// What the server says of itself.
    fn facts(&self) -> NodeFuture<'_, ServerFacts>;

    /// How the last try to use the server ended; `None` before the first has.
    fn last_judged(&self) -> Option<Judged>;

    /// Has `ear` called when the lock is let go here, from as soon as that can be
    /// heard, which is told as well; also when an undo of one who has gone away lets it go.
    /// Other undos and expiries are not heard of. It is a
    /// help: a node may hear nothing, and what it hears may be lost.
    fn listen(&self, resource: &Resource, ear: Ear) -> Listening {
        let _ = (resource, ear);
        Listening::deaf()
    }

    /// Judges the server now, once it was reached or failed to be.
    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>>;
}

/// How the last try to use a server ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It serves, though it may be guarded for a while.
    Serving(crate::core::marker::ClusterInfo),
    /// It has no marker, and no other node says what should be in it.
    Uninitialised,
    /// It can't be a node of this cluster.
    Refused(String),
    /// It could not be asked.
    Away(Fault),
}

/// What is done with replies that nobody waits for any more.
type Late = Box<dyn Fn(usize, Reply) + Send + Sync>;

/// Collects the replies to one command from several nodes.
pub struct Ballot {
    state: Mutex<BallotState>,
    late: Option<Late>,
}

#[derive(Default)]
struct BallotState {
    arrived: VecDeque<(usize, Reply)>,
    closed: bool,
    waker: Option<Waker>,
}

impl Ballot {
    /// A ballot whose replies are forgotten once nobody waits for them.
    #[must_use]
    pub fn open() -> BallotReader {
        Self::reader(None)
    }

    /// A ballot that hands `late` every reply that nobody waits for any more.
    #[must_use]
    pub fn with_late(late: impl Fn(usize, Reply) + Send + Sync + 'static) -> BallotReader {
        Self::reader(Some(Box::new(late)))
    }

    fn reader(late: Option<Late>) -> BallotReader {
        let state = Mutex::default();
        BallotReader {
            ballot: Arc::new(Self { state, late }),
            trace: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BallotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, node: usize, reply: Reply) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            if let Some(late) = &self.late {
                late(node, reply);
            }
            return;
        }
        state.arrived.push_back((node, reply));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ballot").finish_non_exhaustive()
    }
}

/// The waiting end of a [`Ballot`]. Dropping it makes all further replies late ones.
#[derive(Debug)]
pub struct BallotReader {
    ballot: Arc<Ballot>,
    /// Follows the operation that asks.
    trace: Option<Arc<dyn Trace>>,
}

impl BallotReader {
    /// The slot for one node's reply.
    #[must_use]
    pub fn slot(&self, node: usize) -> ReplySlot {
        ReplySlot {
            node,
            ballot: Some(Arc::clone(&self.ballot)),
            witness: None,
            trace: self.trace.clone(),
        }
    }

    /// The same ballot, whose commands are followed by `trace`.
    #[must_use]
    pub(crate) fn followed(mut self, trace: Option<&Arc<dyn Trace>>) -> Self {
        self.trace = trace.cloned();
        self
    }

    /// The next reply, with the node's number. Cancelling loses none.
    pub async fn next(&mut self) -> (usize, Reply) {
        poll_fn(|context| {
            let mut state = self.ballot.lock();
            if let Some(arrived) = state.arrived.pop_front() {
                return Poll::Ready(arrived);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for BallotReader {
    fn drop(&mut self) {
        let mut state = self.ballot.lock();
        state.closed = true;
        let unread = std::mem::take(&mut state.arrived);
        drop(state);
        if let Some(late) = &self.ballot.late {
            for (node, reply) in unread {
                late(node, reply);
            }
        }
    }
}

/// Where one node's reply goes. One that is dropped unanswered reports a fault.
#[derive(Debug)]
pub struct ReplySlot {
    node: usize,
    ballot: Option<Arc<Ballot>>,
    /// Hears of the reply first.
    witness: Option<observed::Witness>,
    /// Follows the operation, until the witness hears for it.
    trace: Option<Arc<dyn Trace>>,
}

impl ReplySlot {
    /// The same slot, whose command is followed by `trace`.
    pub(crate) fn followed(mut self, trace: Option<Arc<dyn Trace>>) -> Self {
        self.trace = trace;
        self
    }

    /// Its command is sent, in one call with so many, itself included.
    pub(crate) fn sent(&mut self, together: usize) {
        if let Some(witness) = &mut self.witness {
            witness.sent(together);
        }
    }

    /// Delivers the reply.
    pub fn reply(mut self, reply: Reply) {
        self.deliver(reply);
    }

    fn deliver(&mut self, reply: Reply) {
        if let Some(ballot) = self.ballot.take() {
            if let Some(witness) = self.witness.take() {
                witness.tell(&reply.vote);
            }
            ballot.deliver(self.node, reply);
        }
    }

    /// Reports that there is no reply.
    pub fn fail(self, fault: Fault) {
        self.reply(Reply::failed(fault));
    }
}

impl Drop for ReplySlot {
    fn drop(&mut self) {
        if self.ballot.is_some() {
            let fault = Fault::unknown(FaultKind::Disconnected, "the node was shut down");
            self.deliver(Reply::failed(fault));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::quorum::Vote;
    use std::sync::mpsc;

    fn pong() -> Reply {
        Reply {
            time: None,
            vote: Vote::Pong,
        }
    }

    #[tokio::test]
    async fn a_slot_that_is_dropped_counts_as_a_fault_that_may_have_been_done() {
        let mut ballot = Ballot::open();
        drop(ballot.slot(3));
        let (node, reply) = ballot.next().await;
        let Vote::Failed(fault) = reply.vote else {
            panic!("{reply:?}")
        };
        assert!(node == 3 && fault.maybe_done);
    }

    #[tokio::test]
    async fn replies_that_nobody_waits_for_are_handed_on_read_or_unread() {
        let (sender, late) = mpsc::channel();
        let mut ballot = Ballot::with_late(move |node, _| sender.send(node).unwrap());
        let (first, second, third) = (ballot.slot(0), ballot.slot(1), ballot.slot(2));
        first.reply(pong());
        second.reply(pong());
        assert_eq!(ballot.next().await.0, 0);
        drop(ballot);
        assert_eq!(late.try_recv(), Ok(1), "arrived but unread");
        third.reply(pong());
        assert_eq!(late.try_recv(), Ok(2), "arrived after");
    }
}
