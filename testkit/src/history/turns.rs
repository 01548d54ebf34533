//! Judges the order of a line: who stood in it before another one asked, and was
//! overtaken all the same.
//!
//! A waiter is **overtaken** by another one's grant if it stood in line on a quorum
//! of nodes when the other first asked, has stood on some quorum at each moment
//! since, and on one and the same quorum throughout the attempt that won. Who went
//! away, lost its tickets or had its lock is not overtaken any more.
//!
//! Times need only be in order; no two things that matter to one another happen
//! at the same. Requests that don't stand in line have no place here: they may
//! overtake.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One request that stands in line, or tries to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Who asks; only shown.
    pub client: usize,
    /// For which lock.
    pub resource: usize,
    /// When it first asked.
    pub asked: u64,
    /// Where its present ticket stood, and when. A ticket that another one replaces
    /// ends everywhere at that moment.
    pub stood: Vec<Stood>,
    /// When it had the lock.
    pub won: Option<Turn>,
    /// When it stopped waiting, with the lock or without.
    pub ended: u64,
}

/// A ticket was in one node's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stood {
    /// On which node.
    pub node: usize,
    /// The first moment.
    pub from: u64,
    /// The first moment at which it was there no longer.
    pub until: u64,
}

/// The attempt that won.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When it began: nothing was granted before.
    pub began: u64,
    /// When it was told.
    pub won: u64,
}

impl Waiter {
    fn nodes_throughout(&self, from: u64, to: u64) -> usize {
        let throughout = |stood: &&Stood| stood.from <= from && stood.until > to;
        let nodes: BTreeSet<_> = self
            .stood
            .iter()
            .filter(throughout)
            .map(|s| s.node)
            .collect();
        nodes.len()
    }

    /// Whether it stood on some quorum at each moment from one to the other.
    fn is_queued_throughout(&self, from: u64, to: u64, quorum: usize) -> bool {
        // It can only cease to be one when a ticket goes.
        let ends = self.stood.iter().map(|stood| stood.until);
        let mut moments = ends.filter(|end| (from..=to).contains(end)).chain([from]);
        moments.all(|moment| self.nodes_throughout(moment, moment) >= quorum)
    }

    fn is_overtaken_by(&self, turn: Turn, asked: u64, quorum: usize) -> bool {
        self.is_queued_throughout(asked, turn.won, quorum)
            && self.nodes_throughout(turn.began, turn.won) >= quorum
    }
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            resource,
            asked,
            ..
        } = self;
        write!(f, "client {client} waits for r{resource} since {asked}")?;
        for Stood { node, from, until } in &self.stood {
            write!(f, ", on node {node} from {from}")?;
            if *until < u64::MAX {
                write!(f, " to {until}")?;
            }
        }
        if let Some(Turn { began, won }) = self.won {
            write!(f, ", wins from {began} to {won}")?;
        }
        Ok(())
    }
}

/// One that was overtaken, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overtaking {
    /// Who stood in line.
    pub waiter: Waiter,
    /// Who asked later, and won.
    pub winner: Waiter,
}

impl fmt::Display for Overtaking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "overtaken: {}; by {}", self.waiter, self.winner)
    }
}

/// What the order of the grants was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Grants to waiters.
    pub grants: u64,
    /// Those for which another one stood on a quorum as well, and one of the two had
    /// stood there when the other first asked: the order was theirs to break.
    pub contended: u64,
    /// Those that overtook somebody.
    pub inversions: u64,
    /// The first of them.
    pub first: Option<Overtaking>,
}

/// Compares each grant with everybody who waited at that time.
pub fn judge_order(waiters: &[Waiter], quorum: usize) -> Order {
    let mut by_resource: BTreeMap<usize, Vec<&Waiter>> = BTreeMap::new();
    for waiter in waiters {
        by_resource.entry(waiter.resource).or_default().push(waiter);
    }
    let mut order = Order::default();
    for mut waiters in by_resource.into_values() {
        waiters.sort_by_key(|waiter| waiter.asked);
        let mut winners: Vec<_> = waiters
            .iter()
            .filter_map(|waiter| Some((waiter.won?, *waiter)))
            .collect();
        winners.sort_by_key(|(turn, _)| turn.won);
        let mut asking = waiters.into_iter().peekable();
        let mut waiting: Vec<&Waiter> = Vec::new();
        for (turn, winner) in winners {
            while let Some(next) = asking.next_if(|next| next.asked < turn.won) {
                waiting.push(next);
            }
            waiting.retain(|waiter| waiter.ended > turn.won);
            let others = waiting.iter().copied();
            order.compare(turn, winner, others, quorum);
        }
    }
    order
}

impl Order {
    fn compare<'a>(
        &mut self,
        turn: Turn,
        winner: &Waiter,
        others: impl Iterator<Item = &'a Waiter>,
        quorum: usize,
    ) {
        let (mut follows, mut overtaken) = (false, None);
        for other in others.filter(|other| !std::ptr::eq(*other, winner)) {
            if other.asked > winner.asked {
                follows |= winner.is_queued_throughout(other.asked, turn.won, quorum)
                    && other.nodes_throughout(turn.won, turn.won) >= quorum;
            } else if other.is_overtaken_by(turn, winner.asked, quorum) {
                overtaken = overtaken.or(Some(other));
            }
        }
        self.grants += 1;
        self.contended += u64::from(follows || overtaken.is_some());
        if let Some(waiter) = overtaken {
            self.inversions += 1;
            self.first.get_or_insert_with(|| Overtaking {
                waiter: waiter.clone(),
                winner: winner.clone(),
            });
        }
    }
}
