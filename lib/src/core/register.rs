//! The rules of one node, as a pure function over its state.
//!
//! The in-memory node and the simulation run this very code; the Lua scripts of
//! the Redis node mirror it rule by rule, and one conformance suite holds both
//! to the same answers.
//!
//! Invariant: a grant's token is above every floor that the node has accepted
//! for the resource, and the floor never falls while it is kept.

mod turns;

use std::time::Duration;

use super::command::Command;
use super::marker::{self, FLOOR_RETENTION, FLOOR_SLACK, HIGH_WATER_STEP, Marker, MarkerCommand};
use super::queue::Queues;
use super::quorum::{Fault, FaultKind, Vote};
use super::safeguards::Safeguard;
use super::shares::Shares;
use super::shelf::{Grant, Shelf};
use super::time::WallTime;
use super::token::FencingToken;
use super::types::{CallId, OwnerId, Resource};

/// One node's state. Expired entries are removed as time passes, in order of expiry.
#[derive(Clone, Debug, Default)]
pub struct Register {
    marker: Option<Marker>,
    shelf: Shelf,
    queues: Queues,
}

impl Register {
    /// The marker, if the node has one.
    #[must_use]
    pub const fn marker(&self) -> Option<&Marker> {
        self.marker.as_ref()
    }

    /// How many locks are held, expired ones not yet removed included.
    #[must_use]
    pub fn locks(&self) -> usize {
        self.shelf.locks.len()
    }

    /// Whether the resource is locked at `now`, and by whom.
    #[must_use]
    pub fn holder(&self, resource: &Resource, now: WallTime) -> Option<&OwnerId> {
        self.shelf
            .locks
            .get(resource)
            .filter(|lock| lock.expires > now)
            .map(|lock| &lock.owner)
    }

    /// The ticket under which a call stands in line, one past its deadline included.
    #[must_use]
    pub fn ticket(&self, resource: &Resource, call: CallId) -> Option<FencingToken> {
        self.queues.ticket(resource, call)
    }

    /// Changes or reads the marker.
    pub fn mark(&mut self, now: WallTime, run_id: &str, command: MarkerCommand) -> Option<Marker> {
        self.marker = marker::apply(self.marker.take(), run_id, now, command);
        self.marker.clone()
    }

    /// One step of the protocol when the node's clock says `now`.
    pub fn apply(&mut self, now: WallTime, run_id: &str, command: &Command) -> Vote {
        self.shelf.expire(now);
        self.queues.expire(now);
        self.lift_high_water(now);
        let bar = marker::bar(self.marker.as_ref(), run_id, now);
        let barred = match bar {
            None => None,
            Some(marker::Bar::Guarded(left)) => Some(Vote::Guarded {
                remaining: Some(left),
            }),
            Some(_) => Some(Vote::Guarded { remaining: None }),
        };
        match command {
            Command::Acquire {
                resource,
                owner,
                lease,
                call,
                token,
                reserve,
            } => barred.unwrap_or_else(|| {
                let tokens = (*token, token.plus(*reserve));
                self.acquire(now, resource, owner, *lease, (*call, tokens))
            }),
            Command::Extend {
                resource,
                owner,
                by,
            } => barred.unwrap_or_else(|| self.extend(now, resource, owner, *by)),
            Command::Release {
                resource,
                owner,
                token,
            }
            | Command::PassOn {
                resource,
                owner,
                token,
            } => self.release(now, resource, owner, *token),
            Command::Undo {
                resource,
                owner,
                call,
                token,
                ..
            } => {
                let deleted = self.leave(resource, owner, *call);
                if deleted {
                    self.shelf.remove_lock(resource);
                }
                if Safeguard::UndoLiftsFloor.is_on() {
                    self.lift_floor(now, resource, *token);
                }
                Vote::Undone { deleted }
            }
            Command::Settle {
                resource,
                owner,
                token,
            } => {
                let held = self
                    .shelf
                    .locks
                    .get(resource)
                    .is_some_and(|lock| lock.owner == *owner);
                let deleted = held
                    && self
                        .grant_of(resource, owner)
                        .is_none_or(|g| g.token <= *token);
                if deleted {
                    self.shelf.remove_lock(resource);
                }
                self.lift_floor(now, resource, *token);
                Vote::Settled { deleted }
            }
            Command::Inspect { resource } => self.inspect(now, resource),
            Command::Ping => barred.unwrap_or(Vote::Pong),
            Command::AcquireInTurn { .. }
            | Command::Stand { .. }
            | Command::LeaveQueue { .. }
            | Command::ReleaseInTurn { .. }
            | Command::Queue { .. } => self.in_line(now, barred, bar, command),
        }
    }

