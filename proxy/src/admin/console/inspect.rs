//! One lock as every node has it, and what a quorum makes of that.
//!
//! The holder's uuid is a secret: whoever knows it can release the lock. So it is shown as a
//! fingerprint, by which two sights of one holder can be told to be the same.

use std::sync::Arc;
use std::time::Duration;

use everlock::{FencingToken, NodeId, Redlock, Resource, Vote, majority};
use serde::Serialize;

use crate::advisor::shown;
use crate::api::millis_up;

/// Digits of a fingerprint: enough to tell the holders of one lock apart.
const FINGERPRINT: usize = 12;

/// What all nodes said of one lock.
pub(super) struct Seen {
    votes: Vec<(NodeId, Vote)>,
}

/// A grant that nodes hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) owner: Arc<str>,
    pub(super) token: Option<FencingToken>,
    pub(super) nodes: usize,
    /// What is left of it on a quorum of nodes, if that is known.
    pub(super) remaining: Option<Duration>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    verdict: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
    nodes: Vec<NodeView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeView {
    node: String,
    says: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<u64>,
}

/// Asks every node, once.
pub(super) async fn look(redlock: &Redlock, resource: &Resource) -> Seen {
    Seen {
        votes: redlock.inspect(resource).await,
    }
}

/// Stands for an owner id.
pub(super) fn fingerprint(owner: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, owner.as_bytes());
    let mut text = data_encoding::HEXLOWER.encode(digest.as_ref());
    text.truncate(FINGERPRINT);
    text
}

impl Seen {
    fn quorum(&self) -> usize {
        majority(self.votes.len())
    }

    fn count(&self, says: impl Fn(&Vote) -> bool) -> usize {
        self.votes.iter().filter(|(_, vote)| says(vote)).count()
    }

    /// The grant that most nodes hold.
    pub(super) fn strongest(&self) -> Option<Grant> {
        let mut grants: Vec<(Grant, Vec<Option<Duration>>)> = Vec::new();
        for (_, vote) in &self.votes {
            let Vote::Holder {
                owner,
                remaining,
                token,
            } = vote
            else {
                continue;
            };
            let known = grants
                .iter_mut()
                .find(|(grant, _)| grant.owner == *owner && grant.token == *token);
            if let Some((grant, left)) = known {
                grant.nodes += 1;
                left.push(*remaining);
            } else {
                let grant = Grant {
                    owner: Arc::clone(owner),
                    token: *token,
                    nodes: 1,
                    remaining: None,
                };
                grants.push((grant, vec![*remaining]));
            }
        }
        let (mut grant, mut left) = grants.into_iter().max_by_key(|(grant, _)| grant.nodes)?;
        left.sort_unstable_by_key(|left| std::cmp::Reverse(left.unwrap_or(Duration::MAX)));
        // From then on no quorum holds it; a key that never expires is held for ever.
        grant.remaining = left.get(self.quorum() - 1).copied().flatten();
        Some(grant)
    }

    /// The grant that a quorum holds.
    pub(super) fn held(&self) -> Option<Grant> {
        let strongest = self.strongest()?;
        (strongest.nodes >= self.quorum()).then_some(strongest)
    }

    pub(super) fn view(&self) -> View {
        let (verdict, text) = self.verdict();
        let held = self.held();
        View {
            verdict,
            text,
            holder: held.as_ref().map(|grant| fingerprint(&grant.owner)),
            token: held.and_then(|grant| grant.token).map(FencingToken::as_u64),
            nodes: self.votes.iter().map(|(id, vote)| row(id, vote)).collect(),
        }
    }

    fn verdict(&self) -> (&'static str, String) {
        let all = self.votes.len();
        let quorum = self.quorum();
        if let Some(grant) = self.held() {
            let left = grant.remaining.map_or_else(
                || "it never expires there".to_owned(),
                |left| format!("{} left", shown(millis_up(left))),
            );
            let text = format!("Held on {} of {all} nodes: {left}", grant.nodes);
            return ("held", text);
        }
        let holding = self.count(|vote| matches!(vote, Vote::Holder { .. }));
        let free = self.count(|vote| *vote == Vote::Absent);
        let unknown = all - holding - free;
        let strongest = self.strongest().map_or(0, |grant| grant.nodes);
        if holding == 0 && free >= quorum {
            return ("free", format!("Free: {free} of {all} nodes hold nothing"));
        }
        if strongest + unknown >= quorum {
            let text = format!(
                "Not known: {unknown} of {all} nodes don’t tell, {holding} hold it, {free} don’t"
            );
            return ("unknown", text);
        }
        let text = format!(
            "Nobody holds it: {holding} of {all} nodes have a trace of it, and {quorum} would be \
             needed. A trace ends by itself"
        );
        ("split", text)
    }
}

fn row(id: &NodeId, vote: &Vote) -> NodeView {
    let (says, remaining, token) = match vote {
        Vote::Holder {
            owner,
            remaining,
            token,
        } => (
            format!("held by {}", fingerprint(owner)),
            *remaining,
            *token,
        ),
        Vote::Absent => ("free".to_owned(), None, None),
        other => (other.to_string(), None, None),
    };
    NodeView {
        node: id.to_string(),
        says,
        remaining_ms: remaining.map(millis_up),
        token: token.map(FencingToken::as_u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everlock::{Fault, FaultKind};

    fn holder(owner: &str, token: u64, left: u64) -> Vote {
        Vote::Holder {
            owner: owner.into(),
            remaining: Some(Duration::from_millis(left)),
            token: Some(FencingToken::new(token)),
        }
    }

    fn down() -> Vote {
        Vote::Failed(Fault::unknown(FaultKind::Timeout, ""))
    }

    fn verdict(votes: Vec<Vote>) -> (&'static str, String) {
        let votes = votes.into_iter().enumerate();
        let named = votes.map(|(at, vote)| (NodeId::new(format!("n{at}")), vote));
        Seen {
            votes: named.collect(),
        }
        .verdict()
    }

    #[test]
    fn a_verdict_is_a_quorums_and_what_is_not_known_is_no_verdict() {
        use Vote::Absent;
        let of = |votes| verdict(votes).0;
        let a = || holder("a", 1, 900);
        assert_eq!(of(vec![a(), a(), a()]), "held");
        assert_eq!(of(vec![a(), a(), Absent]), "held");
        assert_eq!(of(vec![a(), Absent, Absent]), "split");
        assert_eq!(of(vec![a(), Absent, down()]), "unknown");
        assert_eq!(of(vec![a(), holder("b", 2, 5), holder("c", 3, 5)]), "split");
        assert_eq!(of(vec![a(), holder("a", 2, 5), Absent]), "split");
        assert_eq!(of(vec![Absent, Absent, down()]), "free");
        assert_eq!(of(vec![down(), down(), Absent]), "unknown");
    }

    #[test]
    fn the_time_left_is_until_a_quorum_has_it_no_more_and_the_uuid_is_not_shown() {
        let votes = vec![
            holder("s3cret", 7, 100),
            holder("s3cret", 7, 900),
            holder("s3cret", 7, 500),
        ];
        let (_, text) = verdict(votes);
        assert!(text.contains("3 of 3 nodes: 500 ms left"), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
