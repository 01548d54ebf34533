//! What the nodes of one client know of one another.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Settings;
use crate::core::marker::ClusterInfo;
use crate::observer::Observer;

/// Shared by all nodes of one client: the cluster, and which server sits where.
pub(crate) struct Membership {
    count: usize,
    state: Mutex<State>,
}

struct State {
    cluster: Option<ClusterInfo>,
    runs: Vec<Option<String>>,
}

impl Membership {
    pub(crate) fn new(count: usize) -> Self {
        let state = State {
            cluster: None,
            runs: vec![None; count],
        };
        Self {
            count,
            state: Mutex::new(state),
        }
    }

    /// The place of one node, with what its task needs.
    pub(crate) fn seat(
        self: &Arc<Self>,
        index: usize,
        settings: &Settings,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Seat {
        Seat {
            index,
            node_timeout: settings.node_timeout,
            allow_eviction: settings.allow_eviction,
            clock,
            observer,
            membership: Arc::clone(self),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's place in a client.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(super) index: usize,
    pub(super) node_timeout: Duration,
    pub(super) allow_eviction: bool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
    membership: Arc<Membership>,
}

impl Seat {
    /// How many nodes the client was given.
    pub(super) fn configured_nodes(&self) -> usize {
        self.membership.count
    }

    /// The cluster, as far as any node has told it.
    pub(super) fn cluster(&self) -> Option<ClusterInfo> {
        self.membership.lock().cluster.clone()
    }

    /// A node of the cluster has told what it is. The first word counts.
    pub(super) fn learn(&self, cluster: &ClusterInfo) {
        self.membership
            .lock()
            .cluster
            .get_or_insert_with(|| cluster.clone());
    }

    /// The connection is gone, and may be made to another server.
    pub(super) fn leave(&self) {
        self.membership.lock().runs[self.index] = None;
    }

    /// Takes the server for this seat; or says which other seat has it.
    pub(super) fn claim(&self, run_id: &str) -> Result<(), usize> {
        let mut state = self.membership.lock();
        let taken = state
            .runs
            .iter()
            .position(|run| run.as_deref() == Some(run_id));
        match taken {
            Some(other) if other != self.index => Err(other),
            _ => {
                state.runs[self.index] = Some(run_id.to_owned());
                Ok(())
            }
        }
    }
}
