//! Who injects the faults, and sees to it that a minority stays a minority.
//!
//! Two seats hurt nodes, one at a time each, a third one clients and proxies. A seat leaves its
//! node only when the node votes again: one that has lost its data is out of the count until the
//! longest lease is over, and so is one whose clock went wrong.

mod kinds;
mod nodes;
mod processes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::Vote;
use futures_util::future::join;
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::now;
use crate::world::{NODES, PERSISTENCE, Wishes, World};
pub(crate) use kinds::{Kind, MajorityKind, ProcessKind};

/// Fewer than half of the nodes.
const NODE_SEATS: usize = 2;

/// A node that has not voted for so long does not come back: the run fails by its own report.
const BACK_WITHIN: Duration = Duration::from_mins(1);

/// A node may have forgotten who stands in its lines at any time from one moment to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) node: usize,
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// What was done, and when.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) entries: Vec<(u64, String)>,
    /// How often each kind was injected.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// When each node may have forgotten who stands in its lines.
    pub(crate) losses: Vec<Loss>,
    /// Nodes that did not vote again in time.
    pub(crate) missing: Vec<String>,
}

pub(crate) struct Nemesis {
    world: Arc<World>,
    seed: u64,
    majority: bool,
    journal: Mutex<Journal>,
    /// The nodes that some seat is at.
    taken: Mutex<[bool; NODES]>,
}

impl Nemesis {
    pub(crate) fn new(world: Arc<World>, seed: u64, wishes: &Wishes) -> Self {
        Self {
            world,
            seed,
            majority: wishes.majority,
            journal: Mutex::default(),
            taken: Mutex::default(),
        }
    }

    pub(crate) fn journal(&self) -> Journal {
        self.journal.lock().unwrap().clone()
    }

    /// Injects faults for this long, and leaves everything healed.
    pub(crate) async fn rage(&self, time: Duration) {
        let until = now() + u64::try_from(time.as_micros()).unwrap();
        let processes = self.hurt_processes(Dice::new(self.seed), until);
        if self.majority {
            join(
                processes,
                self.hurt_majorities(Dice::new(self.seed + 1), until),
            )
            .await;
        } else {
            let seats = (1..=NODE_SEATS as u64)
                .map(|seat| self.hurt_nodes(Dice::new(self.seed + seat), until));
            join(processes, futures_util::future::join_all(seats)).await;
        }
    }

    async fn hurt_nodes(&self, dice: Dice, until: u64) {
        while now() < until {
            let kind = Kind::pick(&dice);
            let Some(node) = self.take(&dice, kind) else {
                // The other seat is at the only nodes that this concerns.
                sleep(Duration::from_millis(1)).await;
                continue;
            };
            self.begin(kind.name(), format!("node {node}: {kind}"));
            let from = now();
            self.hurt(node, kind, &dice).await;
            self.until_back(node).await;
            if kind.may_lose_tickets() {
                let until = now();
                let loss = Loss { node, from, until };
                self.journal.lock().unwrap().losses.push(loss);
            }
            self.note(format!("node {node}: votes again after {kind}"));
            self.taken.lock().unwrap()[node] = false;
            sleep(dice.millis(0, 40)).await;
        }
    }

    async fn hurt_majorities(&self, dice: Dice, until: u64) {
        while now() < until {
            let kind = MajorityKind::pick(&dice);
            // Three to five nodes, any of them.
            let mut nodes: Vec<_> = (0..NODES).collect();
            for _ in 0..dice.below(3) {
                nodes.remove(dice.index(nodes.len()));
            }
            self.begin(kind.name(), format!("nodes {nodes:?}: {kind}"));
            self.hurt_many(&nodes, kind, &dice).await;
            sleep(dice.millis(0, 2_000)).await;
        }
        for node in 0..NODES {
            self.until_back(node).await;
        }
    }

    async fn hurt_processes(&self, dice: Dice, until: u64) {
        while now() < until {
            let kind = ProcessKind::pick(&dice);
            self.begin(kind.name(), kind.to_string());
            self.hurt_process(kind, &dice).await;
            sleep(dice.millis(0, 300)).await;
        }
    }

    /// A node of those that this kind concerns.
    fn take(&self, dice: &Dice, kind: Kind) -> Option<usize> {
        let mut taken = self.taken.lock().unwrap();
        let free = (0..NODES).filter(|node| !taken[*node] && kind.concerns(PERSISTENCE[*node]));
        let free: Vec<_> = free.collect();
        let node = (!free.is_empty()).then(|| free[dice.index(free.len())])?;
        taken[node] = true;
        Some(node)
    }

    async fn until_back(&self, node: usize) {
        let votes = async {
            loop {
                let readiness = self.world.onlooker.readiness().await;
                if readiness.nodes[node].1 == Vote::Pong {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(BACK_WITHIN, votes).await.is_err() {
            let readiness = self.world.onlooker.readiness().await;
            let mut journal = self.journal.lock().unwrap();
            let of_node = format!("node {node}: ");
            let last = journal.entries.iter().rev();
            let last = last.filter(|(_, what)| what.starts_with(&of_node));
            let last: Vec<_> = last.take(5).cloned().collect();
            let missing = format!("{of_node}{:?} after {last:?}", readiness.nodes[node].1);
            journal.missing.push(missing);
        }
    }

    fn begin(&self, kind: &'static str, what: String) {
        let mut journal = self.journal.lock().unwrap();
        *journal.counts.entry(kind).or_default() += 1;
        journal.entries.push((now(), what));
    }

    fn note(&self, what: String) {
        self.journal.lock().unwrap().entries.push((now(), what));
    }
}

/// Runs what blocks, such as the start of a server, beside the runtime.
async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}
