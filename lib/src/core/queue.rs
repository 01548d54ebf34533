//! Who waits in line for each resource on one node, in the order of tickets.
//!
//! Invariant: every ticket that ever stood in a line is at or below the floor
//! that is kept for it, until that floor expires. So whoever comes later comes
//! behind, also when the line was empty in between.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::marker::{FLOOR_RETENTION, FLOOR_SLACK};
use super::time::WallTime;
use super::token::FencingToken;
use super::types::{CallId, Resource};

/// A ticket that is not renewed stands for so long: a waiter that died blocks
/// those behind it no longer. Several heartbeats, and longer than an attempt.
pub const TICKET_LIFE: Duration = Duration::from_secs(3);
/// Tickets that a line takes on one node; those that a quorum accepted may exceed it.
pub const MAX_QUEUE: usize = 1_000;

/// Where somebody stands: how many are before it, and how many wait altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: u32,
    pub(crate) length: u32,
}

/// All lines of one node, and their floors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    lines: HashMap<Resource, Line>,
    deadlines: BTreeSet<(WallTime, Resource, u64)>,
    floors: HashMap<Resource, FencingToken>,
    floor_expiries: BTreeSet<(WallTime, Resource)>,
}

#[derive(Clone, Debug, Default)]
struct Line {
    order: BTreeSet<(FencingToken, u64)>,
    waiters: HashMap<u64, (FencingToken, WallTime)>,
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

impl Queues {
    /// Forgets whose deadline has passed, and floors that are old enough.
    pub(crate) fn expire(&mut self, now: WallTime) {
        while let Some((deadline, ..)) = self.deadlines.first()
            && *deadline <= now
            && let Some((_, resource, waiter)) = self.deadlines.first().cloned()
        {
            self.remove(&resource, waiter);
        }
        while let Some((expires, _)) = self.floor_expiries.first()
            && *expires <= now
            && let Some((_, resource)) = self.floor_expiries.pop_first()
        {
            self.floors.remove(&resource);
        }
    }

    /// How many wait.
    pub(crate) fn length(&self, resource: &Resource) -> u32 {
        let line = self.lines.get(resource);
        count(line.map_or(0, |line| line.order.len()))
    }

    /// The ticket under which a call stands in line.
    pub(crate) fn ticket(&self, resource: &Resource, call: CallId) -> Option<FencingToken> {
        let line = self.lines.get(resource)?;
        line.waiters.get(&call.number()).map(|(ticket, _)| *ticket)
    }

    /// Where a call stands.
    pub(crate) fn place(&self, resource: &Resource, call: CallId) -> Option<Place> {
        let line = self.lines.get(resource)?;
        let (ticket, _) = line.waiters.get(&call.number())?;
        let before = line.order.range(..(*ticket, call.number())).count();
        Some(Place {
            position: count(before),
            length: count(line.order.len()),
        })
    }

    /// The call stands in line under this ticket from now on, and under no other.
    pub(crate) fn enter(
        &mut self,
        now: WallTime,
        resource: &Resource,
        call: CallId,
        ticket: FencingToken,
    ) {
        let waiter = call.number();
        self.remove(resource, waiter);
        let deadline = now.plus(TICKET_LIFE);
        let line = self.lines.entry(resource.clone()).or_default();
        line.order.insert((ticket, waiter));
        line.waiters.insert(waiter, (ticket, deadline));
        self.deadlines.insert((deadline, resource.clone(), waiter));
        self.lift_floor(resource, ticket);
    }

    /// The call stands in line no longer. Whether it was the first.
    pub(crate) fn leave(&mut self, resource: &Resource, call: CallId) -> bool {
        let first = self
            .place(resource, call)
            .is_some_and(|place| place.position == 0);
        self.remove(resource, call.number());
        first
    }

    fn remove(&mut self, resource: &Resource, waiter: u64) {
        let Some(line) = self.lines.get_mut(resource) else {
            return;
        };
        if let Some((ticket, deadline)) = line.waiters.remove(&waiter) {
            line.order.remove(&(ticket, waiter));
            self.deadlines.remove(&(deadline, resource.clone(), waiter));
        }
        if line.order.is_empty() {
            self.lines.remove(resource);
        }
    }

    /// The highest ticket that ever stood in line, as far as that is remembered.
    pub(crate) fn floor(&self, resource: &Resource) -> Option<FencingToken> {
        self.floors.get(resource).copied()
    }

    /// No ticket up to this one is new any more.
    pub(crate) fn lift_floor(&mut self, resource: &Resource, ticket: FencingToken) {
        let kept = |floor: FencingToken| {
            let floor = WallTime::from_micros(floor.as_u64());
            floor.plus(FLOOR_RETENTION).plus(FLOOR_SLACK)
        };
        let before = self.floors.get(resource).copied();
        if before.is_some_and(|floor| floor >= ticket) {
            return;
        }
        if let Some(floor) = before {
            self.floor_expiries.remove(&(kept(floor), resource.clone()));
        }
        self.floors.insert(resource.clone(), ticket);
        self.floor_expiries.insert((kept(ticket), resource.clone()));
    }
}
