//! Nodes with clocks and markers of their own, for the tests of the watch over them.

use super::super::*;
use crate::core::marker::{self, ClusterInfo, Marker, MarkerCommand};

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const ML: Duration = Duration::from_mins(1);
pub(super) const EPOCH: i64 = 1_800_000_000 * SECOND;

pub(super) fn time(micros: i64) -> WallTime {
    WallTime::from_micros(u64::try_from(micros).unwrap())
}

pub(super) fn moment(micros: i64) -> Moment {
    Moment::from_origin(Duration::from_micros(u64::try_from(micros).unwrap()))
}

/// Nodes with markers and clocks of their own, and one client's clock.
pub(super) struct World {
    /// True time.
    pub(super) now: i64,
    /// What is wrong with the client's clock.
    pub(super) local: i64,
    pub(super) offsets: Vec<i64>,
    /// Gained in a million.
    pub(super) rates: Vec<i64>,
    pub(super) markers: Vec<Option<Marker>>,
}

impl World {
    pub(super) fn of(offsets: Vec<i64>) -> Self {
        let nodes = offsets.len();
        let cluster = ClusterInfo {
            id: "c".into(),
            nodes,
            max_lease: ML,
        };
        let mut world = Self {
            now: 1_000 * SECOND,
            local: 0,
            rates: vec![0; nodes],
            offsets,
            markers: vec![None; nodes],
        };
        for node in 0..nodes {
            let nonce = "n".to_owned();
            let prepare = MarkerCommand::Prepare {
                cluster: cluster.clone(),
                nonce: nonce.clone(),
                over: None,
                durable: false,
            };
            world.mark(node, prepare);
            world.mark(node, MarkerCommand::Activate { nonce });
        }
        world
    }

    pub(super) fn watch(&self) -> ClockWatch {
        ClockWatch::new(self.offsets.len(), self.offsets.len() / 2 + 1)
    }

    pub(super) fn clock(&self, node: usize) -> WallTime {
        let gained = self.now * self.rates[node] / SECOND;
        time(EPOCH + self.now + self.offsets[node] + gained)
    }

    pub(super) fn here(&self) -> Moment {
        moment(self.now + self.local)
    }

    pub(super) fn mark(&mut self, node: usize, command: MarkerCommand) -> Marker {
        let now = self.clock(node);
        self.markers[node] = marker::apply(self.markers[node].take(), "run", now, command);
        self.markers[node].clone().unwrap()
    }

    /// Sent so long before now, and received so long after it.
    pub(super) fn sight(&self, node: usize, (before, after): (i64, i64)) -> Sighting {
        let state = MarkerState {
            time: self.clock(node),
            run_id: "run".into(),
            marker: self.markers[node].clone(),
        };
        let at = self.now + self.local;
        Sighting::of(&state, moment(at - before), moment(at + after))
    }

    pub(super) fn quick(&self) -> Vec<Option<Sighting>> {
        let all = 0..self.offsets.len();
        all.map(|node| Some(self.sight(node, (300, 200)))).collect()
    }

    /// One look, and what it tells told.
    pub(super) fn look(
        &mut self,
        by: &mut ClockWatch,
        seen: &[Option<Sighting>],
    ) -> Vec<Option<Telling>> {
        let tellings = by.look(seen, ML, self.here());
        for (node, telling) in tellings.iter().enumerate() {
            let Some(Telling {
                era,
                baseline,
                step,
            }) = *telling
            else {
                continue;
            };
            let command = MarkerCommand::Clock {
                era,
                baseline,
                step,
            };
            let marker = self.mark(node, command);
            by.learn(node, &marker.clock);
        }
        tellings
    }

    /// How many of these nodes' votes count together for a client.
    pub(super) fn counted(&self, by: &ClockWatch, nodes: &[usize]) -> usize {
        let here = self.now + self.local;
        let (sent, received) = (moment(here - 300), moment(here + 200));
        let baselines = by.baselines();
        let shifts = nodes
            .iter()
            .map(|node| baselines.shift(*node, Some(self.clock(*node)), sent, received));
        Agreement::among(shifts).count
    }

    pub(super) fn guarded(&self, node: usize) -> bool {
        let marker = self.markers[node].as_ref();
        marker::bar(marker, "run", self.clock(node)).is_some()
    }

    pub(super) fn votes_from(&self, node: usize) -> WallTime {
        self.markers[node].as_ref().unwrap().voting_from
    }
}

pub(super) fn jumps(tellings: &[Option<Telling>]) -> Vec<usize> {
    let jumped = |telling: &Option<Telling>| {
        telling.is_some_and(|told| matches!(told.step, ClockStep::Jumped { .. }))
    };
    (0..tellings.len())
        .filter(|node| jumped(&tellings[*node]))
        .collect()
}

/// Five nodes hours apart, looked at twice.
pub(super) fn calm() -> (World, ClockWatch) {
    let hour = 3_600 * SECOND;
    let mut world = World::of(vec![0, hour, -5 * hour, 200, 3 * hour]);
    let mut watch = world.watch();
    for _ in 0..2 {
        let seen = world.quick();
        world.look(&mut watch, &seen);
        world.now += 5 * SECOND;
    }
    (world, watch)
}