    fn acquire(
        &mut self,
        now: WallTime,
        key: &Resource,
        owner: &OwnerId,
        lease: Duration,
        (call, (token, last)): (CallId, (FencingToken, FencingToken)),
    ) -> Vote {
        let max_lease = self.max_lease();
        if lease > max_lease {
            return Vote::Failed(Fault::unsent(
                FaultKind::Misconfigured,
                "the lease is above the cluster's maximum",
            ));
        }
        if self
            .shelf
            .locks
            .get(key)
            .is_some_and(|lock| lock.owner != *owner)
        {
            return self.held(now, key);
        }
        let floor = self.floor(key, now);
        if token <= floor && Safeguard::FloorTest.is_on() {
            return Vote::Stale { floor };
        }
        if last.as_u64() > now.plus(max_lease).as_micros() {
            return Vote::Ahead;
        }
        let late = |grant: &Grant| grant.shares.have_later(call);
        if self.present_grant(key).is_some_and(late) {
            return Vote::Stale { floor };
        }
        let by_another_call = self
            .present_grant(key)
            .is_some_and(|grant| !grant.shares.is_only(call));
        if by_another_call {
            return self.again(now, key, owner, lease, call);
        }
        let shares = Shares::of(call);
        // What is reserved nobody else is granted.
        let keeps = Safeguard::ReservedTokens.is_on();
        let grant = Grant {
            owner: owner.clone(),
            token,
            shares,
        };
        let floor = if keeps { last } else { token };
        self.shelf.set_fence(key, floor, Some(grant));
        self.shelf.set_lock(key, owner.clone(), now.plus(lease));
        Vote::Granted
    }

    /// The owner holds the lock by another call: this one rests on the same grant.
    fn again(
        &mut self,
        now: WallTime,
        key: &Resource,
        owner: &OwnerId,
        lease: Duration,
        call: CallId,
    ) -> Vote {
        let Some(grant) = self
            .shelf
            .fences
            .get_mut(key)
            .and_then(|fence| fence.grant.as_mut())
        else {
            return Vote::Absent;
        };
        grant.shares.join(call);
        let token = grant.token;
        let held_until = self.shelf.locks.get(key).map_or(now, |lock| lock.expires);
        let expires = held_until.max(now.plus(lease));
        self.shelf.set_lock(key, owner.clone(), expires);
        Vote::Again {
            token,
            remaining: expires.saturating_since(now),
        }
    }

    fn extend(&mut self, now: WallTime, key: &Resource, owner: &OwnerId, by: Duration) -> Vote {
        let max_lease = self.max_lease();
        let Some(lock) = self.shelf.locks.get(key) else {
            return Vote::Absent;
        };
        if lock.owner != *owner {
            return self.held(now, key);
        }
        let remaining = lock.expires.saturating_since(now);
        let target = remaining.max(remaining.saturating_add(by).min(max_lease));
        self.shelf.set_lock(key, owner.clone(), now.plus(target));
        self.keep_fence(key, now);
        let token = self.grant_of(key, owner).map(|grant| grant.token);
        Vote::Extended {
            token,
            remaining: target,
        }
    }

    fn release(
        &mut self,
        now: WallTime,
        key: &Resource,
        owner: &OwnerId,
        token: FencingToken,
    ) -> Vote {
        match self.shelf.locks.get(key) {
            None => return Vote::Absent,
            Some(lock) if lock.owner != *owner => return self.held(now, key),
            Some(_) => {}
        }
        match self.grant_of(key, owner).map(|grant| grant.token) {
            Some(grant) if grant > token => Vote::Newer { token: grant },
            grant => {
                self.shelf.remove_lock(key);
                Vote::Released { token: grant }
            }
        }
    }

