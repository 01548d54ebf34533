//! Whether a quorum of nodes votes, for the log: told when it is lost, and when it is back.
//!
//! Invariant: an answer that changes nothing costs a look at one number. The rules are those of the
//! metric `everlock_quorum_available`, but that a node of which nothing is known yet is no loss.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use everlock::observer::Event;
use everlock::{FaultKind, NodeId, Vote};

const UNKNOWN: u8 = 0;
const VOTES: u8 = 1;
const GUARDED: u8 = 2;
const DOWN: u8 = 3;

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// There is none; of all nodes so many don't vote yet, and so many are down.
    Lost { guarded: usize, down: usize },
    /// There is one again.
    Back,
}

#[derive(Debug, Default)]
pub(super) struct Quorum {
    nodes: OnceLock<(Vec<(NodeId, AtomicU8)>, usize)>,
    astray: AtomicBool,
    /// Whether its loss was told last. Held while that is judged.
    lost: Mutex<bool>,
}

impl Quorum {
    pub(super) fn event(&self, event: &Event<'_>) -> Option<Change> {
        match event {
            Event::Opened { nodes, quorum } => {
                let unknown = |node: &&NodeId| ((*node).clone(), AtomicU8::new(UNKNOWN));
                // Only the first client is watched, and there is one.
                let _ = self
                    .nodes
                    .set((nodes.iter().map(unknown).collect(), *quorum));
                None
            }
            Event::NodeUp { node, .. } => self.set(self.known(node)?, VOTES),
            Event::NodeDown { node, .. } => self.set(self.known(node)?, DOWN),
            Event::NodeGuarded { node, .. } => self.set(self.known(node)?, GUARDED),
            Event::Answered { node, vote, .. } => {
                let known = self.known(node)?;
                let unmarked = matches!(vote, Vote::Guarded { remaining: None });
                // That is how a node begins that is opened just now: it lost nothing.
                if unmarked && known.load(Ordering::Relaxed) == UNKNOWN {
                    return None;
                }
                self.set(known, state_of(vote)?)
            }
            Event::ClocksSeen { astray, .. } => {
                let before = self.astray.swap(*astray, Ordering::Relaxed);
                if before == *astray {
                    None
                } else {
                    self.judge()
                }
            }
            _ => None,
        }
    }

    fn known(&self, node: &NodeId) -> Option<&AtomicU8> {
        let (nodes, _) = self.nodes.get()?;
        let found = nodes.iter().find(|(known, _)| known == node)?;
        Some(&found.1)
    }

    fn set(&self, known: &AtomicU8, state: u8) -> Option<Change> {
        if known.load(Ordering::Relaxed) == state {
            return None;
        }
        known.store(state, Ordering::Relaxed);
        self.judge()
    }

    fn judge(&self) -> Option<Change> {
        let (nodes, quorum) = self.nodes.get()?;
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |state| {
            let known = nodes.iter().map(|(_, known)| known.load(Ordering::Relaxed));
            known.filter(|known| *known == state).count()
        };
        let astray = self.astray.load(Ordering::Relaxed);
        let (guarded, down) = (count(GUARDED), count(DOWN));
        let lacking = astray || nodes.len() - guarded - down < *quorum;
        if lacking && !*lost {
            *lost = true;
            return Some(Change::Lost { guarded, down });
        }
        if *lost && !astray && count(VOTES) >= *quorum {
            *lost = false;
            return Some(Change::Back);
        }
        None
    }
}

/// What an answer says of its node. One that was late, or one command that was refused, says nothing.
const fn state_of(vote: &Vote) -> Option<u8> {
    match vote {
        Vote::Failed(fault) => match fault.kind {
            FaultKind::Refused
            | FaultKind::Unreachable
            | FaultKind::Disconnected
            | FaultKind::Misconfigured => Some(DOWN),
            _ => None,
        },
        Vote::Guarded { .. } => Some(GUARDED),
        _ => Some(VOTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everlock::Fault;
    use std::time::Duration;

    fn opened(names: &[NodeId; 3]) -> Quorum {
        let (quorum, nodes) = (Quorum::default(), names.iter().collect::<Vec<_>>());
        let event = Event::Opened {
            nodes: &nodes,
            quorum: 2,
        };
        assert_eq!(quorum.event(&event), None);
        quorum
    }

    #[test]
    fn a_loss_is_told_once_and_its_end_once() {
        let names = ["a", "b", "c"].map(NodeId::new);
        let quorum = opened(&names);
        let up = |node| Event::NodeUp {
            node,
            version: "7",
            warnings: &[],
        };
        let refused = Fault::unsent(FaultKind::Refused, "");
        let down = |node| Event::NodeDown {
            node,
            fault: &refused,
        };
        for node in &names {
            assert_eq!(quorum.event(&up(node)), None);
        }
        assert_eq!(quorum.event(&down(&names[0])), None);
        assert_eq!(quorum.event(&down(&names[0])), None);
        let guarded = Event::NodeGuarded {
            node: &names[1],
            remaining: None,
            cause: None,
        };
        let lost = Change::Lost {
            guarded: 1,
            down: 1,
        };
        assert_eq!(quorum.event(&guarded), Some(lost));
        assert_eq!(quorum.event(&down(&names[2])), None);
        assert_eq!(quorum.event(&up(&names[0])), None);
        let votes = Event::Answered {
            node: &names[1],
            operation: "mark",
            vote: &Vote::Pong,
            took: Duration::ZERO,
        };
        assert_eq!(quorum.event(&votes), Some(Change::Back));
        assert_eq!(quorum.event(&votes), None);
        let late = Vote::Failed(Fault::unknown(FaultKind::Timeout, ""));
        for node in &names {
            let late = Event::Answered {
                node,
                operation: "mark",
                vote: &late,
                took: Duration::ZERO,
            };
            assert_eq!(quorum.event(&late), None, "slow is not away");
        }
    }

    #[test]
    fn at_the_start_unknown_nodes_are_no_loss_and_clocks_that_go_astray_are_one() {
        let names = ["a", "b", "c"].map(NodeId::new);
        let quorum = opened(&names);
        let clocks = |astray| Event::ClocksSeen {
            offsets: &[],
            astray,
        };
        assert_eq!(quorum.event(&clocks(false)), None);
        let lost = Change::Lost {
            guarded: 0,
            down: 0,
        };
        assert_eq!(quorum.event(&clocks(true)), Some(lost));
        assert_eq!(quorum.event(&clocks(true)), None);
    }

    #[test]
    fn nodes_that_are_opened_for_the_first_time_lost_nothing() {
        let names = ["a", "b", "c"].map(NodeId::new);
        let quorum = opened(&names);
        let says = |node, vote| Event::Answered {
            node,
            operation: "mark",
            vote,
            took: Duration::ZERO,
        };
        let unmarked = Vote::Guarded { remaining: None };
        for node in &names {
            assert_eq!(quorum.event(&says(node, &unmarked)), None);
        }
        for node in &names {
            assert_eq!(quorum.event(&says(node, &Vote::Pong)), None);
        }
        assert_eq!(quorum.event(&says(&names[0], &unmarked)), None);
        let lost = Change::Lost {
            guarded: 2,
            down: 0,
        };
        assert_eq!(quorum.event(&says(&names[1], &unmarked)), Some(lost));
    }
}
