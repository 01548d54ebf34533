//! Hazard: a client that stands still in the middle: a paused machine, a long
//! stop of the process. Its timers did not run, and its leases did.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everlock::clock::{Clock, Moment, WallTime};
use everlock::protocol::Command;
use everlock::{Error, Redlock};
use support::{TokioClock, World, once};

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_mins(1);

/// A clock on which time can pass while no timer runs.
#[derive(Debug)]
struct SuspendedClock {
    running: TokioClock,
    missed: AtomicU64,
}

impl SuspendedClock {
    fn miss(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.missed.fetch_add(millis, Ordering::SeqCst);
    }

    fn missed(&self) -> Duration {
        Duration::from_millis(self.missed.load(Ordering::SeqCst))
    }
}

impl Clock for SuspendedClock {
    fn now(&self) -> Moment {
        self.running.now() + self.missed()
    }

    fn wall(&self) -> WallTime {
        self.running.wall().plus(self.missed())
    }
}

async fn client(world: &World) -> (Redlock, Arc<SuspendedClock>) {
    let clock = Arc::new(SuspendedClock {
        running: world.clock(),
        missed: AtomicU64::new(0),
    });
    let builder = world.builder().clock(clock.clone());
    (builder.connect().await.unwrap(), clock)
}

/// The client stands still for this long while the answers to such commands are under way.
fn suspend_at(
    world: &World,
    clock: &Arc<SuspendedClock>,
    time: Duration,
    at: fn(&Command) -> bool,
) {
    let clock = Arc::clone(clock);
    let mut times = 1;
    world.faulty[0].plan(move |command| {
        if at(command) && times > 0 {
            times -= 1;
            clock.miss(time);
        }
        None
    });
}

const fn acquires(command: &Command) -> bool {
    matches!(command, Command::Acquire { .. })
}

const fn extends(command: &Command) -> bool {
    matches!(command, Command::Extend { .. })
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_off_a_lease_is_a_hundredth_and_two_milliseconds() {
    let world = World::of(3).await;
    let (client, _) = client(&world).await;
    let grant = client.acquire("r", once()).await.unwrap();
    let relied_on = Duration::from_millis(60_000 - 600 - 2);
    assert_eq!(grant.remaining(), relied_on);
    let extended = client.extend(&grant, LEASE).await.unwrap();
    let relied_on = Duration::from_millis(120_000 - 1_200 - 2);
    assert_eq!(extended.remaining(), relied_on);
}

#[tokio::test(start_paused = true)]
async fn a_grant_whose_answers_are_read_after_a_suspension_is_no_lock() {
    for (time, relied_on) in [
        (Duration::from_millis(60_000 - 603), true),
        (Duration::from_millis(60_000 - 602), false),
        (LEASE, false),
        (LEASE * 20, false),
    ] {
        let world = World::of(3).await;
        let (client, clock) = client(&world).await;
        suspend_at(&world, &clock, time, acquires);
        let result = client.acquire("r", once()).await;
        if relied_on {
            assert!(result.unwrap().is_valid(), "{time:?}");
            continue;
        }
        assert!(
            matches!(result, Err(Error::Unavailable { .. })),
            "{time:?}: {result:?}"
        );
        tokio::time::sleep(SECOND).await;
        assert_eq!(world.left(), 0, "{time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_of_which_less_is_left_than_was_asked_for_is_no_lock() {
    for (time, enough) in [(4, true), (6, false)] {
        let world = World::of(3).await;
        let (client, clock) = client(&world).await;
        suspend_at(&world, &clock, time * SECOND, acquires);
        let options = once().lease(10 * SECOND).min_validity(5 * SECOND);
        let result = client.acquire("r", options).await;
        assert_eq!(result.is_ok(), enough, "{result:?}");
        tokio::time::sleep(SECOND).await;
        assert_eq!(world.left() == 0, !enough);
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_is_read_after_a_suspension_says_that_the_lock_is_lost() {
    let world = World::of(3).await;
    let (client, clock) = client(&world).await;
    let grant = client.acquire("r", once()).await.unwrap();
    suspend_at(&world, &clock, 3 * LEASE, extends);
    let result = client.extend(&grant, SECOND).await;
    assert!(matches!(result, Err(Error::Lost)), "{result:?}");
    assert!(!grant.is_valid());
}

#[tokio::test(start_paused = true)]
async fn a_holder_knows_after_a_suspension_that_its_lock_is_over() {
    let world = World::of(3).await;
    let (client, clock) = client(&world).await;
    let grant = client.acquire("r", once()).await.unwrap();
    clock.miss(LEASE / 2);
    assert!(grant.is_valid() && grant.remaining() < LEASE / 2);
    clock.miss(LEASE / 2);
    assert!(!grant.is_valid());
}
