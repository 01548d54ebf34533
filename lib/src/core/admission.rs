//! Whether a server may serve as a node of this cluster.
//!
//! Judged at every fresh connection from what the server says of itself and
//! from its marker. What is wrong for good refuses; what may have been lost
//! guards; a warning leaves the choice to the operator.

use std::time::Duration;

use super::marker::{Bar, ClusterInfo, MarkerState, bar};
use super::time::WallTime;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// The random id of this run of the server.
    pub run_id: String,
    /// The server's version.
    pub version: String,
    /// `redis`, `valkey` or the like.
    pub product: String,
    /// Whether it replicates another server.
    pub replica: bool,
    /// Whether it runs in cluster mode.
    pub cluster_mode: bool,
    /// How long it has run, in whole seconds, rounded down.
    pub uptime_secs: u64,
    /// The eviction policy, if it may be asked for.
    pub eviction: Option<String>,
    /// Whether each write is on disk before it is answered; `None` if that can't be asked.
    pub durable: Option<bool>,
    /// How many replicas follow it.
    pub replicas: u64,
    /// Whether it was a replica once, in this run or before.
    pub promoted: bool,
}

impl ServerFacts {
    /// Whether a restart of this server loses nothing that it has answered.
    #[must_use]
    pub fn survives_restart(&self) -> bool {
        self.durable == Some(true) && !self.promoted
    }

    /// When the server started at the latest, by its own clock, which says `now`:
    /// what it lost with a restart it lost by then. `None` for a server that was
    /// a replica, whose data may have become old at any time.
    #[must_use]
    pub fn started(&self, now: WallTime) -> Option<WallTime> {
        // Both ends of the uptime are whole seconds, so it may be one too long.
        let at_least = Duration::from_secs(self.uptime_secs.saturating_sub(1));
        (!self.promoted).then(|| now.minus(at_least))
    }

    /// The policy by which this server may drop locks and floors when its memory
    /// is full. Every policy but `noeviction` may: all these keys have an expiry.
    #[must_use]
    pub fn evicts(&self) -> Option<&str> {
        self.eviction
            .as_deref()
            .filter(|policy| *policy != "noeviction")
    }

    /// What an operator should know, though it stops nothing.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match (self.evicts(), &self.eviction) {
            (Some(policy), _) => warnings.push(dropping(policy)),
            (None, None) => {
                warnings.push("maxmemory-policy can't be read: see that it is noeviction".into());
            }
            (None, Some(_)) => {}
        }
        match self.durable {
            Some(true) => {}
            Some(false) => warnings.push(
                "not every write is fsynced: after a restart this node waits for the cluster's \
                 maximum lease before it votes"
                    .into(),
            ),
            None => warnings.push("persistence can't be read: a restart counts as a loss".into()),
        }
        if self.replicas > 0 {
            warnings.push(format!(
                "{} replica(s) follow this node: a fail-over counts as a loss",
                self.replicas
            ));
        }
        warnings
    }
}

/// The judgement on a fresh connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The node serves; its own scripts know whether it votes already.
    Serve(ClusterInfo),
    /// The node serves after its loss has been noted in its marker.
    Guard(ClusterInfo),
    /// The node has no marker, and no cluster is known that it could belong to.
    Uninitialised,
    /// The server can't be a node of this cluster.
    Refuse(String),
}

fn dropping(policy: &str) -> String {
    format!("maxmemory-policy is {policy}, which may drop locks and floors: set noeviction")
}

/// What keeps a server from being a node of this client, whatever its marker.
///
/// Eviction is judged whether or not the server has a bound on its memory now:
/// one may be set at any time, and the first keys are gone before that is seen.
#[must_use]
pub(crate) fn unfit(facts: &ServerFacts, allow_eviction: bool) -> Option<String> {
    let evicts = || {
        let policy = facts.evicts().filter(|_| !allow_eviction)?;
        Some(format!("{}, or allow eviction", dropping(policy)))
    };
    unusable(facts).map(ToOwned::to_owned).or_else(evicts)
}