    /// Takes back one call's share of the grant. Whether the lock goes with it.
    fn leave(&mut self, key: &Resource, owner: &OwnerId, call: CallId) -> bool {
        if self.grant_of(key, owner).is_none() {
            return false;
        }
        let Some(fence) = self.shelf.fences.get_mut(key) else {
            return false;
        };
        let last = fence
            .grant
            .as_mut()
            .is_some_and(|grant| grant.shares.leave(call));
        if last {
            fence.grant = None;
        }
        last
    }

    fn inspect(&self, now: WallTime, key: &Resource) -> Vote {
        self.shelf
            .locks
            .get(key)
            .map_or(Vote::Absent, |lock| Vote::Holder {
                owner: lock.owner.as_str().into(),
                remaining: Some(lock.expires.saturating_since(now)),
                token: self.present_grant(key).map(|grant| grant.token),
            })
    }

    /// Undo and settle: what comes late is refused.
    fn lift_floor(&mut self, now: WallTime, key: &Resource, token: FencingToken) {
        // A floor beyond what any lease may reach would refuse the resource for ever.
        if self.marker.is_some() && token.as_u64() <= now.plus(self.max_lease()).as_micros() {
            let kept = self
                .shelf
                .fences
                .get(key)
                .and_then(|fence| fence.grant.clone());
            if token > self.floor(key, now) {
                self.shelf.set_fence(key, token, kept);
            }
        }
    }

    fn held(&self, now: WallTime, key: &Resource) -> Vote {
        let remaining = self
            .shelf
            .locks
            .get(key)
            .map(|lock| lock.expires.saturating_since(now));
        Vote::Held {
            remaining,
            token: self.present_grant(key).map(|grant| grant.token),
        }
    }

    /// The grant of `owner`, if the lock's present holder is that owner.
    fn grant_of(&self, key: &Resource, owner: &OwnerId) -> Option<&Grant> {
        self.present_grant(key)
            .filter(|grant| grant.owner == *owner)
    }

    /// The grant under which the lock is held now, if it was granted by this protocol.
    fn present_grant(&self, key: &Resource) -> Option<&Grant> {
        let lock = self.shelf.locks.get(key)?;
        self.shelf
            .fences
            .get(key)?
            .grant
            .as_ref()
            .filter(|grant| grant.owner == lock.owner)
    }

    /// What a token must be above. An absent floor was below what is a day old;
    /// after a loss no floor counts below the base, since a kept one may be stale.
    fn floor(&self, key: &Resource, now: WallTime) -> FencingToken {
        let kept = self.shelf.fences.get(key).map(|fence| fence.floor);
        self.floor_or_absent(kept, now)
    }

    fn floor_or_absent(&self, kept: Option<FencingToken>, now: WallTime) -> FencingToken {
        let (absent, base) = self
            .marker
            .as_ref()
            .map_or_else(Default::default, |marker| {
                (
                    marker.high_water.max(now).minus(FLOOR_RETENTION),
                    marker.floor_base,
                )
            });
        kept.unwrap_or(FencingToken::new(absent.as_micros()))
            .max(FencingToken::new(base.as_micros()))
    }

    fn max_lease(&self) -> Duration {
        self.marker
            .as_ref()
            .map_or(Duration::ZERO, |marker| marker.cluster.max_lease)
    }

    fn lift_high_water(&mut self, now: WallTime) {
        if let Some(marker) = &mut self.marker
            && now.saturating_since(marker.high_water) >= HIGH_WATER_STEP
        {
            marker.high_water = now;
        }
    }

    fn keep_fence(&mut self, key: &Resource, now: WallTime) {
        let floor = self
            .shelf
            .fences
            .get(key)
            .map(|fence| WallTime::from_micros(fence.floor.as_u64()));
        if let Some(floor) = floor
            && now > floor.plus(FLOOR_RETENTION / 2)
        {
            self.shelf
                .move_fence(key, now.plus(FLOOR_RETENTION).plus(FLOOR_SLACK));
        }
    }
}
