//! Looking at the nodes of a cluster, one by one.

use std::time::Duration;

use super::{Cluster, STEP_TIMEOUT, within};
use crate::core::admission::ServerFacts;
use crate::core::marker::{MarkerCommand, MarkerState, bar};
use crate::core::quorum::Fault;
use crate::core::types::NodeId;

/// What one node says of itself.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The node.
    pub id: NodeId,
    /// What the server says, and its marker; or why it does not answer.
    pub answer: Result<(ServerFacts, MarkerState), Fault>,
    /// How far the node's clock is ahead of this machine's, in microseconds.
    pub clock_offset_us: Option<i64>,
    /// How long the node took to answer, or to fail to.
    pub took: Duration,
}

impl NodeStatus {
    /// Whether the node may vote now.
    #[must_use]
    pub fn votes(&self) -> bool {
        self.answer
            .as_ref()
            .is_ok_and(|(_, state)| bar(state.marker.as_ref(), &state.run_id, state.time).is_none())
    }
}

impl Cluster {
    /// What each node says of itself now.
    pub async fn status(&self) -> Vec<NodeStatus> {
        self.status_within(STEP_TIMEOUT).await
    }

    /// The same; each node is given this long for each of two answers.
    pub async fn status_within(&self, time: Duration) -> Vec<NodeStatus> {
        let all = self.nodes.iter().map(|node| async {
            let facts = within(time, node.facts()).await;
            let started = self.clock.now();
            let state = match facts {
                Ok(_) => within(time, node.mark(MarkerCommand::Read)).await,
                Err(ref fault) => Err(fault.clone()),
            };
            let took = self.clock.now().saturating_since(started);
            let half = took / 2;
            let answer = facts.and_then(|facts| Ok((facts, state?)));
            let clock_offset_us = answer.as_ref().ok().and_then(|(_, state)| {
                let ours = i64::try_from(self.clock.wall().minus(half).as_micros()).ok()?;
                i64::try_from(state.time.as_micros())
                    .ok()
                    .map(|theirs| theirs - ours)
            });
            NodeStatus {
                id: node.id().clone(),
                answer,
                clock_offset_us,
                took,
            }
        });
        futures_util::future::join_all(all).await
    }
}
