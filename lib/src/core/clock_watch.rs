//! What a look at all nodes' clocks and markers says, and what the nodes are to be told.
//!
//! Every client looks now and then. Baselines are in the markers, so that all
//! clients, also those that come later, go by the same ones; a client only keeps
//! what it has read. Where a quorum of clocks agrees, a node that belongs to no
//! such group *has jumped*, and is told so; the others' baselines follow their
//! drift. Where none agrees nobody can say who jumped: nothing counts until the
//! longest lease is over, and then the clocks are taken as they stand.

use std::time::Duration;

use super::clocks::{Agreement, Baseline, Baselines, ClockRecord, ClockStep, Span};
use super::marker::{MarkerState, Phase};
use super::time::{Moment, WallTime, micros};

/// Baselines are noted anew when that makes them this much more certain: with
/// drift allowed for at a hundredth, after five seconds at the earliest. Steps too
/// small to be told from noise are not to add up.
const WORTH_NOTING: Duration = Duration::from_millis(50);

/// A reference that is wrong by no more than this parts nobody's baselines.
const PRECISE: Duration = Duration::from_millis(10);

/// A node's clock and what its marker says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    offset: Span,
    time: WallTime,
    /// `None` for a node that belongs to no cluster (yet).
    record: Option<ClockRecord>,
}

impl Sighting {
    /// How far the clock is ahead of this client's, in microseconds.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        self.offset.middle()
    }

    /// Of a marker that was asked for and received at these moments.
    #[must_use]
    pub fn of(state: &MarkerState, sent: Moment, received: Moment) -> Self {
        let marker = state.marker.as_ref();
        Self {
            offset: Span::measured(state.time, sent, received),
            time: state.time,
            record: marker
                .filter(|marker| marker.phase == Phase::Active)
                .map(|marker| marker.clock),
        }
    }
}

/// What a node's marker is to be told of its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Which of the clock's eras this is about; another one's marker disregards it.
    pub era: WallTime,
    /// The baseline from now on.
    pub baseline: Baseline,
    /// Why.
    pub step: ClockStep,
}

/// What one client knows of its nodes' clocks.
#[derive(Clone, Debug)]
pub struct ClockWatch {
    known: Vec<Option<Baseline>>,
    quorum: usize,
    /// Since when no quorum of clocks has agreed.
    astray_since: Option<Moment>,
}

/// The group of nodes by which the others are judged.
struct Reference {
    /// How far its clocks have shifted from the baselines together.
    shift: i64,
    /// Give or take so much.
    width: u64,
}

impl ClockWatch {
    /// Of so many nodes, of which nothing is known.
    #[must_use]
    pub fn new(nodes: usize, quorum: usize) -> Self {
        Self {
            known: vec![None; nodes],
            quorum,
            astray_since: None,
        }
    }

    /// The baselines to judge votes by.
    #[must_use]
    pub fn baselines(&self) -> Baselines {
        Baselines::of(self.known.clone())
    }

    /// Whether no quorum of clocks stands as it did, so that no quorum of votes counts.
    #[must_use]
    pub const fn is_astray(&self) -> bool {
        self.astray_since.is_some()
    }

    /// Whether votes of some node would not count, since nothing is known of its clock.
    #[must_use]
    pub fn lacks_any(&self) -> bool {
        self.known.iter().any(Option::is_none)
    }

    /// Whether something is known of the clocks of all these nodes.
    #[must_use]
    pub fn knows_all(&self, of: &[bool]) -> bool {
        let mut asked = self.known.iter().zip(of).filter(|(_, asked)| **asked);
        asked.all(|(known, _)| known.is_some())
    }

    /// Takes over what a node's marker says.
    pub fn learn(&mut self, node: usize, record: &ClockRecord) {
        if let Some(known) = self.known.get_mut(node)
            // A marker that was lost knows less than we do.
            && (record.baseline.is_some() || record.era != WallTime::default())
        {
            *known = record.baseline;
        }
    }

    /// Takes a look at all nodes, which ended at `now`: what each is to be told.
    pub fn look(
        &mut self,
        seen: &[Option<Sighting>],
        max_lease: Duration,
        now: Moment,
    ) -> Vec<Option<Telling>> {
        for (node, sighting) in seen.iter().enumerate() {
            if let Some(record) = sighting.as_ref().and_then(|seen| seen.record.as_ref()) {
                self.learn(node, record);
            }
        }
        let nothing = vec![None; seen.len()];
        let shifts: Vec<_> = seen
            .iter()
            .zip(&self.known)
            .map(|(seen, known)| {
                let (seen, known) = (seen.as_ref()?, known.as_ref()?);
                Some(known.shift(seen.offset, seen.time))
            })
            .collect();
        let judged = shifts.iter().flatten().count();
        let agreed = Agreement::among(shifts.iter().flatten().copied());
        let members = self.members(seen, |node| {
            shifts[node].is_some_and(|shift| agreed.includes(shift))
        });
        if judged >= self.quorum && agreed.count < self.quorum {
            let since = *self.astray_since.get_or_insert(now);
            if now.saturating_since(since) <= max_lease {
                return nothing;
            }
            // Whatever was granted before is over. Those that agree stay as they are.
            let tellings = self
                .reference(&members)
                .map_or(nothing, |by| anew(seen, by.shift, ClockStep::Rebase));
            self.known = vec![None; self.known.len()];
            return tellings;
        }
        if judged >= self.quorum {
            self.astray_since = None;
        }
        let Some(reference) = self.reference(&members) else {
            return self.as_they_stand(seen);
        };
        let apart = |shift: &Span| {
            let in_a_quorum = |point: i64| {
                let with = shifts.iter().flatten().filter(|span| span.has(point));
                shift.has(point) && with.count() >= self.quorum
            };
            let mut starts = shifts.iter().flatten().map(|span| span.start());
            judged >= self.quorum && !starts.any(in_a_quorum)
        };
        let renewed = self.renewed(&members);
        let tell = |node: usize| {
            let sighting = seen[node].as_ref()?;
            let record = sighting.record.as_ref()?;
            let baseline = reference.baseline(sighting);
            let telling = |baseline, step| Telling {
                era: record.era,
                baseline,
                step,
            };
            match (&self.known[node], &shifts[node]) {
                (Some(known), Some(shift)) if apart(shift) => {
                    let by = baseline.offset.saturating_sub(known.offset);
                    Some(telling(baseline, ClockStep::Jumped { by }))
                }
                (Some(known), Some(shift)) if agreed.includes(*shift) => {
                    let renewed = renewed.as_ref().filter(|(nodes, _)| nodes.contains(&node));
                    let renewed = renewed.map(|(_, reference)| reference.baseline(sighting));
                    // A marker that was lost is reminded.
                    let kept = record.baseline.is_none().then_some(*known);
                    Some(telling(renewed.or(kept)?, ClockStep::Refresh))
                }
                (None, _) => Some(telling(baseline, ClockStep::Refresh)),
                _ => None,
            }
        };
        (0..seen.len()).map(tell).collect()
    }

