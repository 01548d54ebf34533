//! The quorum client: one operation on all nodes at once.

mod acquire;
mod builder;
mod chores;
mod clockwork;
mod extend;
mod fanout;
mod fifo;
mod grant;
mod guard;
mod hearing;
mod inbox;
mod leaving;
mod line;
mod proposal;
mod release;
mod renewer;
mod settling;
mod spot;
mod turns;
mod with_lock;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

pub use builder::RedlockBuilder;
pub use extend::Extension;
pub use grant::{Grant, Holding};
pub use guard::{Guard, Held};
pub use release::Released;
pub use with_lock::Outcome;

use crate::clock::{Clock, Moment, WallTime};
use crate::cluster::{Cluster, NodeStatus, within};
use crate::config::Settings;
use crate::core::command::Command;
use crate::core::marker::{Cause, ClusterInfo, MAX_MAX_LEASE, MarkerCommand};
use crate::core::quorum::{Reply, Vote, majority};
use crate::core::time::median;
use crate::core::token::{FencingToken, TokenClock};
use crate::core::types::{NodeId, Resource};
use crate::core::validity::Drift;
use crate::entropy::Entropy;
use crate::node::{Ballot, Judged, Node};
use crate::observer::Observer;
use chores::Chores;
use clockwork::Clockwork;
use leaving::Leaving;
use line::Lines;
use turns::Turns;

/// A lock over a quorum of independent nodes.
///
/// Clones are cheap and share everything. All operations may be dropped at any
/// await point: what an acquire had begun is undone in the background, and a
/// release or extension that was sent takes its course.
#[derive(Clone)]
pub struct Redlock {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    nodes: Vec<Arc<dyn Node>>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn Observer>,
    tokens: Mutex<TokenClock>,
    cluster: OnceLock<ClusterInfo>,
    chores: Chores,
    lines: Lines,
    turns: Turns,
    leaving: Leaving,
    clocks: Clockwork,
    runtime: Handle,
}

/// Whether each node is there and may vote.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// The nodes in the order of the configuration, each with its answer.
    pub nodes: Vec<(NodeId, Vote)>,
    /// Why the nodes that are guarded are so, as far as they told.
    pub guards: Vec<(NodeId, Cause)>,
    /// Whether so many clocks jumped that nobody can say which: until the longest
    /// lease is over, no votes count together.
    pub clocks_astray: bool,
    /// How many nodes must vote.
    pub quorum: usize,
}

impl Readiness {
    /// Whether a quorum of nodes votes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.clocks_astray && self.votes() >= self.quorum
    }

    /// How many nodes vote.
    fn votes(&self) -> usize {
        self.nodes
            .iter()
            .filter(|(_, vote)| *vote == Vote::Pong)
            .count()
    }
}

impl Redlock {
    /// Starts the configuration of a client.
    pub fn builder() -> RedlockBuilder {
        RedlockBuilder::default()
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    pub(crate) fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.inner.entropy
    }

    pub(crate) fn drift(&self) -> Drift {
        self.inner.settings.drift
    }

    /// How many nodes there are.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.inner.nodes.len()
    }

    /// What an operator should know about the configuration, though it works.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let nodes = self.node_count();
        let even = nodes.is_multiple_of(2).then(|| {
            format!(
                "{nodes} nodes survive the loss of no more than {} do: use an odd number",
                nodes - 1
            )
        });
        even.into_iter().collect()
    }

    /// The longest lease that may be asked for: the cluster's maximum, or this
    /// client's own lower bound. `None` while no node has told it yet.
    #[must_use]
    pub fn max_lease(&self) -> Option<Duration> {
        let cluster = self.inner.cluster()?.max_lease;
        Some(
            self.inner
                .settings
                .max_lease
                .map_or(cluster, |own| own.min(cluster)),
        )
    }

    /// Asks every node whether it is there and may vote, and those that may not
    /// for the reason, each within the node timeout.
    pub async fn readiness(&self) -> Readiness {
        let inner = &self.inner;
        let replies = inner.ask_all(&Command::Ping).await;
        let nodes = inner.nodes.iter().zip(replies);
        let nodes: Vec<_> = nodes
            .map(|(node, reply)| (node.id().clone(), reply.vote))
            .collect();
        Readiness {
            guards: inner.guards(&nodes).await,
            nodes,
            clocks_astray: inner.clocks.is_astray(),
            quorum: majority(inner.nodes.len()),
        }
    }

    /// Asks every node who holds the resource, and changes nothing.
    pub async fn inspect(&self, resource: &Resource) -> Vec<(NodeId, Vote)> {
        let replies = self
            .inner
            .ask_all(&Command::Inspect {
                resource: resource.clone(),
            })
            .await;
        let nodes = self.inner.nodes.iter().map(|node| node.id().clone());
        nodes
            .zip(replies.into_iter().map(|reply| reply.vote))
            .collect()
    }

    /// What each node says of itself now: its server, its marker, its clock. It asks more of the
    /// nodes than [`Redlock::readiness`] does, and is meant for people who look. Each node is given
    /// `time` for each of two answers.
    pub async fn node_status(&self, time: Duration) -> Vec<NodeStatus> {
        let inner = &self.inner;
        let (clock, entropy) = (Arc::clone(&inner.clock), Arc::clone(&inner.entropy));
        Cluster::of(inner.nodes.clone(), clock, entropy)
            .status_within(time)
            .await
    }

    /// What is taken off a lease of this length, since clocks differ.
    #[must_use]
    pub fn drift_of(&self, lease: Duration) -> Duration {
        self.inner.settings.drift.of(lease)
    }

    /// How many commands that clean up (undos, settlements, places in line that are left) have yet
    /// to be answered by the node that they are for. They are given up when what they are about
    /// has ended by itself.
    #[must_use]
    pub fn pending_cleanups(&self) -> usize {
        self.inner.chores.pending()
    }

    /// Waits until nothing is left to undo or settle on any node, `within` this
    /// time at most. Whether that was reached. For an orderly end of a process.
    pub async fn drained(&self, within: Duration) -> bool {
        // Who has won a lock in its turn may still be in line.
        self.inner.leave_all();
        tokio::time::timeout(within, self.inner.chores.done())
            .await
            .is_ok()
    }
}

