//! Hazard: waiters that rely on somebody of their process, or on news from the nodes, in vain.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everlock::protocol::Command;
use everlock::{AcquireOptions, Error, Grant};
use support::World;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_mins(1);
const MOMENT: Duration = Duration::from_millis(10);

/// So patient that nobody polls while a test runs.
fn patient() -> AcquireOptions {
    AcquireOptions::new()
        .lease(LEASE)
        .retries(10)
        .delay(LEASE)
        .jitter(Duration::ZERO)
}

/// Nobody is told of this.
fn let_go_silently(world: &World, held: &Grant) {
    for node in &world.memory {
        node.apply(&Command::PassOn {
            resource: held.resource().clone(),
            owner: held.owner().clone(),
            token: held.token(),
        });
    }
    assert_eq!(world.left(), 0);
}

/// Polls a future until it waits.
async fn until_it_waits<T>(mut future: Pin<&mut impl Future<Output = T>>) {
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = &mut future => unreachable!("the lock is held"),
            () = tokio::task::yield_now() => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_line_is_empty_at_times_keeps_the_lock_from_nobody() {
    for by_section in [false, true] {
        let world = World::of(3).await;
        let (client, other) = (world.client(1).await, world.client(2).await);
        let stop = Arc::new(AtomicBool::new(false));
        // There is never more than one of them in line, and that only most of the time.
        let mut tasks = Vec::new();
        for _ in 0..2 {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if by_section {
                        let outcome =
                            client.with_lock("r", patient(), async |_| sleep(MOMENT).await);
                        outcome.await.unwrap().release.unwrap();
                    } else {
                        let grant = client.acquire("r", patient()).await.unwrap();
                        sleep(MOMENT).await;
                        client.release(&grant).await.unwrap();
                    }
                    sleep(MOMENT / 10).await;
                }
            }));
        }
        sleep(SECOND).await;
        for _ in 0..10 {
            let turn = timeout(5 * SECOND, other.acquire("r", patient())).await;
            let grant = turn.expect("the others let it have a turn").unwrap();
            other.release(&grant).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
    }
}

/// Somebody waits as the head of its line and is polled no more; the lock is let go then.
#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_polled_keeps_the_lock_from_nobody() {
    let world = World::of(3).await;
    let (client, other) = (world.client(1).await, world.client(2).await);
    let holder = client.acquire("r", patient()).await.unwrap();
    let mut parked = pin!(client.acquire("r", patient()));
    until_it_waits(parked.as_mut()).await;
    let elsewhere = tokio::spawn({
        let other = other.clone();
        async move { other.acquire("r", patient()).await }
    });
    sleep(MOMENT).await;
    client.release(&holder).await.unwrap();
    // It was begun for the parked one, which nobody was told of.
    let grant = timeout(3 * SECOND, elsewhere)
        .await
        .expect("a lock nobody reads of is given back");
    let grant = grant.unwrap().unwrap();
    other.release(&grant).await.unwrap();
    // Those of its process don't wait for it, either.
    for _ in 0..3 {
        let grant = timeout(5 * SECOND, client.acquire("r", patient())).await;
        client.release(&grant.unwrap().unwrap()).await.unwrap();
    }
    let grant = timeout(5 * SECOND, parked).await.unwrap().unwrap();
    client.release(&grant).await.unwrap();
    assert!(client.drained(SECOND).await && other.drained(SECOND).await);
    assert_eq!(world.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_stands_behind_one_that_is_not_polled_becomes_the_head() {
    let world = World::of(3).await;
    let (client, other) = (world.client(1).await, world.client(2).await);
    let holder = other.acquire("r", patient()).await.unwrap();
    let mut parked = pin!(client.acquire("r", patient().retries(1).delay(SECOND)));
    until_it_waits(parked.as_mut()).await;
    let behind = tokio::spawn({
        let client = client.clone();
        // It polls often enough, if only it is let.
        async move {
            client
                .acquire("r", patient().retries(1_000).delay(SECOND / 5))
                .await
        }
    });
    sleep(MOMENT).await;
    let_go_silently(&world, &holder);
    let grant = timeout(6 * SECOND, behind)
        .await
        .expect("it asks itself by and by");
    client.release(&grant.unwrap().unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_of_a_lock_that_was_held_long_ago() {
    let world = World::of(3).await;
    let (client, other) = (world.client(1).await, world.client(2).await);
    let holder = other.acquire("r", patient()).await.unwrap();
    let head = tokio::spawn({
        let client = client.clone();
        async move { client.acquire("r", patient()).await }
    });
    sleep(MOMENT).await;
    let_go_silently(&world, &holder);
    let options = patient().retries(20).delay(SECOND / 20);
    let crowd: Vec<_> = (0..20)
        .map(|_| {
            let (client, options) = (client.clone(), options.clone());
            tokio::spawn(async move { client.acquire("r", options).await })
        })
        .collect();
    let mut won = 0;
    for one in crowd {
        match one.await.unwrap() {
            Ok(_) => won += 1,
            Err(Error::Contended { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(won, 1, "one asks, and has the lock");
    head.abort();
}

#[tokio::test(start_paused = true)]
async fn a_section_that_comes_late_to_what_was_handed_on_asks_the_nodes() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let brief = patient().lease(SECOND / 2);
    let holder = client.acquire("r", brief.clone()).await.unwrap();
    let first = tokio::spawn({
        let (client, brief) = (client.clone(), brief.clone());
        async move {
            client
                .with_lock("r", brief, async |held| held.token())
                .await
        }
    });
    sleep(MOMENT).await;
    let remaining = async |held: everlock::Held| held.remaining();
    let mut parked = pin!(client.with_lock("r", brief, remaining));
    until_it_waits(parked.as_mut()).await;
    client.release(&holder).await.unwrap();
    first.await.unwrap().unwrap().release.unwrap();
    // It has lain there for the most part of its lease.
    sleep(SECOND * 2 / 5).await;
    let started = Instant::now();
    let outcome = timeout(SECOND, parked).await.unwrap().unwrap();
    assert!(outcome.value > SECOND / 4, "{:?}", outcome.value);
    assert!(outcome.valid_to_the_end && started.elapsed() < SECOND);
    assert!(client.drained(SECOND).await);
    assert_eq!(world.left(), 0);
}