/// What keeps a server from being a node of any cluster, whatever its marker.
#[must_use]
const fn unusable(facts: &ServerFacts) -> Option<&'static str> {
    if facts.run_id.is_empty() {
        Some("it does not tell its run id")
    } else if facts.replica {
        Some("it is a replica: a node must be a server of its own")
    } else if facts.cluster_mode {
        Some("it runs in cluster mode: a node must be a server of its own")
    } else {
        None
    }
}

/// Judges a server against the cluster that the other nodes named, if any, and
/// the number of nodes that this client was given.
#[must_use]
pub fn judge(
    facts: &ServerFacts,
    state: &MarkerState,
    known: Option<&ClusterInfo>,
    configured_nodes: usize,
) -> Admission {
    if let Some(problem) = unusable(facts) {
        return Admission::Refuse(problem.to_owned());
    }
    let Some(marker) = &state.marker else {
        return known.map_or(Admission::Uninitialised, |info| {
            Admission::Guard(info.clone())
        });
    };
    if let Some(problem) = mismatch(&marker.cluster, known, configured_nodes) {
        return Admission::Refuse(problem);
    }
    let info = marker.cluster.clone();
    match bar(Some(marker), &state.run_id, state.time) {
        Some(why) if why.wants_judgement() => Admission::Guard(info),
        // Half opened: `init` finishes that, or notes that it can't be finished.
        Some(Bar::Prepared) => Admission::Uninitialised,
        _ if marker.durable != facts.survives_restart() => Admission::Guard(info),
        _ => Admission::Serve(info),
    }
}

/// What keeps a node marked for `cluster` from being one of ours.
#[must_use]
pub(crate) fn mismatch(
    cluster: &ClusterInfo,
    known: Option<&ClusterInfo>,
    configured_nodes: usize,
) -> Option<String> {
    if let Some(known) = known.filter(|known| known.id != cluster.id) {
        return Some(format!(
            "it belongs to cluster {}, the other nodes to {}",
            cluster.id, known.id
        ));
    }
    if let Some(known) = known.filter(|known| known.max_lease != cluster.max_lease) {
        return Some(format!(
            "its maximum lease is {} ms, that of the other nodes {} ms",
            cluster.max_lease.as_millis(),
            known.max_lease.as_millis()
        ));
    }
    (cluster.nodes != configured_nodes).then(|| {
        format!(
            "its cluster has {} nodes, but {configured_nodes} are configured: every client must \
             be given all nodes of the cluster",
            cluster.nodes
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(eviction: Option<&str>) -> ServerFacts {
        ServerFacts {
            run_id: "run".into(),
            eviction: eviction.map(Into::into),
            ..ServerFacts::default()
        }
    }

    #[test]
    fn every_policy_that_may_drop_keys_with_an_expiry_is_unfit_unless_allowed() {
        for policy in [
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "allkeys-lrm",
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
        ] {
            let facts = facts(Some(policy));
            let problem = unfit(&facts, false).unwrap();
            assert!(problem.contains(policy) && problem.contains("noeviction"));
            assert_eq!(unfit(&facts, true), None);
            assert!(facts.warnings()[0].contains(policy), "allowed, but told");
        }
        assert_eq!(unfit(&facts(Some("noeviction")), false), None);
        // Where it can't be asked for, the operator is told to look.
        assert_eq!(unfit(&facts(None), false), None);
        assert!(facts(None).warnings()[0].contains("noeviction"));
    }

    #[test]
    fn what_is_unusable_stays_so_when_eviction_is_allowed() {
        let replica = ServerFacts {
            replica: true,
            ..facts(Some("allkeys-lru"))
        };
        assert!(unfit(&replica, true).unwrap().contains("replica"));
    }
}
