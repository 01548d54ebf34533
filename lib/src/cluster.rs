//! The set of nodes as a whole: opening it, and looking at it.
//!
//! Opening a new set is two steps on every node. First each gets a *prepared*
//! marker with a nonce. Only what was seen is written over: an opening that saw
//! others takes the lowest cluster id among them, and proposes one of its own only
//! where it saw none. So once all nodes are prepared alike, nobody changes them.
//! Then, once two looks in a row have seen every node prepared for one cluster
//! under the same nonces and none active, each is activated by its nonce. At the
//! end of the first look all nodes were prepared at once and none had ever
//! voted, so none of them can have forgotten a grant; a node that loses its data
//! afterwards loses its nonce too. Where any node is active, a node that is not
//! has lost something, and waits like any other.

pub(crate) mod clocks;
mod status;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use status::NodeStatus;

use crate::clock::Clock;
use crate::core::admission::{mismatch, unfit};
use crate::core::marker::{
    ClusterInfo, MAX_MAX_LEASE, MIN_MAX_LEASE, Marker, MarkerCommand, MarkerState, Phase, bar,
};
use crate::core::quorum::{Fault, FaultKind, majority};
use crate::core::types::NodeId;
use crate::entropy::{Entropy, uuid_v7};
use crate::error::ConfigError;
use crate::node::Node;

/// How long another opening is given to finish before its rest counts as lost.
const OPENING_PATIENCE: Duration = Duration::from_secs(3);
const OPENING_PAUSE: Duration = Duration::from_millis(50);
/// How long a node is given for one step.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// The nodes of a cluster, for its operator.
pub struct Cluster {
    pub(crate) nodes: Vec<Arc<dyn Node>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    allow_eviction: bool,
}

/// What [`Cluster::init`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialised {
    /// The cluster.
    pub cluster: ClusterInfo,
    /// Whether this call opened the set; otherwise it was open.
    pub opened: bool,
    /// Nodes that wait before they vote, and for how long.
    pub guarded: Vec<(NodeId, Duration)>,
    /// Nodes that did not answer.
    pub away: Vec<(NodeId, Fault)>,
}

type Looks = Vec<Result<MarkerState, Fault>>;

