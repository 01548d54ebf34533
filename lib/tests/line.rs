//! Waiters of one process stand in line, and the lock passes from one to the next.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use everlock::observer::{Event, Observer};
use everlock::{AcquireOptions, Error, OwnerId, Redlock};
use everlock_testkit::{RedisCluster, SETTLED, eventually};
use support::redis::{client, locks_left};
use support::{World, once};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// So patient that nobody polls while a test runs.
fn patient() -> AcquireOptions {
    AcquireOptions::new()
        .lease(MINUTE)
        .retries(10)
        .delay(MINUTE)
}

#[derive(Default)]
struct Counter(AtomicUsize);

impl Observer for Counter {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Attempted { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sections on one lock, by so many tasks: how many each had.
async fn sections(client: &Redlock, tasks: usize, each: usize, by_guard: bool) -> Vec<usize> {
    let (inside, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let (done, half) = (Arc::new(AtomicUsize::new(0)), tasks * each / 2);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (client, inside, last) = (client.clone(), Arc::clone(&inside), Arc::clone(&last));
        let done = Arc::clone(&done);
        running.spawn(async move {
            let mut by_half = 0;
            for _ in 0..each {
                let guard = client.lock("r", patient()).await.unwrap();
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                let token = guard.token().as_u64();
                assert!(last.swap(token, Ordering::SeqCst) < token, "tokens rise");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                by_half += usize::from(done.fetch_add(1, Ordering::SeqCst) < half);
                if by_guard {
                    drop(guard);
                } else {
                    guard.release().await.unwrap();
                }
            }
            by_half
        });
    }
    running.join_all().await
}

#[tokio::test]
async fn the_lock_passes_through_the_line_without_polling_and_everybody_gets_its_share() {
    let cluster = RedisCluster::start(5);
    for by_guard in [false, true] {
        let counter = Arc::new(Counter::default());
        let builder = Redlock::builder()
            .node_urls(cluster.urls())
            .initialise(None);
        let client = builder.observer(counter.clone()).connect().await.unwrap();
        let (tasks, each) = (16, 25);
        let running = sections(&client, tasks, each, by_guard);
        let by_half = tokio::time::timeout(MINUTE / 2, running).await;
        let by_half = by_half.expect("nobody waits for a delay of a minute");
        // When half of the sections are over, everybody has had about half of its own.
        let (least, most) = (by_half.iter().min().unwrap(), by_half.iter().max().unwrap());
        assert!(most - least <= 2, "{by_half:?}");
        let attempts = counter.0.load(Ordering::Relaxed);
        // A herd would make sixteen attempts for each section.
        assert!(attempts <= 2 * tasks * each, "{attempts}");
        assert!(client.drained(SETTLED).await);
        // A release is over when a quorum has answered; the others hear of it.
        let cleared = eventually(SETTLED, || async { locks_left(&cluster).is_empty() });
        assert!(cleared.await, "{:?}", locks_left(&cluster));
    }
}

#[tokio::test]
async fn an_owner_that_asks_again_need_not_stand_in_line() {
    let cluster = RedisCluster::start(3);
    let client = client(&cluster, MINUTE * 2).await;
    let owner = OwnerId::new("me").unwrap();
    let first = client
        .acquire("r", patient().owner(owner.clone()))
        .await
        .unwrap();
    let other = client.clone();
    let waiting = tokio::spawn(async move { other.acquire("r", patient()).await });
    tokio::time::sleep(SECOND / 5).await;
    let again = client.acquire("r", patient().owner(owner));
    let again = tokio::time::timeout(5 * SECOND, again)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.token(), first.token());
    client.release(&again).await.unwrap();
    let next = tokio::time::timeout(5 * SECOND, waiting).await;
    assert!(next.unwrap().unwrap().unwrap().token() > first.token());
}

#[tokio::test(start_paused = true)]
async fn who_never_became_the_head_is_told_what_the_head_was() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let holder = client.acquire("r", patient()).await.unwrap();
    let head = client.clone();
    let head = tokio::spawn(async move { head.acquire("r", patient()).await });
    tokio::time::sleep(SECOND / 2).await;
    let options = patient().retries(1).delay(SECOND);
    let error = client.acquire("r", options).await.unwrap_err();
    let Error::Contended {
        attempts,
        retry_after,
        report,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((attempts, report.nodes.len()), (0, 3));
    // The holder's lease of a minute began about two seconds ago.
    let left = retry_after.unwrap();
    assert!(left > 50 * SECOND && left < 59 * SECOND, "{left:?}");
    client.release(&holder).await.unwrap();
    assert!(head.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_goes_away_at_any_moment_leaves_the_lock_to_the_next() {
    for polls in 0..40 {
        let world = World::of(3).await;
        let client = world.client(1).await;
        let holder = client.acquire("r", patient()).await.unwrap();
        let first = client.clone();
        let mut head = Box::pin(async move { first.acquire("r", patient()).await });
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut head => unreachable!("the lock is held"),
                () = tokio::task::yield_now() => {}
            }
        }
        let next = client.clone();
        let next = tokio::spawn(async move { next.acquire("r", patient()).await });
        tokio::task::yield_now().await;
        client.release(&holder).await.unwrap();
        let mut won = None;
        for _ in 0..polls {
            tokio::select! {
                biased;
                grant = &mut head => { won = Some(grant.unwrap()); break }
                () = tokio::task::yield_now() => {}
            }
        }
        drop(head);
        if let Some(won) = &won {
            client.release(won).await.unwrap();
        }
        let next = tokio::time::timeout(SECOND, next).await;
        let next = next
            .unwrap_or_else(|_| panic!("after {polls} polls"))
            .unwrap()
            .unwrap();
        client.release(&next).await.unwrap();
        assert!(client.drained(SECOND).await);
        assert_eq!(world.left(), 0, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn one_attempt_stands_in_no_line() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let _held = client.acquire("r", patient()).await.unwrap();
    let head = client.clone();
    let _head = tokio::spawn(async move { head.acquire("r", patient()).await });
    tokio::time::sleep(SECOND).await;
    let error = client.acquire("r", once()).await.unwrap_err();
    assert!(
        matches!(error, Error::Contended { attempts: 1, .. }),
        "{error}"
    );
}
