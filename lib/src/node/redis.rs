//! A node on a Redis or Valkey server.
//!
//! One task owns the node's one connection. Commands that wait for it travel
//! together, in the order in which they were submitted, and each is answered:
//! with the server's reply, with the fault that broke the connection, or with
//! the reason why it was never sent. Nothing reconnects underneath: every fresh
//! connection is judged before a command travels on it.

mod calls;
mod connection;
mod driver;
mod faults;
#[cfg(feature = "test-util")]
pub(crate) mod fuzz;
mod listener;
mod looking;
mod membership;
mod parcels;
mod replies;
mod scripts;
mod service;
#[cfg(feature = "test-util")]
pub mod streams;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use deadpool_redis::Pool;
use tokio::sync::{mpsc, oneshot, watch};

use self::connection::Dialer;
pub(crate) use self::connection::address;
use self::driver::{Driver, Job};
use self::listener::Listener;
pub(crate) use self::membership::{Membership, Seat};
use super::{Ear, Judged, Listening, Node, NodeFuture, ReplySlot};
use crate::clock::Moment;
use crate::config::NodeTls;
use crate::core::admission::ServerFacts;
use crate::core::command::Command;
use crate::core::marker::{MarkerCommand, MarkerState};
use crate::core::quorum::{Fault, FaultKind};
use crate::core::types::{NodeId, Resource};
use crate::error::ConfigError;

/// Commands that may wait for one node; more are refused at once.
const MAX_WAITING: usize = 4_096;
const SHUT_DOWN: &str = "the node was shut down";

/// A node on a Redis server.
pub struct RedisNode {
    id: NodeId,
    jobs: mpsc::Sender<Job>,
    judged: watch::Receiver<Option<Judged>>,
    /// None over an application's own pool, whose connections can't listen.
    listener: Option<Arc<Listener>>,
}

impl RedisNode {
    /// The node at this URL. Its task runs in the present tokio runtime and ends
    /// with the node.
    pub(crate) fn from_url(url: &str, tls: &NodeTls, seat: Seat) -> Result<Self, ConfigError> {
        let (id, client, dialer) = Dialer::from_url(url, tls, &seat)?;
        Ok(Self::start(id, dialer, seat, Some(Listener::new(client))))
    }

    /// The node that this pool connects to.
    pub(crate) fn from_pool(name: &str, pool: Pool, seat: Seat) -> Self {
        let dialer = Dialer::from_pool(pool, &seat);
        Self::start(NodeId::new(name), dialer, seat, None)
    }

    /// The server at the other end of these streams.
    #[cfg(feature = "test-util")]
    pub(crate) fn over(name: &str, connector: streams::Connector, seat: Seat) -> Self {
        let dialer = Dialer::over(connector, &seat);
        // They can't listen, as an application's own pool can't.
        Self::start(NodeId::new(name), dialer, seat, None)
    }

    fn start(id: NodeId, dialer: Dialer, seat: Seat, listener: Option<Arc<Listener>>) -> Self {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let (judged, seen) = watch::channel(None);
        tokio::spawn(Driver::new(id.clone(), dialer, seat, waiting, judged).run());
        Self {
            id,
            jobs,
            judged: seen,
            listener,
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> Job,
    ) -> NodeFuture<'_, T> {
        let (answer, answered) = oneshot::channel();
        let job = job(answer);
        Box::pin(async move {
            let gone = || Fault::unsent(FaultKind::Disconnected, SHUT_DOWN);
            self.jobs.send(job).await.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }
}

impl Node for RedisNode {
    fn id(&self) -> &NodeId {
        &self.id
    }

    fn submit(&self, command: Command, not_after: Moment, slot: ReplySlot) {
        match self.jobs.try_send(Job::Command {
            command,
            not_after,
            slot,
        }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(job)) => {
                job.fail(&Fault::unsent(FaultKind::Backlog, ""));
            }
            Err(mpsc::error::TrySendError::Closed(job)) => {
                job.fail(&Fault::unsent(FaultKind::Disconnected, SHUT_DOWN));
            }
        }
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        self.ask(|answer| Job::Mark { command, answer })
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        self.ask(|answer| Job::Facts { answer })
    }

    fn listen(&self, resource: &Resource, ear: Ear) -> Listening {
        match &self.listener {
            Some(listener) => listener.listen(resource, ear),
            None => Listening::deaf(),
        }
    }

    fn last_judged(&self) -> Option<Judged> {
        self.judged.borrow().clone()
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        Box::pin(async move {
            let shut = Judged::Away(Fault::unsent(FaultKind::Disconnected, SHUT_DOWN));
            let (answer, answered) = oneshot::channel();
            if self.jobs.send(Job::Judge { answer }).await.is_err() {
                return shut;
            }
            answered.await.unwrap_or(shut)
        })
    }
}

impl fmt::Debug for RedisNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisNode")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
