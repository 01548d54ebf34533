//! Judges the order of the strict lines: P5 of docs/protocol.md, on what clients knew.
//!
//! A place on a node that may have forgotten it counts no longer from the moment at which that
//! could happen; on the other nodes it counts on. So a waiter that stands on a quorum besides is
//! judged, whatever was forgotten elsewhere.

use everlock_testkit::history::{Order, Stood, Turn, Waiter, judge_order};

use crate::nemesis::Loss;
use crate::record::Waited;

/// How many nodes decide.
const QUORUM: usize = crate::world::NODES / 2 + 1;

pub(crate) fn judge(waited: &[Waited], losses: &[Loss]) -> Order {
    let waiters: Vec<_> = waited.iter().map(|of| waiter(of, losses)).collect();
    judge_order(&waiters, QUORUM)
}

fn waiter(waited: &Waited, losses: &[Loss]) -> Waiter {
    let stood = waited.stood.iter().filter_map(|stay| {
        let mut until = stay.until;
        for loss in losses.iter().filter(|loss| loss.node == stay.node) {
            // It was sent after the request was made, and may have arrived at any time since.
            if loss.from <= stay.from && loss.until >= waited.asked {
                return None;
            }
            if loss.from > stay.from {
                until = until.min(loss.from);
            }
        }
        Some(Stood {
            node: stay.node,
            from: stay.from,
            until,
        })
    });
    Waiter {
        client: waited.client,
        resource: waited.resource,
        asked: waited.asked,
        stood: stood.collect(),
        // When the attempt began that won, the client does not know: not before it asked.
        won: waited.won.then_some(Turn {
            began: waited.asked,
            won: waited.ended,
        }),
        ended: waited.ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Stay;

    fn waited(asked: u64, ended: u64, won: bool, nodes: &[usize]) -> Waited {
        let stay = |node: &usize| Stay {
            node: *node,
            from: asked + 5,
            until: asked + 1_000,
        };
        Waited {
            client: 0,
            resource: 0,
            asked,
            ended,
            won,
            stood: nodes.iter().map(stay).collect(),
        }
    }

    fn loss(node: usize, from: u64, until: u64) -> Loss {
        Loss { node, from, until }
    }

    #[test]
    fn who_stood_on_a_quorum_that_forgot_nothing_must_not_be_overtaken() {
        let early = waited(100, 400, true, &[0, 1, 2, 3]);
        let late = waited(200, 300, true, &[1, 2, 3, 4]);
        let all = [early, late];
        let inversions = |losses: &[Loss]| judge(&all, losses).inversions;
        assert_eq!(inversions(&[]), 1);
        assert_eq!(
            inversions(&[loss(0, 150, 250)]),
            1,
            "on the others it stood"
        );
        assert_eq!(inversions(&[loss(0, 150, 250), loss(3, 250, 260)]), 0);
        assert_eq!(inversions(&[loss(0, 150, 250), loss(3, 90, 101)]), 0);
        let before_and_after = [loss(0, 10, 99), loss(1, 10, 99), loss(2, 301, 400)];
        assert_eq!(inversions(&before_and_after), 1);
        assert_eq!(
            inversions(&[loss(4, 150, 250)]),
            1,
            "where it did not stand"
        );
        let in_order = [waited(100, 250, true, &[0, 1, 2]), all[1].clone()];
        assert_eq!(judge(&in_order, &[]).inversions, 0);
    }
}