impl Inner {
    fn quorum(&self) -> usize {
        majority(self.nodes.len())
    }

    /// The cluster, as soon as one node has told it.
    fn cluster(&self) -> Option<&ClusterInfo> {
        if self.cluster.get().is_none() {
            let told = self
                .nodes
                .iter()
                .find_map(|node| match node.last_judged() {
                    Some(Judged::Serving(info)) => Some(info),
                    _ => None,
                })?;
            // Another thread may have been first, with the same.
            let _ = self.cluster.set(told);
        }
        self.cluster.get()
    }

    /// Why these nodes are guarded.
    async fn guards(&self, nodes: &[(NodeId, Vote)]) -> Vec<(NodeId, Cause)> {
        let time = self.settings.node_timeout;
        let asked = self.nodes.iter().zip(nodes);
        let guarded = asked.filter(|(_, (_, vote))| matches!(vote, Vote::Guarded { .. }));
        let all = guarded.map(|(node, (id, _))| async move {
            let state = within(time, node.mark(MarkerCommand::Read)).await.ok()?;
            Some((id.clone(), state.marker?.cause?))
        });
        let causes = futures_util::future::join_all(all).await;
        causes.into_iter().flatten().collect()
    }

    /// The longest lease that anybody may have.
    fn cluster_max_lease(&self) -> Duration {
        self.cluster().map_or(MAX_MAX_LEASE, |info| info.max_lease)
    }

    fn max_lease(&self) -> Duration {
        let cluster = self.cluster_max_lease();
        self.settings
            .max_lease
            .map_or(cluster, |own| own.min(cluster))
    }

    fn with_tokens<T>(&self, change: impl FnOnce(&mut TokenClock) -> T) -> T {
        change(&mut self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn propose(&self, floor: Option<FencingToken>) -> FencingToken {
        self.propose_some(floor, 0)
    }

    /// The first of several tokens: so many above it are its owner's as well.
    fn propose_some(&self, floor: Option<FencingToken>, reserve: u32) -> FencingToken {
        let wall = self.clock.wall();
        self.with_tokens(|tokens| tokens.propose(wall, floor, reserve))
    }

    /// How long ago a grant's token was proposed, by the nodes' clocks.
    fn age(&self, token: FencingToken) -> Duration {
        let wall = self.clock.wall();
        self.with_tokens(|tokens| tokens.age(wall, token))
    }

    fn align(&self, median: WallTime) {
        let wall = self.clock.wall();
        self.with_tokens(|tokens| tokens.align(wall, median));
    }

    /// Asks all nodes and waits for all of them, up to the node timeout.
    async fn ask_all(&self, command: &Command) -> Vec<Reply> {
        let not_after = self.clock.now() + self.settings.node_timeout;
        let mut ballot = Ballot::open();
        fanout::send(&self.nodes, command, not_after, &ballot);
        fanout::gather(&mut ballot, self.nodes.len(), self.settings.node_timeout).await
    }

    /// Follows the nodes' clocks before anything is proposed, so that a wild
    /// clock of ours does not show in the first tokens.
    async fn learn_time(&self) {
        let times = self
            .ask_all(&Command::Ping)
            .await
            .into_iter()
            .filter_map(|reply| reply.time);
        if let Some(median) = median(times.collect()) {
            self.align(median);
        }
    }

    fn remaining(&self, until: Moment) -> Duration {
        until.saturating_since(self.clock.now())
    }
}

impl fmt::Debug for Redlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redlock")
            .field("nodes", &self.inner.nodes)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
