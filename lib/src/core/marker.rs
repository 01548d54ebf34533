//! The marker: what a node knows about the cluster it votes in.
//!
//! A node without a marker, or with one that another run of the server wrote,
//! may have forgotten what it granted; it may not vote until the longest lease
//! that it may have forgotten is over. Opening a new set of nodes goes through a
//! *prepared* marker on every node, so that no two openings, however they
//! interleave, can skip that wait on a node that had voted before.

use std::fmt;
use std::time::Duration;

use super::clocks::{Baseline, ClockRecord, ClockStep};
use super::safeguards::Safeguard;
use super::time::WallTime;

/// What all nodes and clients of one cluster agree upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// The cluster's random id.
    pub id: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// The longest lease that anybody may ask for.
    pub max_lease: Duration,
}

/// Whether a node has been opened for voting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A new set is being opened; the nonce is this node's in that opening.
    Prepared {
        /// Random, fresh with every preparation.
        nonce: String,
    },
    /// The node votes, from `voting_from` on.
    Active,
}

/// A node's marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The cluster.
    pub cluster: ClusterInfo,
    /// Prepared or active.
    pub phase: Phase,
    /// The server run that this marker is valid for.
    pub run_id: String,
    /// When the node may vote (again), by its own clock.
    pub voting_from: WallTime,
    /// A floor for every resource that has none of its own.
    pub floor_base: WallTime,
    /// The highest time that the node is known to have seen; lifted at most once a second.
    pub high_water: WallTime,
    /// Whether every write was on disk before it was answered.
    pub durable: bool,
    /// How the node's clock stands to those of the others.
    pub clock: ClockRecord,
    /// What set the last guard.
    pub cause: Option<Cause>,
}

/// Why a node was guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It had no marker: it is new, or lost everything.
    Lost,
    /// The server was restarted, and may have lost something.
    Restarted,
    /// Its clock fell clearly behind what it had shown itself.
    SteppedBack,
    /// Its clock jumped against those of the other nodes, by so many microseconds.
    Jumped {
        /// Forward if positive.
        by: i64,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => f.write_str("it had no marker: it is new, or lost its data"),
            Self::Restarted => f.write_str("the server was restarted"),
            Self::SteppedBack => f.write_str("its clock stepped back"),
            Self::Jumped { by } => {
                let sign = if *by < 0 { '-' } else { '+' };
                let millis = by.unsigned_abs() / 1_000;
                let (seconds, millis) = (millis / 1_000, millis % 1_000);
                write!(f, "its clock jumped by {sign}{seconds}.{millis:03} s")
            }
        }
    }
}

/// How long a floor outlives its token.
pub(crate) const FLOOR_RETENTION: Duration = Duration::from_hours(24);
/// Floors are kept this much longer than [`FLOOR_RETENTION`], more than the
/// high-water mark can lag behind, so that a floor that is gone is always
/// below what its absence counts as.
pub(crate) const FLOOR_SLACK: Duration = Duration::from_secs(2);
/// The high-water mark is lifted when it lags behind by this much.
pub(crate) const HIGH_WATER_STEP: Duration = Duration::from_secs(1);
/// A clock this far behind the high-water mark has stepped back.
pub(crate) const CLOCK_BEHIND: Duration = Duration::from_secs(2);

/// The shortest maximum lease a cluster can have.
pub const MIN_MAX_LEASE: Duration = Duration::from_millis(100);
/// The longest: floors are kept for a day, and tokens may lie this far ahead.
pub const MAX_MAX_LEASE: Duration = Duration::from_hours(12);
/// Five minutes, as long as the proxy lets a caller wait.
pub const DEFAULT_MAX_LEASE: Duration = Duration::from_mins(5);

