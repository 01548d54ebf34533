//! Hazard: a holder that believes in a lock which it has lost.
//!
//! Guards renew while they are held, tell a loss once and by their own deadline,
//! and leave nothing behind.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::node::faulty::Mishap;
use everlock::observer::{Event, GuardEnd, Observer};
use everlock::{AcquireOptions, Error, LossReason};
use support::World;

const LEASE: Duration = Duration::from_secs(6);

fn options() -> AcquireOptions {
    AcquireOptions::new().lease(LEASE).retries(0)
}

fn cut_off(world: &World) {
    for node in &world.faulty {
        node.always(Mishap::RequestLost);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guarded_lock_outlives_its_lease_for_as_long_as_it_is_held() {
    let world = World::of(5).await;
    let (holder, rival) = (world.client(1).await, world.client(2).await);
    let guard = holder.lock("r", options()).await.unwrap();
    for _ in 0..50 {
        tokio::time::sleep(LEASE / 5).await;
        assert!(guard.is_valid());
        assert!(matches!(
            rival.acquire("r", options()).await,
            Err(Error::Contended { .. })
        ));
    }
    let token = guard.token();
    guard.release().await.unwrap();
    assert!(rival.acquire("r", options()).await.unwrap().token() > token);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_cut_off_hears_of_its_loss_by_its_deadline_and_once() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let guard = client.lock("r", options()).await.unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let (seen, held) = (Arc::clone(&told), guard.held());
    guard.on_lost(move |reason| {
        assert_eq!(reason, LossReason::Expired);
        assert!(!held.is_valid(), "when it is told, the lock looks lost");
        seen.fetch_add(1, Ordering::SeqCst);
    });
    guard.on_lost(|_| panic!("a handler's panic harms nobody"));
    cut_off(&world);
    let deadline = guard.remaining();
    assert!(!guard.lost_token().is_cancelled());
    let reason = tokio::time::timeout(deadline + Duration::from_millis(10), guard.lost()).await;
    assert_eq!(
        reason,
        Ok(LossReason::Expired),
        "not later than the deadline"
    );
    let seen = Arc::clone(&told);
    guard.on_lost(move |_| {
        seen.fetch_add(10, Ordering::SeqCst);
    });
    assert_eq!(
        told.load(Ordering::SeqCst),
        11,
        "who comes late is told at once"
    );
    world.heal();
    assert!(matches!(guard.release().await, Err(Error::Lost)));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((told.load(Ordering::SeqCst), world.left()), (11, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_nodes_say_is_gone_is_told_with_the_next_renewal() {
    let world = World::of(5).await;
    let (holder, operator) = (world.client(1).await, world.client(2).await);
    let guard = holder.lock("r", options()).await.unwrap();
    operator
        .release((guard.resource(), guard.owner()))
        .await
        .unwrap();
    let lost = tokio::time::timeout(LEASE / 2, guard.lost()).await;
    assert_eq!(lost, Ok(LossReason::Gone));
    assert!(
        !guard.is_valid(),
        "although the lease that was granted has not ended"
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_no_lock() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let guard = client.lock("r", options()).await.unwrap();
    for _ in 0..5 {
        cut_off(&world);
        tokio::time::sleep(LEASE / 3).await;
        world.heal();
        tokio::time::sleep(LEASE / 2).await;
        assert!(guard.is_valid() && !guard.lost_token().is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_renewed_after_the_release() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let guard = client.lock("r", options()).await.unwrap();
    let held = guard.held();
    tokio::time::sleep(LEASE).await;
    guard.release().await.unwrap();
    assert!(client.drained(Duration::from_secs(1)).await);
    let before: u64 = world.faulty.iter().map(|node| node.commands()).sum();
    tokio::time::sleep(LEASE * 10).await;
    let after: u64 = world.faulty.iter().map(|node| node.commands()).sum();
    assert_eq!((before, world.left()), (after, 0));
    assert!(!held.lost_token().is_cancelled(), "a release is no loss");
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_dropped_releases_its_lock_and_tells_nobody_of_a_loss() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let guard = client.lock("r", options()).await.unwrap();
    let held = guard.held();
    held.on_lost(|reason| unreachable!("not lost: {reason:?}"));
    drop(guard);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.left(), 0);
    tokio::time::sleep(LEASE * 2).await;
    assert!(!held.lost_token().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn what_was_released_is_valid_no_longer_for_whoever_knows_of_it() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let grant = client.acquire("r", options()).await.unwrap();
    let known = grant.clone();
    drop(client.release(&grant));
    assert!(known.is_valid(), "nothing was sent");
    client.release(&grant).await.unwrap();
    assert!(!known.is_valid() && known.remaining().is_zero());
    let extended = client.extend(&known, LEASE).await;
    assert!(matches!(extended, Err(Error::Lost)), "{extended:?}");

    let guard = client.lock("r", options()).await.unwrap();
    let held = guard.held();
    guard.release().await.unwrap();
    assert!(!held.is_valid() && !held.lost_token().is_cancelled());
    let guard = client.lock("r", options()).await.unwrap();
    let held = guard.held();
    drop(guard);
    assert!(!held.is_valid() && !held.lost_token().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_may_not_have_been_released_is_not_trusted_any_more() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let grant = client.acquire("r", options()).await.unwrap();
    cut_off(&world);
    let released = client.release(&grant).await;
    assert!(
        matches!(released, Err(Error::Unavailable { .. })),
        "{released:?}"
    );
    assert!(!grant.is_valid());
    world.heal();
    // Again, unless what was left of the first time did it.
    let released = client.release(&grant).await;
    assert!(
        matches!(released, Ok(()) | Err(Error::NotHeld { .. })),
        "{released:?}"
    );
    assert_eq!(world.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_was_on_its_way_does_not_bring_a_released_lock_back() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let grant = client.acquire("r", options()).await.unwrap();
    for node in &world.faulty {
        node.always(Mishap::ReplyDelayed(Duration::from_millis(40)));
    }
    let releasing = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        client.release(&grant).await
    };
    let (extended, released) = tokio::join!(client.extend(&grant, LEASE), releasing);
    released.unwrap();
    assert!(matches!(extended, Err(Error::Lost)), "{extended:?}");
    assert!(!grant.is_valid());
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_released_under_its_guard_is_lost_to_it() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let guard = client.lock("r", options()).await.unwrap();
    tokio::time::sleep(LEASE / 10).await;
    client.release(&**guard).await.unwrap();
    assert!(!guard.is_valid());
    let lost = tokio::time::timeout(LEASE / 2, guard.lost()).await;
    assert_eq!(lost, Ok(LossReason::Gone));
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_held_no_longer_than_it_may_be() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let guard = client
        .lock("r", options().max_hold(LEASE * 2))
        .await
        .unwrap();
    tokio::time::sleep(LEASE * 2).await;
    assert!(guard.is_valid());
    let lost = tokio::time::timeout(LEASE * 2, guard.lost()).await;
    assert_eq!(lost, Ok(LossReason::HeldTooLong));
}

#[tokio::test(start_paused = true)]
async fn the_shortest_lease_is_kept_without_a_storm_of_commands() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let tiny = AcquireOptions::new()
        .lease(Duration::from_millis(10))
        .retries(0);
    let guard = client.lock("r", tiny).await.unwrap();
    let before: u64 = world.faulty.iter().map(|node| node.commands()).sum();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(guard.is_valid());
    let after: u64 = world.faulty.iter().map(|node| node.commands()).sum();
    assert!(
        after - before <= 5 * 250,
        "{} commands in a second",
        after - before
    );
}

/// The ends of guards, and how long these were held.
#[derive(Default)]
struct Ends(Mutex<Vec<(GuardEnd, Duration)>>);

impl Observer for Ends {
    fn event(&self, event: &Event<'_>) {
        if let Event::GuardEnded { end, held } = event {
            self.0.lock().unwrap().push((*end, *held));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_each_guard_is_told_to_the_observer_once() {
    let world = World::of(5).await;
    let ends = Arc::new(Ends::default());
    let client = world.builder().observer(ends.clone()).connect().await;
    let client = client.unwrap();
    let told = || std::mem::take(&mut *ends.0.lock().unwrap());
    let held = Duration::from_secs(20);

    let guard = client.lock("released", options()).await.unwrap();
    tokio::time::sleep(held).await;
    assert_eq!(told(), []);
    guard.release().await.unwrap();
    let dropped = client.lock("dropped", options()).await.unwrap();
    drop(dropped);
    let [(GuardEnd::Released, long), (GuardEnd::Released, short)] = told()[..] else {
        panic!("two were released");
    };
    assert!(long >= held && short < held, "{long:?} {short:?}");

    let guard = client.lock("lost", options()).await.unwrap();
    cut_off(&world);
    guard.lost().await;
    let Err(Error::Lost) = guard.release().await else {
        panic!("it was lost");
    };
    tokio::time::sleep(held).await;
    let [(GuardEnd::Lost(LossReason::Expired), lost)] = told()[..] else {
        panic!("one was lost");
    };
    assert!(lost <= LEASE, "{lost:?}");
}

#[tokio::test(start_paused = true)]
async fn a_release_tells_for_how_long_the_lock_was_held_whoever_acquired_it() {
    let world = World::of(5).await;
    let (holder, other) = (world.client(1).await, world.client(2).await);
    let held = Duration::from_millis(1_500);
    let near = Duration::from_millis(1_450)..Duration::from_secs(2);
    let grant = holder.acquire("r", options()).await.unwrap();
    tokio::time::sleep(held).await;
    let (resource, owner) = (grant.resource(), grant.owner());
    let released = other.release_timed((resource, owner)).await.unwrap();
    let told = released.held_for.unwrap();
    assert!(near.contains(&told), "{told:?} by name, at another client");
    let grant = holder.acquire("r", options()).await.unwrap();
    tokio::time::sleep(held).await;
    let told = holder
        .release_timed(&grant)
        .await
        .unwrap()
        .held_for
        .unwrap();
    assert!(near.contains(&told), "{told:?} by grant");
}
