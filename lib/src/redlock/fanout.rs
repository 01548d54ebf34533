//! One command to all nodes, and their replies.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::core::command::Command;
use crate::core::quorum::{Fault, FaultKind, Reply, Report, Vote};
use crate::node::{BallotReader, Node};

/// Hands the command to every node. All of them send it, also when the caller
/// stops waiting after a majority.
pub(super) fn send(
    nodes: &[Arc<dyn Node>],
    command: &Command,
    not_after: Moment,
    ballot: &BallotReader,
) {
    for (index, node) in nodes.iter().enumerate() {
        node.submit(command.clone(), not_after, ballot.slot(index));
    }
}

/// Waits for every node's reply; those that take longer than `time` have failed.
pub(super) async fn gather(ballot: &mut BallotReader, nodes: usize, time: Duration) -> Vec<Reply> {
    let mut replies: Vec<Option<Reply>> = vec![None; nodes];
    let all = async {
        while replies.iter().any(Option::is_none) {
            let (node, reply) = ballot.next().await;
            replies[node] = Some(reply);
        }
    };
    // What is missing after the time is filled in below.
    let _ = tokio::time::timeout(time, all).await;
    let missing = || Reply::failed(Fault::unknown(FaultKind::Timeout, ""));
    replies
        .into_iter()
        .map(|reply| reply.unwrap_or_else(missing))
        .collect()
}

/// What each node said, for people.
pub(super) fn report<'a>(
    nodes: &[Arc<dyn Node>],
    votes: impl IntoIterator<Item = Option<&'a Vote>>,
) -> Report {
    let named = nodes.iter().zip(votes);
    Report {
        nodes: named
            .map(|(node, vote)| (node.id().clone(), vote.cloned()))
            .collect(),
    }
}