/// A change of a node's marker, or a look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkerCommand {
    /// Look.
    Read,
    /// First half of opening a new set: write a prepared marker, unless there is
    /// an active one, or a prepared one of a cluster with a lower id, or another
    /// one than was seen.
    Prepare {
        /// The cluster.
        cluster: ClusterInfo,
        /// This node's nonce.
        nonce: String,
        /// The nonce of the prepared marker that was seen; `None` if there was no marker.
        over: Option<String>,
        /// Whether the node persists every write before it answers.
        durable: bool,
    },
    /// Second half: open a node for voting at once, if it is still prepared with this nonce.
    Activate {
        /// The nonce that was seen while no node of the set was active.
        nonce: String,
    },
    /// Take note of a loss: the node votes again when the longest lease that it
    /// may have forgotten is over.
    Guard {
        /// The cluster that the node belongs to.
        cluster: ClusterInfo,
        /// When the server started, by its own clock, rounded up; `None` if this is no restart.
        started: Option<WallTime>,
        /// Whether the node persists every write before it answers.
        durable: bool,
    },
    /// Note how the node's clock stands to those of the others, in this era of it.
    Clock {
        /// The era, as it was read.
        era: WallTime,
        /// The baseline from now on.
        baseline: Baseline,
        /// What happened.
        step: ClockStep,
    },
}

/// A node's clock and its marker, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerState {
    /// The node's clock.
    pub time: WallTime,
    /// The run of the server that answered.
    pub run_id: String,
    /// The marker.
    pub marker: Option<Marker>,
}

/// Why a node may not vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// There is no marker: a new node, or one that lost everything.
    Unmarked,
    /// The marker waits for the second half of an opening.
    Prepared,
    /// Another run of the server wrote the marker.
    Restarted,
    /// The clock is clearly behind what it has shown before.
    SteppedBack,
    /// The guard is longer than any lease: the clock was wild when it was set.
    WildGuard,
    /// The guard runs for this long still.
    Guarded(Duration),
}

impl Bar {
    /// Whether the marker must be judged anew before the node can ever vote.
    #[must_use]
    pub const fn wants_judgement(self) -> bool {
        !matches!(self, Self::Guarded(_) | Self::Prepared)
    }
}

/// Whether a node with this marker may vote at `now`; else why not.
#[must_use]
pub fn bar(marker: Option<&Marker>, run_id: &str, now: WallTime) -> Option<Bar> {
    let Some(marker) = marker else {
        return Some(Bar::Unmarked);
    };
    if marker.phase != Phase::Active {
        return Some(Bar::Prepared);
    }
    if marker.run_id != run_id {
        return Some(Bar::Restarted);
    }
    if now.plus(CLOCK_BEHIND) < marker.high_water {
        return Some(Bar::SteppedBack);
    }
    let latest = now.plus(marker.cluster.max_lease);
    if marker.voting_from > latest || marker.floor_base > latest {
        return Some(Bar::WildGuard);
    }
    (marker.voting_from > now).then(|| Bar::Guarded(marker.voting_from.saturating_since(now)))
}

/// What a marker command makes of a node's marker.
#[must_use]
pub(crate) fn apply(
    marker: Option<Marker>,
    run_id: &str,
    now: WallTime,
    command: MarkerCommand,
) -> Option<Marker> {
    match command {
        MarkerCommand::Read => marker,
        MarkerCommand::Prepare {
            cluster,
            nonce,
            over,
            durable,
        } => {
            // The lowest id wins, so that openings that meet agree upon one. But who
            // did not see what is there must look again: others may act on it already.
            let yields = match &marker {
                None => over.is_none(),
                Some(present) => match &present.phase {
                    Phase::Active => false,
                    Phase::Prepared { nonce } => {
                        over.as_ref() == Some(nonce)
                            && (present.cluster.id > cluster.id || present.run_id != run_id)
                    }
                },
            };
            if !yields {
                return marker;
            }
            Some(Marker {
                cluster,
                phase: Phase::Prepared { nonce },
                run_id: run_id.to_owned(),
                voting_from: now,
                floor_base: WallTime::default(),
                high_water: now,
                durable,
                clock: ClockRecord::default(),
                cause: None,
            })
        }
        MarkerCommand::Activate { nonce } => marker.map(|present| match present.phase {
            Phase::Prepared { nonce: ref own } if *own == nonce && present.run_id == run_id => {
                Marker {
                    phase: Phase::Active,
                    ..present
                }
            }
            _ => present,
        }),
        MarkerCommand::Guard {
            cluster,
            started,
            durable,
        } => Some(guarded(
            marker.as_ref(),
            run_id,
            now,
            cluster,
            started,
            durable,
        )),
        MarkerCommand::Clock {
            era,
            baseline,
            step,
        } => marker.map(|present| {
            if present.phase == Phase::Active && present.clock.era == era {
                noted(present, now, baseline, step)
            } else {
                present
            }
        }),
    }
}

