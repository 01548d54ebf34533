//! Hazard: a lease that promises what it does not keep. The contract, in memory, and
//! what the keeper promises its backends.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everlock::clock::Clock;
use everlock::lease::faulty::{Faults, FaultyBackend, Mishap};
use everlock::lease::memory::MemoryLeases;
use everlock::lease::{Answer, Backend, Keeper, Lasts, Lease, LeaseError, LeaseOptions};
use support::leases::{MemorySubject, ProcessClock};

fn in_memory() -> std::future::Ready<MemorySubject> {
    std::future::ready(MemorySubject::new())
}

everlock::lease_contract!(in_memory);

/// A backend that notes how many calls are under way at once.
#[derive(Debug)]
struct Counting<B> {
    inner: B,
    calls: Arc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    now: AtomicUsize,
    most: AtomicUsize,
    made: AtomicUsize,
}

/// A call under way; it may end by being dropped.
struct Call<'a>(&'a Calls);

impl<'a> Call<'a> {
    fn begin(calls: &'a Calls) -> Self {
        let now = calls.now.fetch_add(1, Ordering::SeqCst) + 1;
        calls.most.fetch_max(now, Ordering::SeqCst);
        calls.made.fetch_add(1, Ordering::SeqCst);
        Self(calls)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<B: Backend> Backend for Counting<B> {
    type Hold = B::Hold;

    fn clock(&self) -> Arc<dyn Clock> {
        self.inner.clock()
    }

    async fn acquire(&self) -> Answer<B::Hold> {
        let _call = Call::begin(&self.calls);
        self.inner.acquire().await
    }

    async fn renew(&self, hold: &B::Hold, missing: Duration) -> Result<Option<Lasts>, LeaseError> {
        let _call = Call::begin(&self.calls);
        self.inner.renew(hold, missing).await
    }

    async fn release(&self, hold: &B::Hold) -> Result<(), LeaseError> {
        let _call = Call::begin(&self.calls);
        self.inner.release(hold).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_asked_one_thing_at_a_time_whatever_is_asked_of_the_lease() {
    let origin = tokio::time::Instant::now();
    let leases = MemoryLeases::with_clock(ProcessClock::new(origin));
    let options = LeaseOptions::builder("lease", "owner").ttl(Duration::from_secs(1));
    let options = options.renewal_interval(Duration::from_millis(10));
    let options = options.build().unwrap();
    let faults = Faults::none();
    faults.plan(|_| Some(Mishap::RequestDelayed(Duration::from_millis(7))));
    let calls = Arc::new(Calls::default());
    let backend = Counting {
        inner: FaultyBackend::new(leases.backend(&options), faults),
        calls: Arc::clone(&calls),
    };
    let lease = Keeper::new(backend, options);
    for round in 0..50_u64 {
        let soon = || tokio::time::sleep(Duration::from_millis(round % 9));
        let (one, other) = tokio::join!(lease.acquire(), async {
            soon().await;
            lease.acquire().await
        });
        assert!(one.unwrap() && other.unwrap());
        tokio::time::sleep(Duration::from_millis(30)).await;
        if round % 3 == 0 {
            let (released, acquired) = tokio::join!(lease.release(), lease.acquire());
            released.unwrap();
            assert!(acquired.unwrap(), "what was asked after the release stands");
        }
    }
    assert!(calls.made.load(Ordering::SeqCst) > 150);
    assert_eq!(calls.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_tries_as_often_as_it_may_while_another_holds_the_lease() {
    let origin = tokio::time::Instant::now();
    let leases = MemoryLeases::with_clock(ProcessClock::new(origin));
    let options = |owner| LeaseOptions::builder("lease", owner).ttl(Duration::from_secs(1));
    let holder = leases.lease(options("holder").build().unwrap());
    let patient = options("patient").acquire_retries(5);
    let patient = patient.acquire_retry_delay(Duration::from_millis(100));
    let patient = leases.lease(patient.build().unwrap());
    assert!(holder.acquire().await.unwrap());
    let started = tokio::time::Instant::now();
    assert!(!patient.acquire().await.unwrap());
    assert_eq!(
        started.elapsed().as_millis(),
        400,
        "five attempts, four delays"
    );
    let (acquired, released) = tokio::join!(patient.acquire(), async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        holder.release().await
    });
    assert!(acquired.unwrap() && released.is_ok());
}
