//! Leases in this process's memory: the reference of the contract, and for tests.
//!
//! All who contend share one registry. What it is not: a distributed lease. It is
//! gone with the process, and nobody outside can ask it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::LeaseError;
use super::backend::{Answer, Backend, Lasts, Won};
use super::keeper::Keeper;
use super::options::LeaseOptions;
use super::token::LeaseToken;
use crate::clock::{Clock, Moment, SystemClock};

/// A lease of a [`MemoryLeases`].
pub type MemoryLease = Keeper<MemoryBackend>;

/// Below so many entries those that have run out are not looked for.
const SWEEP_FROM: usize = 1_024;

/// A registry of leases. Clones share it.
#[derive(Clone)]
pub struct MemoryLeases {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// One count for all names, so that a name that is free takes no room and its
    /// tokens rise all the same.
    last: u64,
    entries: HashMap<Arc<str>, Entry>,
    sweep_at: usize,
}

struct Entry {
    owner: Arc<str>,
    tenure: u64,
    expires: Moment,
}

impl MemoryLeases {
    /// A registry that goes by the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// A registry that goes by this clock; for tests.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Arc::default(),
        }
    }

    /// A lease for one of those who contend.
    ///
    /// # Panics
    ///
    /// Must be called within a tokio runtime, which then runs the renewals.
    #[must_use]
    pub fn lease(&self, options: LeaseOptions) -> MemoryLease {
        let backend = self.backend(&options);
        Keeper::new(backend, options)
    }

    /// What such a lease asks: to be wrapped, in tests.
    #[must_use]
    pub fn backend(&self, options: &LeaseOptions) -> MemoryBackend {
        MemoryBackend {
            leases: self.clone(),
            clock: Arc::clone(&self.clock),
            name: options.name().into(),
            owner: options.owner().into(),
            ttl: options.ttl(),
        }
    }

    /// Who holds the lease of this name.
    #[must_use]
    pub fn holder(&self, name: &str) -> Option<String> {
        let now = self.clock.now();
        let state = self.lock();
        let entry = state.entries.get(name)?;
        (now < entry.expires).then(|| entry.owner.to_string())
    }

    /// Takes the lease of this name from whoever holds it, who hears of it when it
    /// renews: what an operator or an outage does to a lease.
    pub fn revoke(&self, name: &str) {
        self.lock().entries.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryLeases {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLeases").finish_non_exhaustive()
    }
}

impl State {
    fn sweep(&mut self, now: Moment) {
        if self.entries.len() < self.sweep_at.max(SWEEP_FROM) {
            return;
        }
        self.entries.retain(|_, entry| now < entry.expires);
        self.sweep_at = 2 * self.entries.len();
    }
}

/// One owner's way to one lease of a [`MemoryLeases`].
pub struct MemoryBackend {
    leases: MemoryLeases,
    /// The holder's, which may stand still or run ahead in tests.
    clock: Arc<dyn Clock>,
    name: Arc<str>,
    owner: Arc<str>,
    ttl: Duration,
}

/// Names a tenure.
#[derive(Clone, Copy, Debug)]
pub struct MemoryHold(u64);

impl MemoryBackend {
    /// The same for a holder with a clock of its own; for tests. The registry goes on
    /// by its own.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    fn try_acquire(&self) -> Answer<MemoryHold> {
        let now = self.leases.clock.now();
        let mut state = self.leases.lock();
        state.sweep(now);
        let entry = state.entries.get(&self.name);
        // The same owner is the same holder, also if this process began anew.
        if entry.is_some_and(|entry| now < entry.expires && entry.owner != self.owner) {
            return Answer::Held;
        }
        state.last += 1;
        let tenure = state.last;
        let lasts = self.lasts();
        let entry = Entry {
            owner: Arc::clone(&self.owner),
            tenure,
            expires: now + self.ttl,
        };
        state.entries.insert(Arc::clone(&self.name), entry);
        Answer::Won(Won {
            hold: MemoryHold(tenure),
            token: Some(LeaseToken::of_numbers(&[tenure])),
            lasts,
        })
    }

    /// Holder and registry are on one machine, so nothing is taken off.
    fn lasts(&self) -> Lasts {
        let until = self.clock.now() + self.ttl;
        Lasts {
            valid_until: until,
            expires: until,
        }
    }

    fn try_renew(&self, hold: MemoryHold) -> Option<Lasts> {
        let now = self.leases.clock.now();
        let mut state = self.leases.lock();
        let entry = state.entries.get_mut(&self.name)?;
        let lasts = self.lasts();
        let ours = entry.tenure == hold.0 && now < entry.expires;
        ours.then(|| {
            entry.expires = now + self.ttl;
            lasts
        })
    }
}

impl Backend for MemoryBackend {
    type Hold = MemoryHold;

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    async fn acquire(&self) -> Answer<MemoryHold> {
        self.try_acquire()
    }

    async fn renew(&self, hold: &MemoryHold, _: Duration) -> Result<Option<Lasts>, LeaseError> {
        Ok(self.try_renew(*hold))
    }

    async fn release(&self, hold: &MemoryHold) -> Result<(), LeaseError> {
        let mut state = self.leases.lock();
        let entry = state.entries.get(&self.name);
        if entry.is_some_and(|entry| entry.tenure == hold.0) {
            state.entries.remove(&self.name);
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, WallTime};

    #[test]
    fn names_that_are_free_take_no_room() {
        let clock = Arc::new(ManualClock::at(WallTime::default()));
        let leases = MemoryLeases::with_clock(clock.clone());
        for number in 0..4 * SWEEP_FROM {
            let options = LeaseOptions::builder(format!("name-{number}"), "owner");
            let backend = leases.backend(&options.build().unwrap());
            assert!(matches!(backend.try_acquire(), Answer::Won(_)));
            clock.advance(Duration::from_millis(100));
        }
        assert!(leases.lock().entries.len() <= SWEEP_FROM + 1);
    }
}
