//! Bounds on what one identity may ask of this proxy: requests a second, and acquires at once.
//!
//! An identity has one account, whatever bounds its keys have: what was asked with any of them counts
//! for all, and each request is judged by its own bounds. A request takes its share of a second, a
//! quarter where four a second are allowed, and a second at most can be taken in advance. So bounds
//! may change from one request to the next, and nothing is ever filled again.
//!
//! Invariant: at most so many identities are remembered, whoever asks. An identity that is quiet
//! is forgotten when room is needed, which costs it nothing: its bucket is full again by then. If
//! there is no room even so, who is new is refused, so that nobody gets a fresh bucket by noise.
//!
//! Locks held are not bounded: a proxy keeps no state, so it can't know who holds what.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::Identity;
use super::licence::Bounds;

/// Identities that are remembered; some 30 MB.
const MAX_ACCOUNTS: usize = 100_000;
/// A second, in the parts of it that requests take.
const SECOND: NonZeroU32 = NonZeroU32::new(1_000_000_000).expect("it is not zero");
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
struct Account {
    limiter: DefaultDirectRateLimiter,
    /// Acquires that are under way.
    seated: AtomicUsize,
    used: Mutex<Moment>,
}

/// A request that was let in.
#[derive(Debug)]
pub(crate) struct Entry {
    account: Arc<Account>,
    max_waiters: Option<usize>,
}

/// One acquire that is under way, until it is dropped. Its account is remembered as long.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Account>);

impl Accounts {
    /// Accounts with these bounds, where a licence has none that are lower.
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

    /// One request of this identity, if it may make one now. The lower of the proxy's bounds and its
    /// own counts.
    pub(crate) fn enter(&self, identity: &Identity, own: &Bounds) -> Result<Entry, OverLimit> {
        let rate = lower(self.bounds.rate, own.rate).and_then(NonZeroU32::new);
        let max_waiters = lower(self.bounds.max_waiters, own.max_waiters);
        let account = self.account(identity)?;
        if let Some(rate) = rate {
            account.take(rate)?;
        }
        Ok(Entry {
            account,
            max_waiters,
        })
    }

    fn account(&self, identity: &Identity) -> Result<Arc<Account>, OverLimit> {
        let now = SystemClock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = state.accounts.get(identity) {
            *account.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
            return Ok(Arc::clone(account));
        }
        if state.accounts.len() >= self.most {
            state.sweep(now);
            if state.accounts.len() >= self.most {
                return Err(OverLimit::Identities);
            }
        }
        let account = Arc::new(Account {
            limiter: RateLimiter::direct(Quota::per_second(SECOND)),
            seated: AtomicUsize::new(0),
            used: Mutex::new(now),
        });
        state
            .accounts
            .insert(identity.clone(), Arc::clone(&account));
        Ok(account)
    }
}

fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
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
    /// Takes the share that one of so many requests a second has.
    fn take(&self, rate: NonZeroU32) -> Result<(), OverLimit> {
        let share = NonZeroU32::new(SECOND.get() / rate).unwrap_or(NonZeroU32::MIN);
        let taken = self.limiter.check_n(share);
        let taken = taken.expect("a share is no more than the second that a bucket holds");
        taken.map_err(|until| OverLimit::Rate(until.wait_time_from(DefaultClock::default().now())))
    }
}

impl Entry {
    /// A seat for one acquire, if fewer are under way than it may have beside it.
    pub(crate) fn seat(&self) -> Result<Seat, OverLimit> {
        let most = self.max_waiters.unwrap_or(usize::MAX);
        let more = |seated| (seated < most).then(|| seated + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let seated = self.account.seated.fetch_update(set, fetch, more);
        seated.map_err(|_| OverLimit::Waiters(most))?;
        Ok(Seat(Arc::clone(&self.account)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seated.fetch_sub(1, Ordering::Relaxed);
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

    #[test]
    fn keys_of_one_identity_with_different_bounds_share_what_they_may_do() {
        let accounts = Accounts::new(Bounds::default());
        let bounds = |rate, max_waiters| Bounds {
            rate: Some(rate),
            max_waiters: Some(max_waiters),
            ..Bounds::default()
        };
        let (few, more) = (bounds(4, 1), bounds(8, 2));
        let mut entered = 0;
        for _ in 0..100 {
            entered += usize::from(accounts.enter(&identity(0), &few).is_ok());
            entered += usize::from(accounts.enter(&identity(0), &more).is_ok());
        }
        // They would be half a minute's.
        assert!(entered < 200, "{entered} of 200 in no time");

        let open = accounts.enter(&identity(1), &Bounds::default()).unwrap();
        let first = open.seat().unwrap();
        let few = accounts.enter(&identity(1), &bounds(100, 1)).unwrap();
        assert_eq!(few.seat().err(), Some(OverLimit::Waiters(1)));
        let more = accounts.enter(&identity(1), &bounds(100, 2)).unwrap();
        let _second = more.seat().unwrap();
        assert_eq!(more.seat().err(), Some(OverLimit::Waiters(2)));
        drop(first);
        assert!(more.seat().is_ok());
    }

    #[test]
    fn a_licence_narrows_what_its_identity_may_do_and_never_widens_it() {
        let bounds = |count: usize| Bounds {
            rate: u32::try_from(count).ok(),
            max_waiters: Some(count),
            ..Bounds::default()
        };
        for (own, proxys) in [(1, 100), (100, 1)] {
            let accounts = Accounts::new(bounds(proxys));
            let account = accounts.enter(&identity(0), &bounds(own)).unwrap();
            let _seat = account.seat().unwrap();
            assert_eq!(account.seat().err(), Some(OverLimit::Waiters(1)));
            let again = accounts.enter(&identity(0), &bounds(own));
            assert!(matches!(again, Err(OverLimit::Rate(_))), "{again:?}");
        }
    }
}