impl Cluster {
    /// The cluster of these nodes.
    #[must_use]
    pub fn of(nodes: Vec<Arc<dyn Node>>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            nodes,
            clock,
            entropy,
            allow_eviction: false,
        }
    }

    /// Whether nodes may be set to evict keys, which may drop locks and floors.
    /// [`Cluster::init`] refuses them otherwise.
    #[must_use]
    pub const fn allow_eviction(mut self, allow: bool) -> Self {
        self.allow_eviction = allow;
        self
    }

    /// Opens a new set of nodes for voting, or finds it open; safe to run at
    /// every start of a deployment, by several at once, and again after a crash.
    ///
    /// In a set where any node is active, one without a marker waits its
    /// maximum lease. `max_lease` must agree with what an open set has; `None`
    /// takes that, or the default. Dropping the future leaves an opening half
    /// done, which the next call finishes.
    pub async fn init(&self, max_lease: Option<Duration>) -> Result<Initialised, ConfigError> {
        if self.nodes.is_empty() {
            return Err(ConfigError::NoNodes);
        }
        if let Some(max_lease) = max_lease.filter(|m| !(MIN_MAX_LEASE..=MAX_MAX_LEASE).contains(m))
        {
            let field = "maximum lease";
            return Err(ConfigError::bounds(
                field,
                max_lease,
                MIN_MAX_LEASE,
                MAX_MAX_LEASE,
            ));
        }
        self.refuse_unfit().await?;
        let done = self.open(max_lease).await?;
        self.note_clocks(done.cluster.max_lease).await;
        Ok(done)
    }

    async fn open(&self, max_lease: Option<Duration>) -> Result<Initialised, ConfigError> {
        let patience = self.clock.now() + OPENING_PATIENCE;
        let mut proposal = ClusterInfo {
            id: uuid_v7(&*self.entropy, self.clock.wall()).to_string(),
            nodes: self.nodes.len(),
            max_lease: max_lease.unwrap_or(crate::core::marker::DEFAULT_MAX_LEASE),
        };
        let mut ours: Option<Vec<String>> = None;
        loop {
            let looks = self.look().await;
            let active = self.active_cluster(&looks, max_lease)?;
            if let Some(cluster) = active {
                if self.all_open(&looks) || self.clock.now() >= patience {
                    return self.join(cluster, ours.is_some(), &looks).await;
                }
                // An opening is on its way, or stopped half way. Our own nonces
                // were seen twice, so activating them again is as safe as it was.
                if let Some(nonces) = &ours {
                    self.activate(nonces).await;
                }
                tokio::time::sleep(OPENING_PAUSE).await;
                continue;
            }
            self.all_answer(&looks)?;
            if let Some(nonces) = self.prepared_alike(&looks) {
                if self.prepared_alike(&self.look().await).as_ref() == Some(&nonces) {
                    self.activate(&nonces).await;
                    ours = Some(nonces);
                }
            } else {
                if let Some(lowest) = lowest_prepared(&looks) {
                    agree_on_lease(&lowest, max_lease)?;
                    proposal = lowest;
                }
                self.prepare(&proposal, &looks).await;
            }
            if self.clock.now() >= patience + OPENING_PATIENCE {
                return Err(ConfigError::CannotInitialise {
                    problem: "the nodes' markers keep changing: is another init running with \
                              other nodes?"
                        .into(),
                });
            }
        }
    }

    async fn look(&self) -> Looks {
        let all = self
            .nodes
            .iter()
            .map(|node| within(STEP_TIMEOUT, node.mark(MarkerCommand::Read)));
        futures_util::future::join_all(all).await
    }

    async fn refuse_unfit(&self) -> Result<(), ConfigError> {
        let all = self
            .nodes
            .iter()
            .map(|node| within(STEP_TIMEOUT, node.facts()));
        let facts = futures_util::future::join_all(all).await;
        let mut runs = HashSet::new();
        for (node, facts) in self.nodes.iter().zip(facts) {
            // Who does not answer shows at the first look.
            let Ok(facts) = facts else { continue };
            let problem = match unfit(&facts, self.allow_eviction) {
                Some(problem) => problem,
                None if runs.insert(facts.run_id) => continue,
                None => "it is the same server as a node listed before it".to_owned(),
            };
            let node = node.id().to_string();
            return Err(ConfigError::BadNode { node, problem });
        }
        Ok(())
    }

    /// The cluster that the active nodes belong to, if there are any.
    fn active_cluster(
        &self,
        looks: &Looks,
        max_lease: Option<Duration>,
    ) -> Result<Option<ClusterInfo>, ConfigError> {
        let mut known: Option<ClusterInfo> = None;
        for (node, look) in self.nodes.iter().zip(looks) {
            let Some(marker) = look.as_ref().ok().and_then(|state| state.marker.as_ref()) else {
                continue;
            };
            if marker.phase != Phase::Active {
                continue;
            }
            if let Some(problem) = mismatch(&marker.cluster, known.as_ref(), self.nodes.len()) {
                return Err(ConfigError::BadNode {
                    node: node.id().to_string(),
                    problem,
                });
            }
            agree_on_lease(&marker.cluster, max_lease)?;
            known = Some(marker.cluster.clone());
        }
        Ok(known)
    }

    /// Whether every node that answers is active.
    #[allow(clippy::unused_self, reason = "reads as a question to the cluster")]
    fn all_open(&self, looks: &Looks) -> bool {
        looks.iter().flatten().all(|state| {
            state
                .marker
                .as_ref()
                .is_some_and(|marker| marker.phase == Phase::Active)
        })
    }

    /// A new set may only be opened while all of it can be seen.
    fn all_answer(&self, looks: &Looks) -> Result<(), ConfigError> {
        for (node, look) in self.nodes.iter().zip(looks) {
            if let Err(fault) = look {
                let id = node.id();
                return Err(ConfigError::CannotInitialise {
                    problem: format!("node {id} does not answer: {fault}"),
                });
            }
        }
        Ok(())
    }

    /// The nonces of all nodes, if all are prepared for one cluster in their present run.
    #[allow(clippy::unused_self, reason = "reads as a question to the cluster")]
    fn prepared_alike(&self, looks: &Looks) -> Option<Vec<String>> {
        let mut nonces = Vec::new();
        let mut cluster: Option<&ClusterInfo> = None;
        for look in looks {
            let state = look.as_ref().ok()?;
            let marker = state
                .marker
                .as_ref()
                .filter(|marker| marker.run_id == state.run_id)?;
            let Phase::Prepared { nonce } = &marker.phase else {
                return None;
            };
            if cluster.get_or_insert(&marker.cluster) != &&marker.cluster {
                return None;
            }
            nonces.push(nonce.clone());
        }
        Some(nonces)
    }

    async fn prepare(&self, cluster: &ClusterInfo, looks: &Looks) {
        let all = self.nodes.iter().zip(looks).map(|(node, look)| async move {
            let facts = within(STEP_TIMEOUT, node.facts()).await?;
            let command = MarkerCommand::Prepare {
                cluster: cluster.clone(),
                nonce: format!("{:016x}", self.entropy.bits()),
                over: look.as_ref().ok().and_then(seen_nonce),
                durable: facts.survives_restart(),
            };
            within(STEP_TIMEOUT, node.mark(command)).await
        });
        // What failed shows at the next look.
        futures_util::future::join_all(all).await;
    }

    async fn activate(&self, nonces: &[String]) {
        let all = self.nodes.iter().zip(nonces).map(|(node, nonce)| {
            let command = MarkerCommand::Activate {
                nonce: nonce.clone(),
            };
            within(STEP_TIMEOUT, node.mark(command))
        });
        futures_util::future::join_all(all).await;
    }

    /// Notes what the nodes that are not active may have lost, and reports.
    async fn join(
        &self,
        cluster: ClusterInfo,
        opened: bool,
        looks: &Looks,
    ) -> Result<Initialised, ConfigError> {
        let mut done = Initialised {
            cluster,
            opened,
            guarded: Vec::new(),
            away: Vec::new(),
        };
        for (node, look) in self.nodes.iter().zip(looks) {
            let noted = match look {
                Ok(state) => match bar(state.marker.as_ref(), &state.run_id, state.time) {
                    Some(why) if !matches!(why, crate::core::marker::Bar::Guarded(_)) => {
                        self.note_loss(&**node, &done.cluster).await
                    }
                    _ => Ok(state.clone()),
                },
                Err(fault) => Err(fault.clone()),
            };
            match noted {
                Ok(state) => {
                    let from = state
                        .marker
                        .as_ref()
                        .map(|marker: &Marker| marker.voting_from);
                    let left =
                        from.map_or(Duration::ZERO, |from| from.saturating_since(state.time));
                    if !left.is_zero() {
                        done.guarded.push((node.id().clone(), left));
                    }
                }
                Err(fault) => done.away.push((node.id().clone(), fault)),
            }
        }
        if done.away.len() > self.nodes.len() - majority(self.nodes.len()) {
            let (node, fault) = &done.away[0];
            let problem = format!("no quorum of nodes answers, {node} for one: {fault}");
            return Err(ConfigError::CannotInitialise { problem });
        }
        Ok(done)
    }

    async fn note_loss(
        &self,
        node: &dyn Node,
        cluster: &ClusterInfo,
    ) -> Result<MarkerState, Fault> {
        within(STEP_TIMEOUT, async {
            let facts = node.facts().await?;
            let now = node.mark(MarkerCommand::Read).await?.time;
            let started = facts.started(now);
            let durable = facts.survives_restart();
            node.mark(MarkerCommand::Guard {
                cluster: cluster.clone(),
                started,
                durable,
            })
            .await
        })
        .await
    }
}