    /// What was seen of these nodes, the most certain first.
    fn members(&self, seen: &[Option<Sighting>], is: impl Fn(usize) -> bool) -> Vec<Member> {
        let members = (0..seen.len()).filter(|node| is(*node)).filter_map(|node| {
            let (sighting, known) = (seen[node].as_ref()?, self.known[node].as_ref()?);
            let width = sighting.offset.half_width();
            Some(Member {
                uncertainty: known.uncertainty(sighting.time),
                width,
                baseline_width: known.width,
                shift: sighting.offset.middle().saturating_sub(known.offset),
                node,
            })
        });
        let mut members: Vec<_> = members.collect();
        members.sort_by_key(|member| member.uncertainty.saturating_add(member.width));
        members
    }

    /// By how much clocks that agree have shifted: the median of a quorum, or of
    /// what there is, and wide enough to be true of each of them.
    fn reference(&self, of: &[Member]) -> Option<Reference> {
        let mut of: Vec<_> = of.iter().take(self.quorum).collect();
        of.sort_unstable_by_key(|member| member.shift);
        let shift = of.get(of.len().checked_sub(1)? / 2)?.shift;
        let off = |of: &&Member| {
            let apart = of.shift.abs_diff(shift);
            apart
                .saturating_add(of.width)
                .saturating_add(of.baseline_width)
        };
        let width = of.iter().map(off).max()?;
        Some(Reference { shift, width })
    }

    /// The nodes whose baselines are worth noting anew, and against what.
    ///
    /// Where a quorum of clocks is known precisely, each node by itself. Else all
    /// together, from this look alone: the error of a common reference is large
    /// then, and must part none of them from another.
    fn renewed(&self, members: &[Member]) -> Option<(Vec<usize>, Reference)> {
        let gains = |known: u64, new: u64| known.saturating_sub(new) >= micros(WORTH_NOTING);
        let reference = self.reference(members)?;
        let shift = reference.shift;
        let nodes: Vec<_> = if members.len() >= self.quorum && reference.width <= micros(PRECISE) {
            let better = |member: &&Member| gains(member.uncertainty, member.width);
            members
                .iter()
                .filter(better)
                .map(|member| member.node)
                .collect()
        } else {
            let worst = members.iter().map(|member| member.uncertainty).max()?;
            let new = members.iter().map(|member| member.width).max()?;
            if members.len() < self.known.len() || !gains(worst, new) {
                return None;
            }
            members.iter().map(|member| member.node).collect()
        };
        Some((nodes, Reference { shift, width: 0 }))
    }

    /// Baselines for nodes of which none has any: against their median.
    fn as_they_stand(&self, seen: &[Option<Sighting>]) -> Vec<Option<Telling>> {
        let offsets = seen.iter().flatten();
        let mut offsets: Vec<_> = offsets.map(|seen| seen.offset.middle()).collect();
        offsets.sort_unstable();
        if offsets.len() < self.quorum {
            return vec![None; seen.len()];
        }
        anew(seen, offsets[(offsets.len() - 1) / 2], ClockStep::Refresh)
    }
}

/// Baselines for all nodes that were seen, from one look: an error in `shift` is
/// common to all of them, and parts none from another.
fn anew(seen: &[Option<Sighting>], shift: i64, step: ClockStep) -> Vec<Option<Telling>> {
    let reference = Reference { shift, width: 0 };
    let tell = |sighting: &Option<Sighting>| {
        let sighting = sighting.as_ref()?;
        Some(Telling {
            era: sighting.record.as_ref()?.era,
            baseline: reference.baseline(sighting),
            step,
        })
    };
    seen.iter().map(tell).collect()
}

/// A clock by which others are judged.
struct Member {
    node: usize,
    shift: i64,
    width: u64,
    baseline_width: u64,
    uncertainty: u64,
}

impl Reference {
    fn baseline(&self, sighting: &Sighting) -> Baseline {
        Baseline {
            offset: sighting.offset.middle().saturating_sub(self.shift),
            width: sighting.offset.half_width().saturating_add(self.width),
            at: sighting.time,
        }
    }
}

#[cfg(test)]
mod tests;
