//! Bounds on what one identity may ask of this proxy: requests a second, and acquires at once.
//!
//! Invariant: at most so many identities are remembered, whoever asks. An identity that is quiet
//! is forgotten when room is needed, which costs it nothing: its bucket is full again by then. If
//! there is no room even so, who is new is refused, so that nobody gets a fresh bucket by noise.
//!
//! Locks held are not bounded: a proxy keeps no state, so it can't know who holds what.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Identity;
use super::licence::Bounds;

/// Identities that are remembered; some 30 MB.
const MAX_ACCOUNTS: usize = 100_000;
/// A bucket holds what comes in within a second, so whoever was quiet for longer has a full one.
const QUIET: Duration = Duration::from_secs(2);

/// Why a request has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverLimit {
    /// The identity asks too often; when it may ask again.
    Rate(Duration),
    /// So many acquires of the identity are under way.
    Waiters(usize),
    /// More identities ask at once than this proxy remembers.
    Identities,
}

/// All identities that asked lately.
#[derive(Debug)]
pub(crate) struct Accounts {
    bounds: Bounds,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounts: HashMap<Identity, Arc<Account>>,
    swept: Option<Moment>,
}

/// One identity on this proxy.
#[derive(Debug)]
pub(crate) struct Account {
    rate: Option<NonZeroU32>,
    limiter: Option<DefaultDirectRateLimiter>,
    max_waiters: Option<usize>,
    seats: Option<Arc<Semaphore>>,
    used: Mutex<Moment>,
}

impl Accounts {
    /// Accounts with these bounds, unless a licence has others.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self::remembering(MAX_ACCOUNTS, bounds)
    }

    fn remembering(most: usize, bounds: Bounds) -> Self {
        let state = Mutex::default();
        Self {
            bounds,
            most,
            state,
        }
    }

    /// One request of this identity, if it may make one now.
    pub(crate) fn enter(
        &self,
        identity: &Identity,
        own: &Bounds,
    ) -> Result<Arc<Account>, OverLimit> {
        let rate = own.rate.or(self.bounds.rate).and_then(NonZeroU32::new);
        let max_waiters = own.max_waiters.or(self.bounds.max_waiters);
        let account = self.account(identity, rate, max_waiters)?;
        if let Some(limiter) = &account.limiter {
            limiter.check().map_err(|until| {
                OverLimit::Rate(until.wait_time_from(DefaultClock::default().now()))
            })?;
        }
        Ok(account)
    }

    fn account(
        &self,
        identity: &Identity,
        rate: Option<NonZeroU32>,
        max_waiters: Option<usize>,
    ) -> Result<Arc<Account>, OverLimit> {
        let now = SystemClock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = state.accounts.get(identity)
            && account.rate == rate
            && account.max_waiters == max_waiters
        {
            *account.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
            return Ok(Arc::clone(account));
        }
        if state.accounts.len() >= self.most && !state.accounts.contains_key(identity) {
            state.sweep(now);
            if state.accounts.len() >= self.most {
                return Err(OverLimit::Identities);
            }
        }
        let account = Arc::new(Account {
            rate,
            limiter: rate.map(|rate| RateLimiter::direct(Quota::per_second(rate))),
            max_waiters,
            seats: max_waiters
                .map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))),
            used: Mutex::new(now),
        });
        state
            .accounts
            .insert(identity.clone(), Arc::clone(&account));
        Ok(account)
    }
}

impl State {
    /// Forgets who is quiet, but not all the time: it looks at everybody.
    fn sweep(&mut self, now: Moment) {
        if self
            .swept
            .is_some_and(|swept| now.saturating_since(swept) < QUIET)
        {
            return;
        }
        self.swept = Some(now);
        self.accounts.retain(|_, account| {
            let used = *account.used.lock().unwrap_or_else(PoisonError::into_inner);
            // Somebody who waits is not quiet.
            Arc::strong_count(account) > 1 || now.saturating_since(used) < QUIET
        });
    }
}

impl Account {
    /// A seat for one acquire, given back when it is dropped; none where there is no bound. The
    /// account is remembered as long as its handle is kept beside the seat.
    pub(crate) fn seat(&self) -> Result<Option<OwnedSemaphorePermit>, OverLimit> {
        let Some(seats) = &self.seats else {
            return Ok(None);
        };
        let seat = Arc::clone(seats).try_acquire_owned();
        let most = self.max_waiters.unwrap_or_default();
        seat.map(Some).map_err(|_| OverLimit::Waiters(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(number: usize) -> Identity {
        Identity::new(&format!("id-{number}")).unwrap()
    }

    #[test]
    fn a_flood_of_identities_takes_no_more_memory_than_it_may_and_frees_nobodys_bucket() {
        let bounds = Bounds {
            rate: Some(2),
            max_waiters: Some(1),
            ..Bounds::default()
        };
        let accounts = Accounts::remembering(100, bounds);
        let none = Bounds::default();
        let first = accounts.enter(&identity(0), &none).unwrap();
        let _seat = first.seat().unwrap();
        accounts.enter(&identity(0), &none).unwrap();
        let mut refused = 0;
        for number in 1..10_000 {
            match accounts.enter(&identity(number), &none) {
                Ok(_) => {}
                Err(OverLimit::Identities) => refused += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(accounts.state.lock().unwrap().accounts.len(), 100);
        assert_eq!(refused, 9_900);
        let again = accounts.enter(&identity(0), &none);
        assert!(matches!(again, Err(OverLimit::Rate(_))), "{again:?}");
        assert_eq!(first.seat().err(), Some(OverLimit::Waiters(1)));
    }

    #[test]
    fn a_licence_has_bounds_of_its_own_which_count_once_they_change() {
        let accounts = Accounts::new(Bounds::default());
        let own = Bounds {
            rate: Some(1),
            ..Bounds::default()
        };
        for _ in 0..1_000 {
            accounts.enter(&identity(0), &Bounds::default()).unwrap();
        }
        accounts.enter(&identity(1), &own).unwrap();
        let over = accounts.enter(&identity(1), &own);
        let Err(OverLimit::Rate(wait)) = over else {
            panic!("{over:?}")
        };
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
    }
}
