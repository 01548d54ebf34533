//! Hazard: fencing tokens that fall, repeat, or come from a clock that is wrong.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::node::faulty::Mishap;
use everlock::protocol::Command;
use everlock::{AcquireOptions, Error, FaultKind, FencingToken, OwnerId, Redlock};
use support::{World, once};

const HOUR: i64 = 3_600;

async fn acquire_and_release(client: &Redlock) -> FencingToken {
    let grant = client.acquire("r", once().retries(3)).await.unwrap();
    client.release(&grant).await.unwrap();
    grant.token()
}

#[tokio::test(start_paused = true)]
async fn tokens_rise_from_one_holder_to_the_next() {
    let world = World::of(5).await;
    let (one, other) = (world.client(1).await, world.client(2).await);
    let mut last = FencingToken::ZERO;
    for _ in 0..100 {
        for client in [&one, &other] {
            let token = acquire_and_release(client).await;
            assert!(token > last, "{token} after {last}");
            last = token;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_rise_whatever_the_clients_wall_clocks_say() {
    // Within the longest lease (5 min) a floor outruns the others' clocks;
    // beyond it a proposal is refused as ahead.
    for skews in [
        [0, HOUR, -HOUR],
        [60, -60, 0],
        [299, -299, 10],
        [-30 * HOUR, 30 * HOUR, 0],
        [400_000 * HOUR, -400_000 * HOUR, 240],
    ] {
        let world = World::of(5).await;
        let mut clients = Vec::new();
        for (seed, skew) in (1..).zip(skews) {
            let (client, clock) = world.client_with_clock(seed).await;
            clock.skew(skew);
            clients.push(client);
        }
        let mut last = FencingToken::ZERO;
        for round in 0..30 {
            for (client, skew) in clients.iter().zip(skews) {
                let token = acquire_and_release(client).await;
                assert!(
                    token > last,
                    "{token} after {last}: skew {skew}, round {round}"
                );
                last = token;
            }
            tokio::time::advance(Duration::from_millis(7)).await;
        }
        assert_eq!(world.left(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_costs_proposals_and_no_attempts() {
    for skew in [0, 60, -60, HOUR, -30 * HOUR, 400_000 * HOUR] {
        let world = World::of(3).await;
        let honest = world.client(1).await;
        acquire_and_release(&honest).await;
        let (client, clock) = world.client_with_clock(2).await;
        clock.skew(skew);
        let grant = client.try_acquire("r", once()).await.unwrap();
        assert_eq!(grant.attempts(), 1, "skew {skew}");
        // What it learned it keeps: no second proposal is needed.
        client.release(&grant).await.unwrap();
        let before = world.faulty[0].commands();
        client.try_acquire("another", once()).await.unwrap();
        assert_eq!(world.faulty[0].commands() - before, 1, "skew {skew}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_between_two_acquisitions_does_not_lower_the_token() {
    let world = World::of(3).await;
    let (client, clock) = world.client_with_clock(1).await;
    let mut last = FencingToken::ZERO;
    for skew in [0, 200, -200, HOUR, -HOUR, 0, -30 * HOUR, 299, -299] {
        clock.skew(skew);
        let token = acquire_and_release(&client).await;
        assert!(token > last, "{token} after {last}: skew {skew}");
        last = token;
    }
}

#[tokio::test(start_paused = true)]
async fn the_owner_that_asks_again_gets_the_same_token() {
    let world = World::of(5).await;
    let (one, other) = (world.client(1).await, world.client(2).await);
    let owner = OwnerId::new("the owner").unwrap();
    let options = once().owner(owner.clone());
    let first = one.acquire("r", options.clone()).await.unwrap();
    for client in [&one, &other, &one] {
        let again = client.acquire("r", options.clone()).await.unwrap();
        assert_eq!(again.token(), first.token());
        assert_eq!(again.owner(), &owner);
    }
    one.release(&first).await.unwrap();
    let next = one.acquire("r", options).await.unwrap();
    assert!(next.token() > first.token(), "another acquisition");
}

#[tokio::test(start_paused = true)]
async fn an_extension_keeps_the_token() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let grant = client.acquire("r", once()).await.unwrap();
    let extended = client.extend(&grant, Duration::from_secs(5)).await.unwrap();
    assert_eq!(extended.token(), Some(grant.token()));
}

#[tokio::test(start_paused = true)]
async fn tokens_rise_after_a_lease_that_simply_ended() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let mut last = FencingToken::ZERO;
    for _ in 0..20 {
        let lease = Duration::from_millis(200);
        let grant = client.acquire("r", once().lease(lease)).await.unwrap();
        assert!(grant.token() > last);
        last = grant.token();
        tokio::time::advance(lease + Duration::from_millis(1)).await;
        assert!(!grant.is_valid());
    }
}

/// A register that checks the token, and notes every holder.
#[derive(Default)]
struct Storage {
    highest: AtomicU64,
    inside: AtomicU64,
    tokens: Mutex<HashSet<u64>>,
}

impl Storage {
    async fn use_under(&self, token: FencingToken) {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
        let before = self.highest.swap(token.as_u64(), Ordering::SeqCst);
        assert!(token.as_u64() > before, "{token} after {before}");
        assert!(self.tokens.lock().unwrap().insert(token.as_u64()), "unique");
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn rivals_with_clocks_that_differ_get_rising_tokens_and_nobody_starves() {
    let world = World::of(5).await;
    let storage = Arc::new(Storage::default());
    let mut rivals = tokio::task::JoinSet::new();
    for (seed, skew) in (1..).zip([0, 1, -1, 100, -100, 280, HOUR, -HOUR]) {
        let (client, clock) = world.client_with_clock(seed).await;
        clock.skew(skew);
        let storage = Arc::clone(&storage);
        rivals.spawn(async move {
            for _ in 0..10 {
                let options = once()
                    .retries(1_000)
                    .delay(Duration::from_millis(20))
                    .jitter(Duration::from_millis(20));
                let grant = client.acquire("r", options).await.unwrap();
                storage.use_under(grant.token()).await;
                client.release(&grant).await.unwrap();
            }
        });
    }
    while let Some(done) = rivals.join_next().await {
        done.unwrap();
    }
    assert_eq!(storage.tokens.lock().unwrap().len(), 80);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_whole_numbers_that_json_carries() {
    let world = World::of(3).await;
    let (client, clock) = world.client_with_clock(1).await;
    clock.skew(400_000 * HOUR);
    let grant = client.acquire("r", once()).await.unwrap();
    let number = grant.token().as_u64();
    assert!(number <= FencingToken::MAX.as_u64() && number < 1 << 53);
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "that nothing is lost is what is tested"
    )]
    let through_json = number as f64 as u64;
    assert_eq!(through_json, number);
}

#[tokio::test(start_paused = true)]
async fn an_undo_of_an_earlier_attempt_never_takes_the_lock_from_a_later_one() {
    // A client's clock is ahead, so that its first attempt proposes a high token
    // and is then put right by the nodes' median: the next proposal must not be
    // lower, or the undo of the first, which is late on one node, hits the second.
    let world = World::of(3).await;
    let rival = world.client(1).await;
    let brief = once().lease(Duration::from_millis(300));
    rival.acquire("r", brief).await.unwrap();

    let (client, clock) = world.client_with_clock(2).await;
    clock.skew(100);
    let mut acquires = 0;
    world.faulty[2].plan(move |command| match command {
        Command::Acquire { .. } => {
            acquires += 1;
            (acquires == 1).then_some(Mishap::Error(FaultKind::Disconnected))
        }
        // The undo arrives when the second attempt has been made.
        Command::Undo { .. } if acquires < 2 => Some(Mishap::Error(FaultKind::Disconnected)),
        _ => None,
    });
    let mut acquires = 0;
    world.faulty[0].plan(move |command| match command {
        Command::Acquire { .. } => {
            acquires += 1;
            (acquires == 2).then_some(Mishap::Refused(FaultKind::Refused))
        }
        _ => None,
    });
    let options = once().retries(5).delay(Duration::from_secs(1));
    let grant = client.acquire("r", options).await.unwrap();
    assert_eq!(world.held_by("r", grant.owner()), 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        world.held_by("r", grant.owner()),
        2,
        "the undo of the first attempt took the lock of the second: {:?}",
        world.holders("r")
    );
    assert!(grant.is_valid());
    let second = rival.try_acquire("r", AcquireOptions::new()).await;
    assert!(
        matches!(second, Err(Error::Contended { .. })),
        "two hold it at once: {second:?}"
    );
}
