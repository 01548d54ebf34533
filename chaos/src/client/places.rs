//! Where a request stands in line, as its client can know: what nodes answered it.
//!
//! Invariant: what is noted is true whatever happens to this process. A place counts from when
//! the node's answer is here, and for what a ticket lives from before it was sent.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use everlock::Vote;
use everlock::observer::{Event, Observer};
use everlock::protocol::TICKET_LIFE;

use crate::now;
use crate::record::Stay;

/// Clocks of nodes gain or lose half a percent; jumps are left out by the judge.
const MARGIN: Duration = Duration::from_millis(200);

/// The observer of a client that makes one request at a time.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    nodes: Vec<String>,
    /// Answers to what was sent before are of other tickets.
    since: u64,
    /// `since`, if the attempt that has just ended was not the one that was accepted.
    ended: Option<u64>,
    /// Whether a quorum of nodes has accepted the ticket: from then on it is kept.
    accepted: bool,
    stays: BTreeMap<usize, Stay>,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap()
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A request is going to be made.
    pub(super) fn begin(&self, asked: u64) {
        let mut state = self.lock();
        *state = State {
            nodes: std::mem::take(&mut state.nodes),
            since: asked,
            ..State::default()
        };
    }

    /// Where it stood, and for how long that is sure.
    pub(super) fn end(&self) -> Vec<Stay> {
        let mut state = self.lock();
        let stays = std::mem::take(&mut state.stays);
        let stays = stays.into_values().filter(|_| state.accepted).collect();
        state.accepted = false;
        stays
    }
}

impl Observer for Places {
    fn event(&self, event: &Event<'_>) {
        let now = now();
        let mut state = self.lock();
        match event {
            Event::Opened { nodes, .. } => {
                state.nodes = nodes.iter().map(ToString::to_string).collect();
            }
            Event::Answered {
                node,
                operation: "acquire in turn" | "stand",
                vote:
                    Vote::Queued { .. }
                    | Vote::Granted
                    | Vote::Again { .. }
                    | Vote::Held { .. }
                    | Vote::Stale { .. },
                took,
            } => state.stands(&node.to_string(), now - micros(*took), now),
            // The next attempt proposes another ticket, unless this one was accepted.
            Event::Attempted { .. } if !state.accepted => state.ended = Some(now),
            Event::InLine { .. } => {
                state.accepted = true;
                state.ended = None;
            }
            _ => {}
        }
    }
}

impl State {
    fn stands(&mut self, node: &str, sent: u64, now: u64) {
        if let Some(ended) = self.ended
            && sent >= ended
        {
            self.since = ended;
            self.ended = None;
            self.stays.clear();
        }
        let Some(node) = self.nodes.iter().position(|name| name == node) else {
            return;
        };
        // Late answers to the attempt that has just ended are of a ticket that may be given up.
        if sent < self.since || self.ended.is_some() {
            return;
        }
        let until = sent + micros(TICKET_LIFE.saturating_sub(MARGIN));
        let from = now;
        let stay = self.stays.entry(node).or_insert(Stay { node, from, until });
        if stay.until < now {
            // It was out in between, as far as is known.
            *stay = Stay { node, from, until };
        }
        stay.until = stay.until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everlock::NodeId;
    use everlock::observer::AttemptOutcome;

    fn answered(places: &Places, node: &str, took: u64) {
        places.event(&Event::Answered {
            node: &NodeId::new(node),
            operation: "stand",
            vote: &Vote::Queued {
                position: 1,
                length: 2,
            },
            took: Duration::from_micros(took),
        });
    }

    fn attempted(places: &Places) {
        let (outcome, took) = (AttemptOutcome::Contended, Duration::ZERO);
        places.event(&Event::Attempted { outcome, took });
    }

    fn stood(places: &Places) -> Vec<usize> {
        places.end().iter().map(|stay| stay.node).collect()
    }

    #[test]
    fn only_answers_to_the_ticket_that_was_accepted_count() {
        let places = Places::default();
        let names = ["a", "b", "c"].map(NodeId::new);
        let nodes: Vec<_> = names.iter().collect();
        places.event(&Event::Opened {
            nodes: &nodes,
            quorum: 2,
        });
        let took = Duration::ZERO;
        places.begin(now());
        answered(&places, "a", 1_000_000);
        answered(&places, "b", 0);
        assert_eq!(
            stood(&places),
            [0; 0],
            "no quorum is known to have accepted it"
        );
        places.begin(now());
        answered(&places, "a", 0);
        attempted(&places);
        std::thread::sleep(Duration::from_millis(2));
        answered(&places, "b", 0);
        answered(&places, "c", 0);
        attempted(&places);
        places.event(&Event::InLine { took });
        assert_eq!(stood(&places), [1, 2], "the first ticket was replaced");
        places.begin(now());
        answered(&places, "a", 1_000_000);
        answered(&places, "b", 0);
        attempted(&places);
        places.event(&Event::InLine { took });
        std::thread::sleep(Duration::from_millis(2));
        answered(&places, "c", 0);
        assert_eq!(stood(&places), [1, 2], "an answer to the request before");
    }
}
