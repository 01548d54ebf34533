//! Looking at the nodes of a cluster, one by one.

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
        let all = self.nodes.iter().map(|node| async {
            let started = self.clock.now();
            let answer = within(STEP_TIMEOUT, async {
                let facts = node.facts().await?;
                Ok((facts, node.mark(MarkerCommand::Read).await?))
            })
            .await;
            let half = self.clock.now().saturating_since(started) / 2;
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
            }
        });
        futures_util::future::join_all(all).await
    }
}
