//! The answers to an extension, with what the nodes' clocks say of them.
//!
//! Invariant: what is counted is never more than what one group of clocks that
//! agree has confirmed.

use super::clocks::{Agreement, Span};
use super::quorum::{DOUBTED, Fault, Vote};

/// Answers to an extension with the shifts of the nodes' clocks.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    votes: Vec<Option<Vote>>,
    shifts: Vec<Span>,
}

impl Answers {
    /// Of so many nodes, none of which has answered.
    pub(crate) fn of(nodes: usize) -> Self {
        Self {
            votes: vec![None; nodes],
            shifts: vec![Span::ANY; nodes],
        }
    }

    /// Takes a node's answer.
    pub(crate) fn take(&mut self, node: usize, vote: Vote, shift: Span) {
        self.votes[node] = Some(vote);
        self.shifts[node] = shift;
    }

    /// Who has not answered, failed with this.
    pub(crate) fn fill(&mut self, fault: &Fault) {
        for vote in self.votes.iter_mut().filter(|vote| vote.is_none()) {
            *vote = Some(Vote::Failed(fault.clone()));
        }
    }

    fn agreed(&self) -> Agreement {
        let answers = self.votes.iter().zip(&self.shifts);
        Agreement::among(answers.filter_map(|(vote, shift)| {
            matches!(vote, Some(Vote::Extended { .. })).then_some(*shift)
        }))
    }

    /// Whether the clock of any node that confirmed has shifted against the others'.
    pub(crate) fn has_doubts(&self) -> bool {
        let confirmed = |vote: &&Option<Vote>| matches!(vote, Some(Vote::Extended { .. }));
        self.agreed().count < self.votes.iter().filter(confirmed).count()
    }

    /// The answers as they count: confirmations only of clocks that agree.
    pub(crate) fn votes(&self) -> impl Iterator<Item = Option<&Vote>> + Clone {
        let agreed = self.agreed();
        self.votes
            .iter()
            .zip(&self.shifts)
            .map(move |(vote, shift)| {
                let vote = vote.as_ref()?;
                let doubted = matches!(vote, Vote::Extended { .. }) && !agreed.includes(*shift);
                Some(if doubted { &DOUBTED } else { vote })
            })
    }
}