fn noted(mut marker: Marker, now: WallTime, baseline: Baseline, step: ClockStep) -> Marker {
    // Of an era that the node began by itself nobody knows how the clock stood before
    // now: it may have been set ahead again, which ended the node's guard early.
    let unseen = marker.clock.era != WallTime::default() && marker.clock.baseline.is_none();
    if unseen && Safeguard::ClockGuard.is_on() {
        marker.voting_from = now.plus(marker.cluster.max_lease);
    }
    if step != ClockStep::Refresh {
        marker.clock = ClockRecord {
            era: now,
            ..ClockRecord::default()
        };
    }
    marker.clock.baseline = Some(baseline);
    marker.clock.first = marker.clock.first.or(Some(baseline));
    if let ClockStep::Jumped { by } = step {
        let from = now.plus(marker.cluster.max_lease);
        // Floors that went while the clock was ahead are gone; the rest is kept.
        if now.plus(CLOCK_BEHIND) < marker.high_water || marker.floor_base > from {
            marker.floor_base = from;
            marker.high_water = now;
        }
        marker.voting_from = from;
        marker.cause = Some(Cause::Jumped { by });
    }
    marker
}

fn guarded(
    marker: Option<&Marker>,
    run_id: &str,
    now: WallTime,
    cluster: ClusterInfo,
    started: Option<WallTime>,
    durable: bool,
) -> Marker {
    let why = bar(marker, run_id, now);
    let clock = marker.map_or_else(ClockRecord::default, |present| present.clock);
    let (cluster, loss, cause, clock) = match (marker, why) {
        (Some(present), None | Some(Bar::Guarded(_))) => {
            return Marker {
                durable,
                ..present.clone()
            };
        }
        (Some(present), Some(Bar::Restarted)) if present.durable && durable => {
            let run_id = run_id.to_owned();
            return Marker {
                run_id,
                ..present.clone()
            };
        }
        // What a restart lost it lost by then, but not before the node was last seen.
        (Some(present), Some(Bar::Restarted)) => {
            let loss = started.map_or(now, |started| started.max(present.high_water));
            (present.cluster.clone(), loss, Cause::Restarted, clock)
        }
        // Its baseline is none any more; the next look gives it one.
        (Some(present), Some(Bar::SteppedBack | Bar::WildGuard)) => {
            let clock = ClockRecord {
                era: now,
                ..ClockRecord::default()
            };
            (present.cluster.clone(), now, Cause::SteppedBack, clock)
        }
        // A marker can go long after the server's start (FLUSHALL), so the loss may
        // be as late as now. One that was only prepared says nothing of the cluster.
        (_, Some(Bar::Prepared | Bar::Unmarked)) | (None, _) => {
            (cluster, now, Cause::Lost, ClockRecord::default())
        }
    };
    // A later witness never prolongs a guard, and none is longer than any lease:
    // a voting-from beyond that comes from a clock that was wild.
    let longest = now.plus(cluster.max_lease);
    let wait = if Safeguard::RestartGuard.is_on() {
        cluster.max_lease
    } else {
        Duration::ZERO
    };
    let standing = marker.map_or(WallTime::default(), |present| present.voting_from);
    let from = loss.min(now).plus(wait).max(standing).min(longest);
    Marker {
        cluster,
        phase: Phase::Active,
        run_id: run_id.to_owned(),
        voting_from: from,
        floor_base: from,
        high_water: now,
        durable,
        clock,
        cause: Some(cause),
    }
}
