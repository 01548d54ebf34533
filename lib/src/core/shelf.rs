//! What a node keeps, each thing until it expires.
//!
//! Invariant: everything that is kept has its place in the order of expiry, so
//! that what has expired is found without looking at the rest.

use std::collections::{BTreeSet, HashMap};

use super::marker::{FLOOR_RETENTION, FLOOR_SLACK};
use super::shares::Shares;
use super::time::WallTime;
use super::token::FencingToken;
use super::types::{OwnerId, Resource};

#[derive(Clone, Debug)]
pub(crate) struct Lock {
    pub(crate) owner: OwnerId,
    pub(crate) expires: WallTime,
}

/// A grant, and the calls that rest on it.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) owner: OwnerId,
    pub(crate) token: FencingToken,
    pub(crate) shares: Shares,
}

/// The floor of a resource, and its last grant, which counts only while its owner holds the lock.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    pub(crate) floor: FencingToken,
    pub(crate) grant: Option<Grant>,
    pub(crate) expires: WallTime,
}

/// Locks and fences, in order of expiry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf {
    pub(crate) locks: HashMap<Resource, Lock>,
    pub(crate) fences: HashMap<Resource, Fence>,
    expiries: BTreeSet<(WallTime, bool, Resource)>,
}

const FENCE: bool = true;
const LOCK: bool = false;

impl Shelf {
    pub(crate) fn set_lock(&mut self, key: &Resource, owner: OwnerId, expires: WallTime) {
        self.remove_lock(key);
        self.locks.insert(key.clone(), Lock { owner, expires });
        self.expiries.insert((expires, LOCK, key.clone()));
    }

    pub(crate) fn remove_lock(&mut self, key: &Resource) {
        if let Some(lock) = self.locks.remove(key) {
            self.expiries.remove(&(lock.expires, LOCK, key.clone()));
        }
    }

    /// A lock that is extended for very long must not outlive its fence.
    pub(crate) fn move_fence(&mut self, key: &Resource, expires: WallTime) {
        if let Some(fence) = self.fences.get_mut(key) {
            self.expiries.remove(&(fence.expires, FENCE, key.clone()));
            fence.expires = expires;
            self.expiries.insert((expires, FENCE, key.clone()));
        }
    }

    pub(crate) fn set_fence(&mut self, key: &Resource, floor: FencingToken, grant: Option<Grant>) {
        if let Some(fence) = self.fences.remove(key) {
            self.expiries.remove(&(fence.expires, FENCE, key.clone()));
        }
        let expires = WallTime::from_micros(floor.as_u64())
            .plus(FLOOR_RETENTION)
            .plus(FLOOR_SLACK);
        self.fences.insert(
            key.clone(),
            Fence {
                floor,
                grant,
                expires,
            },
        );
        self.expiries.insert((expires, FENCE, key.clone()));
    }

    pub(crate) fn expire(&mut self, now: WallTime) {
        while self
            .expiries
            .first()
            .is_some_and(|(expires, ..)| *expires <= now)
            && let Some((_, kind, key)) = self.expiries.pop_first()
        {
            if kind == FENCE {
                self.fences.remove(&key);
            } else {
                self.locks.remove(&key);
            }
        }
    }
}
