//! Hazard: waiters that sleep past their chance, starve, never give up, or storm.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::observer::{Event, Observer};
use everlock::protocol::Command;
use everlock::{AcquireOptions, Error, Grant, Redlock};
use everlock_testkit::{RedisCluster, SETTLED, eventually};
use support::redis::{builder, client, locks_left};
use support::{World, once};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const MAX_LEASE: Duration = Duration::from_mins(2);

fn lease(lease: Duration) -> AcquireOptions {
    AcquireOptions::new().lease(lease).retries(0)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn a_waiter_wins_within_a_second_of_the_expiry_whatever_its_retry_delay() {
    let cluster = RedisCluster::start(5);
    let (holder, waiter) = (
        client(&cluster, MAX_LEASE).await,
        client(&cluster, MAX_LEASE).await,
    );
    let held = holder.acquire("r", lease(2 * SECOND)).await.unwrap();
    let patient = lease(MINUTE).retries(1).delay(MINUTE).jitter(MINUTE);
    let next = waiter.acquire("r", patient).await.unwrap();
    assert!(!held.is_valid(), "not before it was over");
    let expired = held.valid_until();
    let now = everlock::clock::Clock::now(&everlock::clock::SystemClock);
    let late = now.saturating_since(expired);
    assert!(late < SECOND, "{late:?}");
    assert!(next.token() > held.token() && next.attempts() <= 2);
}

#[tokio::test]
async fn a_waiter_wins_within_a_second_though_a_minority_of_nodes_is_gone() {
    for hang in [false, true] {
        let cluster = RedisCluster::start(5);
        let client = client(&cluster, MAX_LEASE).await;
        let held = client.acquire("r", lease(2 * SECOND)).await.unwrap();
        for node in 0..2 {
            if hang {
                cluster.pause(node);
            } else {
                cluster.kill(node);
            }
        }
        let patient = lease(MINUTE).retries(1).delay(MINUTE);
        client.acquire("r", patient).await.unwrap();
        let now = everlock::clock::Clock::now(&everlock::clock::SystemClock);
        let late = now.saturating_since(held.valid_until());
        assert!(late < SECOND, "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_follows_a_lease_that_is_extended_and_wins_when_it_ends() {
    let world = World::of(5).await;
    let (holder, waiter) = (world.client(1).await, world.client(2).await);
    let held = holder.acquire("r", once().lease(5 * SECOND)).await.unwrap();
    let patient = once().retries(1).delay(MINUTE).jitter(ms(0));
    let waiting = tokio::spawn(async move { waiter.acquire("r", patient).await });
    for _ in 0..4 {
        tokio::time::sleep(3 * SECOND).await;
        holder.extend(&held, 4 * SECOND).await.unwrap();
        assert!(!waiting.is_finished());
    }
    let left = held.remaining();
    let started = Instant::now();
    waiting.await.unwrap().unwrap();
    let took = started.elapsed();
    assert!(took >= left && took < left + SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_wins_as_soon_as_its_rival_releases() {
    let world = World::of(5).await;
    // A minority is not heard.
    world.faulty[..2].iter().for_each(|node| node.hush());
    let (holder, waiter) = (world.client(1).await, world.client(2).await);
    let held = holder.acquire("r", once()).await.unwrap();
    let options = once().retries(1).delay(MINUTE).jitter(ms(0));
    let waiting = tokio::spawn(async move { waiter.acquire("r", options).await });
    tokio::time::sleep(ms(5_200)).await;
    holder.release(&held).await.unwrap();
    let released = Instant::now();
    waiting.await.unwrap().unwrap();
    assert!(released.elapsed() <= ms(5), "{:?}", released.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_who_hears_nothing_wins_at_its_next_planned_attempt() {
    let world = World::of(5).await;
    world.faulty.iter().for_each(|node| node.hush());
    let (holder, waiter) = (world.client(1).await, world.client(2).await);
    let held = holder.acquire("r", once()).await.unwrap();
    let options = once().retries(100).delay(ms(500)).jitter(ms(0));
    let waiting = tokio::spawn(async move { waiter.acquire("r", options).await });
    tokio::time::sleep(ms(5_200)).await;
    holder.release(&held).await.unwrap();
    let released = Instant::now();
    let next = waiting.await.unwrap().unwrap();
    assert!(released.elapsed() <= ms(510), "{:?}", released.elapsed());
    assert_eq!(next.attempts(), 12);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_accounted_for_with_never_more_than_one_and_the_retries() {
    for retries in [0, 1, 2, 7] {
        let world = World::of(5).await;
        let (holder, waiter) = (world.client(1).await, world.client(2).await);
        // Leases that end now and then prompt attempts beyond the plan.
        let stop = Arc::new(AtomicUsize::new(0));
        let held = Arc::clone(&stop);
        let holding = tokio::spawn(async move {
            let mut last = holder.acquire("r", once().lease(ms(300))).await.unwrap();
            while held.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(ms(200)).await;
                let extended = holder.extend(&last, ms(200)).await;
                if extended.is_err() {
                    last = holder.acquire("r", once().lease(ms(300))).await.unwrap();
                }
            }
        });
        tokio::time::sleep(ms(10)).await;
        let before = world.faulty[0].commands();
        let options = once().retries(retries).delay(SECOND).jitter(ms(0));
        let started = Instant::now();
        let error = waiter.acquire("r", options).await.unwrap_err();
        let Error::Contended { attempts, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(attempts, retries + 1);
        assert_eq!(started.elapsed().as_secs(), u64::from(retries));
        let asked = world.faulty[0].commands() - before;
        assert!(asked >= u64::from(attempts), "{asked}");
        // A prompt for each lease that was seen to end, not a storm.
        assert!(asked <= 4 + 12 * u64::from(attempts), "{asked}");
        stop.store(1, Ordering::Relaxed);
        holding.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_begun_at_the_deadline_or_after() {
    for deadline in [1, 50, 999, 1_000, 1_001, 3_500] {
        let world = World::of(3).await;
        let (holder, waiter) = (world.client(1).await, world.client(2).await);
        holder.acquire("r", once()).await.unwrap();
        let begun = Arc::new(Mutex::new(Instant::now()));
        let last = Arc::clone(&begun);
        world.faulty[0].plan(move |command| {
            if matches!(command, Command::Acquire { .. }) {
                *last.lock().unwrap() = Instant::now();
            }
            None
        });
        let started = Instant::now();
        let options = once().retries(1_000).delay(ms(500)).jitter(ms(0));
        let error = waiter.acquire("r", options.deadline(ms(deadline))).await;
        assert!(matches!(error, Err(Error::Contended { .. })), "{error:?}");
        assert!(started.elapsed() < ms(deadline), "no use in waiting on");
        assert!(begun.lock().unwrap().duration_since(started) < ms(deadline));
        assert!(
            started.elapsed() + ms(501) >= ms(deadline),
            "nor in giving up early"
        );
    }
}

#[tokio::test]
async fn a_deadline_is_kept_on_real_nodes_whoever_is_gone() {
    let cluster = RedisCluster::start(5);
    let client = client(&cluster, MAX_LEASE).await;
    let _held = client.acquire("r", lease(MINUTE)).await.unwrap();
    for gone in [0, 2] {
        for node in 0..gone {
            cluster.pause(node);
        }
        let options = lease(SECOND).retries(10_000).delay(ms(20));
        let started = Instant::now();
        let error = client.acquire("r", options.deadline(SECOND)).await;
        assert!(matches!(error, Err(Error::Contended { .. })), "{error:?}");
        let took = started.elapsed();
        assert!(took + ms(200) > SECOND && took < 2 * SECOND, "{took:?}");
    }
}

#[tokio::test]
async fn who_is_turned_away_is_told_when_the_lease_ends() {
    let cluster = RedisCluster::start(5);
    let client = client(&cluster, MAX_LEASE).await;
    let held = client.acquire("r", lease(20 * SECOND)).await.unwrap();
    for gone in 0..3 {
        if gone > 0 {
            cluster.kill(gone - 1);
        }
        let error = client.acquire("r", lease(SECOND)).await.unwrap_err();
        let Error::Contended {
            retry_after: Some(after),
            attempts: 1,
            ..
        } = error
        else {
            panic!("{gone} gone: {error}")
        };
        let left = held.remaining();
        assert!(
            after >= left && after < left + SECOND,
            "{after:?}, {left:?}"
        );
        assert!(error.to_string().contains("ends in"), "{error}");
    }
}

/// What goes on behind the lock: nobody else's turn, and rising tokens.
#[derive(Default)]
struct Room {
    inside: AtomicUsize,
    highest: AtomicU64,
    turns: AtomicUsize,
}

impl Room {
    async fn work(&self, grant: &Grant, time: Duration) {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "two inside");
        let token = grant.token().as_u64();
        let before = self.highest.swap(token, Ordering::SeqCst);
        assert!(token > before, "{token} after {before}");
        tokio::time::sleep(time).await;
        assert!(grant.is_valid());
        self.inside.fetch_sub(1, Ordering::SeqCst);
        self.turns.fetch_add(1, Ordering::SeqCst);
    }
}

async fn rivals(clients: Vec<Redlock>, turns: usize) -> Duration {
    let inside = Arc::new(Room::default());
    let count = clients.len();
    let mut rivals = tokio::task::JoinSet::new();
    let started = Instant::now();
    for client in clients {
        let inside = Arc::clone(&inside);
        rivals.spawn(async move {
            for _ in 0..turns {
                let options = lease(MINUTE).retries(10_000).delay(ms(50)).jitter(ms(50));
                let grant = client.acquire("r", options).await.unwrap();
                inside.work(&grant, ms(2)).await;
                client.release(&grant).await.unwrap();
            }
        });
    }
    while let Some(done) = rivals.join_next().await {
        done.unwrap();
    }
    assert_eq!(inside.turns.load(Ordering::SeqCst), count * turns);
    started.elapsed()
}

#[tokio::test]
async fn twenty_rivals_for_one_lock_all_get_it_and_never_two_at_once() {
    let cluster = RedisCluster::start(5);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(client(&cluster, MAX_LEASE).await);
    }
    let took = rivals(clients, 3).await;
    // Sixty turns; a livelock of split votes would last as long as the retries.
    assert!(took < 30 * SECOND, "{took:?}");
    let cleared = eventually(SETTLED, || async { locks_left(&cluster).is_empty() });
    assert!(cleared.await, "{:?}", locks_left(&cluster));
}

#[tokio::test]
async fn rivals_that_begin_at_the_same_moment_with_no_delay_settle_it_soon() {
    let cluster = RedisCluster::start(5);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(client(&cluster, MAX_LEASE).await);
    }
    for round in 0..5 {
        let start = Arc::new(tokio::sync::Barrier::new(clients.len()));
        let mut trying = tokio::task::JoinSet::new();
        for client in clients.clone() {
            let start = Arc::clone(&start);
            trying.spawn(async move {
                start.wait().await;
                let name = format!("r{round}");
                let options = lease(MINUTE).retries(3).delay(ms(500)).jitter(ms(0));
                client.acquire(name, options).await
            });
        }
        let results = trying.join_all().await;
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "round {round}");
    }
}

#[tokio::test]
async fn an_outage_shorter_than_the_patience_is_bridged() {
    for hang in [true, false] {
        let cluster = RedisCluster::start_durable(5);
        let client = builder(&cluster)
            .initialise(Some(MAX_LEASE))
            .patience(5 * SECOND)
            .connect()
            .await
            .unwrap();
        for node in 0..3 {
            if hang {
                cluster.pause(node);
            } else {
                cluster.kill(node);
            }
        }
        // One retry, a minute from now: nobody waits for that.
        let options = lease(MINUTE).retries(1).delay(MINUTE);
        let waiter = client.clone();
        let started = Instant::now();
        let waiting = tokio::spawn(async move { waiter.acquire("r", options).await });
        tokio::time::sleep(SECOND).await;
        assert!(!waiting.is_finished());
        for node in 0..3 {
            if hang {
                cluster.resume(node);
            } else {
                cluster.restart(node);
            }
        }
        let grant = waiting.await.unwrap().unwrap();
        assert!(started.elapsed() < 5 * SECOND, "{:?}", started.elapsed());
        assert!(grant.attempts() <= 2);
        client.release(&grant).await.unwrap();
    }
}

/// Counts attempts, as an application's metrics do.
#[derive(Default)]
struct Counter {
    attempts: AtomicUsize,
    acquires: AtomicUsize,
}

impl Observer for Counter {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Attempted { .. } => &self.attempts,
            Event::Acquired { .. } => &self.acquires,
            _ => return,
        }
        .fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_of_one_lease_do_not_ask_all_the_time() {
    let world = World::of(3).await;
    let counter = Arc::new(Counter::default());
    let builder = world.builder().observer(counter.clone());
    let client = builder.connect().await.unwrap();
    let holder = world.client(1).await;
    holder
        .acquire("r", once().lease(10 * SECOND))
        .await
        .unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let client = client.clone();
        let options = once().retries(100).delay(5 * SECOND).deadline(9 * SECOND);
        waiting.spawn(async move { client.acquire("r", options).await });
    }
    for result in waiting.join_all().await {
        assert!(matches!(result, Err(Error::Contended { .. })), "{result:?}");
    }
    // Each tries at once; then they stand in line, and only its head asks again.
    let attempts = counter.attempts.load(Ordering::Relaxed);
    assert!((1_000..1_010).contains(&attempts), "{attempts}");
    assert_eq!(counter.acquires.load(Ordering::Relaxed), 1_000);
}