/// The nonce of the prepared marker that was seen.
fn seen_nonce(state: &MarkerState) -> Option<String> {
    match &state.marker.as_ref()?.phase {
        Phase::Prepared { nonce } => Some(nonce.clone()),
        Phase::Active => None,
    }
}

fn lowest_prepared(looks: &Looks) -> Option<ClusterInfo> {
    looks
        .iter()
        .flatten()
        .filter_map(|state| state.marker.as_ref())
        .filter(|marker| marker.phase != Phase::Active)
        .map(|marker| marker.cluster.clone())
        .min_by(|a, b| a.id.cmp(&b.id))
}

fn agree_on_lease(cluster: &ClusterInfo, wanted: Option<Duration>) -> Result<(), ConfigError> {
    match wanted {
        Some(wanted) if wanted != cluster.max_lease => Err(ConfigError::OutOfBounds {
            field: "maximum lease",
            value: format!("{} ms", wanted.as_millis()),
            bounds: format!("{} ms, as this cluster has", cluster.max_lease.as_millis()),
        }),
        _ => Ok(()),
    }
}

pub(crate) async fn within<T>(
    time: Duration,
    step: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(time, step).await {
        Ok(done) => done,
        Err(_) => Err(Fault::unknown(FaultKind::Timeout, "")),
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}
