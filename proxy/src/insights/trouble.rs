//! What went wrong of late: a ring of the last events, for people who look.

use std::collections::VecDeque;

use serde::Serialize;

/// Older ones are forgotten.
const MAX_EVENTS: usize = 100;
/// What repeats within this many milliseconds is one event that is counted.
const SAME_WITHIN: u64 = 30_000;
/// So many events back a repetition is looked for.
const LOOK_BACK: usize = 8;

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trouble {
    /// When it was seen last: milliseconds since the Unix epoch, by this machine's clock.
    pub(crate) at: u64,
    pub(crate) kind: TroubleKind,
    /// What it is about: a node, an operation, a group of keys.
    pub(crate) about: String,
    /// In words.
    pub(crate) what: String,
    /// How often.
    pub(crate) times: u64,
}

/// What sort of event it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TroubleKind {
    /// A node is there again.
    NodeUp,
    /// A node is gone.
    NodeDown,
    /// A node waits before it votes.
    NodeGuarded,
    /// No quorum answered.
    Unavailable,
    /// A lock was released or extended after its lease was over.
    Lapsed,
    /// Somebody ended another's lock by hand.
    Forced,
}

#[derive(Debug, Default)]
pub(crate) struct Ring {
    events: VecDeque<Trouble>,
}

impl Ring {
    pub(super) fn add(&mut self, at: u64, kind: TroubleKind, about: String, what: String) {
        let recent = self.events.iter().rev().take(LOOK_BACK);
        let same = recent
            .enumerate()
            .find(|(_, last)| {
                last.kind == kind
                    && last.about == about
                    && last.what == what
                    && at.saturating_sub(last.at) < SAME_WITHIN
            })
            .map(|(back, _)| self.events.len() - 1 - back);
        let before = same.and_then(|place| self.events.remove(place));
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Trouble {
            at,
            kind,
            about,
            what,
            times: 1 + before.map_or(0, |before| before.times),
        });
    }

    /// The newest first.
    pub(super) fn newest(&self) -> Vec<Trouble> {
        self.events.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_what_repeats_is_counted() {
        let mut ring = Ring::default();
        for at in 0..1_000 {
            let about = format!("node {}", at / 10);
            ring.add(at, TroubleKind::NodeDown, about, "refused".to_owned());
        }
        let newest = ring.newest();
        assert_eq!(newest.len(), MAX_EVENTS);
        assert_eq!((newest[0].times, newest[0].at), (10, 999));
        ring.add(
            999 + SAME_WITHIN,
            TroubleKind::NodeDown,
            "node 99".into(),
            "refused".into(),
        );
        assert_eq!(ring.newest()[0].times, 1, "long after, it is another event");
    }
}
