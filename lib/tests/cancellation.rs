//! Hazard: a caller that goes away in the middle of an operation.
//!
//! Every operation is dropped at every index of its polls, under several kinds
//! of faults: whatever was begun is undone or takes its course.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use everlock::node::faulty::Mishap;
use everlock::protocol::Command;
use everlock::{AcquireOptions, FaultKind, OwnerId, Redlock, Resource};
use everlock_testkit::{RedisCluster, eventually};
use support::{World, once};

/// Polls a future this often, as it is woken; then leaves it where it is.
async fn polled<F: Future>(mut future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    let mut polls = 0;
    poll_fn(|context| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Polls a future this often and drops it, unless it is done by then.
async fn dropped_after<F: Future>(future: F, times: usize) -> Option<F::Output> {
    polled(pin!(future), times).await
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The faults that operations are dropped under, by node.
const WEATHERS: [(&str, [Option<Mishap>; 5]); 7] = [
    (
        "answers come one by one",
        [
            None,
            Some(Mishap::ReplyDelayed(ms(3))),
            Some(Mishap::ReplyDelayed(ms(6))),
            Some(Mishap::ReplyDelayed(ms(9))),
            Some(Mishap::ReplyDelayed(ms(12))),
        ],
    ),
    (
        "requests arrive one by one",
        [
            Some(Mishap::RequestDelayed(ms(4))),
            Some(Mishap::RequestDelayed(ms(7))),
            None,
            Some(Mishap::RequestDelayed(ms(10))),
            Some(Mishap::RequestDelayed(ms(1))),
        ],
    ),
    (
        "requests overtake one another",
        [
            Some(Mishap::RequestDelayed(ms(500))),
            Some(Mishap::ReplyDelayed(ms(2))),
            Some(Mishap::ReplyDelayed(ms(4))),
            Some(Mishap::ReplyDelayed(ms(6))),
            Some(Mishap::RequestDelayed(ms(400))),
        ],
    ),
    (
        "two answers are lost",
        [
            Some(Mishap::ReplyLost),
            Some(Mishap::ReplyDelayed(ms(5))),
            None,
            Some(Mishap::ReplyLost),
            Some(Mishap::ReplyDelayed(ms(5))),
        ],
    ),
    (
        "three answers are lost",
        [
            Some(Mishap::ReplyLost),
            Some(Mishap::ReplyLost),
            None,
            Some(Mishap::ReplyLost),
            Some(Mishap::ReplyDelayed(ms(5))),
        ],
    ),
    (
        "connections break, done or not",
        [
            Some(Mishap::Cut(FaultKind::Disconnected)),
            Some(Mishap::Cut(FaultKind::Disconnected)),
            Some(Mishap::Error(FaultKind::Loading)),
            Some(Mishap::Refused(FaultKind::Refused)),
            Some(Mishap::ReplyDelayed(ms(5))),
        ],
    ),
    (
        "servers are stopped",
        [
            Some(Mishap::Stopped),
            Some(Mishap::Stopped),
            Some(Mishap::Stopped),
            Some(Mishap::ReplyDelayed(ms(5))),
            None,
        ],
    ),
];

impl World {
    fn weather(&self, mishaps: [Option<Mishap>; 5]) {
        for (node, mishap) in self.faulty.iter().zip(mishaps) {
            match mishap {
                Some(mishap) => node.always(mishap),
                None => node.heal(),
            }
        }
    }

    /// The weather clears; a second later nothing may be left.
    async fn clears_up(&self) {
        self.heal();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Does `scenario` for 0, 1, 2 … polls until the operation is done within them.
async fn at_every_poll(mut scenario: impl AsyncFnMut(usize) -> bool) -> usize {
    for polls in 0..1_000 {
        if scenario(polls).await {
            return polls;
        }
    }
    panic!("the operation never ends")
}

#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_at_any_poll_leaves_nothing_behind() {
    let mut most = 0;
    for (weather, mishaps) in WEATHERS {
        let world = World::of(5).await;
        let client = world.client(1).await;
        let polls = at_every_poll(async |polls| {
            world.weather(mishaps);
            let options = once().retries(2).delay(ms(20)).jitter(ms(0));
            let result = dropped_after(client.acquire("r", options), polls).await;
            world.clears_up().await;
            if let Some(Ok(grant)) = &result {
                assert!(world.held_by("r", grant.owner()) >= 3, "{weather}");
                client.release(grant).await.unwrap();
            }
            assert_eq!(world.left(), 0, "{weather}, dropped after {polls} polls");
            result.is_some()
        })
        .await;
        most = most.max(polls);
    }
    assert!(most > 5, "the polls must fall between the answers: {most}");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_acquire_dropped_at_any_poll_leaves_nothing_and_disturbs_nobody() {
    for (weather, mishaps) in WEATHERS {
        let world = World::of(5).await;
        let (client, holder) = (world.client(1).await, world.client(2).await);
        at_every_poll(async |polls| {
            let held = holder.acquire("r", once()).await.unwrap();
            world.weather(mishaps);
            let options = once().retries(3).delay(ms(30)).jitter(ms(10));
            let result = dropped_after(client.acquire("r", options), polls).await;
            world.clears_up().await;
            assert!(!matches!(result, Some(Ok(_))), "{weather}: two holders");
            assert_eq!(world.held_by("r", held.owner()), 5, "{weather}, {polls}");
            holder.release(&held).await.unwrap();
            tokio::time::sleep(ms(10)).await;
            assert_eq!(world.left(), 0, "{weather}, dropped after {polls} polls");
            result.is_some()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_dropped_at_any_poll_takes_its_course() {
    for (weather, mishaps) in WEATHERS {
        at_every_poll(async |polls| {
            let world = World::of(5).await;
            let client = world.client(1).await;
            let grant = client.acquire("r", once()).await.unwrap();
            world.weather(mishaps);
            let result = dropped_after(client.release(&grant), polls).await;
            world.clears_up().await;
            if polls > 0 {
                assert_eq!(world.left(), 0, "{weather}, dropped after {polls} polls");
            }
            result.is_some()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_dropped_at_any_poll_refuses_grants_that_are_late() {
    // Two nodes hear of the acquisition long after the release.
    for known in [true, false] {
        at_every_poll(async |polls| {
            let world = World::of(5).await;
            let client = world.client(1).await;
            for node in &world.faulty[..2] {
                node.plan(|command| {
                    let late = Mishap::RequestDelayed(ms(500));
                    matches!(command, Command::Acquire { .. }).then_some(late)
                });
            }
            let grant = client.acquire("r", once()).await.unwrap();
            for (late, node) in (1..).zip(&world.faulty[2..]) {
                node.always(Mishap::ReplyDelayed(ms(5 * late)));
            }
            let result = if known {
                dropped_after(client.release(&grant), polls).await
            } else {
                let held = (grant.resource(), grant.owner());
                dropped_after(client.release(held), polls).await
            };
            tokio::time::sleep(Duration::from_secs(1)).await;
            if polls > 0 {
                let left = world.holders("r");
                assert_eq!(
                    world.left(),
                    0,
                    "dropped after {polls} polls, token known: {known}: {left:?}"
                );
            }
            result.is_some()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_dropped_at_any_poll_loses_nothing() {
    for (weather, mishaps) in WEATHERS {
        at_every_poll(async |polls| {
            let world = World::of(5).await;
            let client = world.client(1).await;
            let grant = client.acquire("r", once()).await.unwrap();
            world.weather(mishaps);
            let by = Duration::from_secs(20);
            let result = dropped_after(client.extend(&grant, by), polls).await;
            world.clears_up().await;
            assert!(grant.is_valid());
            assert_eq!(
                world.held_by("r", grant.owner()),
                5,
                "{weather}, dropped after {polls} polls"
            );
            client.release(&grant).await.unwrap();
            tokio::time::sleep(ms(10)).await;
            assert_eq!(world.left(), 0, "{weather}, dropped after {polls} polls");
            result.is_some()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn work_under_a_lock_dropped_at_any_poll_leaves_the_lock_free() {
    for (weather, mishaps) in WEATHERS {
        let world = World::of(5).await;
        let client = world.client(1).await;
        at_every_poll(async |polls| {
            world.weather(mishaps);
            let work = client.with_lock("r", once().retries(2), async |_| {
                for _ in 0..3 {
                    tokio::time::sleep(ms(2)).await;
                }
            });
            let result = dropped_after(work, polls).await;
            world.clears_up().await;
            assert_eq!(world.left(), 0, "{weather}, dropped after {polls} polls");
            result.is_some()
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_releases_its_lock() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let task = tokio::spawn(async move {
        let work = async |_| panic!("on purpose");
        let _ = client.with_lock::<_, (), _>("r", once(), work).await;
    });
    assert!(task.await.unwrap_err().is_panic());
    tokio::time::sleep(ms(10)).await;
    assert_eq!(world.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_acquire_leaves_the_lock_to_another_call_of_its_owner() {
    let owner = OwnerId::new("one owner").unwrap();
    for (weather, mishaps) in WEATHERS {
        if weather == "servers are stopped" {
            // Then the second call has no quorum either.
            continue;
        }
        let world = World::of(5).await;
        let (first, second) = (world.client(1).await, world.client(2).await);
        at_every_poll(async |polls| {
            world.weather(mishaps);
            let options = once().owner(owner.clone()).retries(3).delay(ms(20));
            let mut cancelled = Box::pin(first.acquire("r", options.clone()));
            let done = polled(cancelled.as_mut(), polls).await.is_some();
            world.heal();
            let options = options.retries(20);
            let grant = second.acquire("r", options).await.unwrap();
            drop(cancelled);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(
                world.held_by("r", &owner) >= 3,
                "{weather}, {polls} polls: {:?}",
                world.holders("r")
            );
            assert!(grant.is_valid());
            second.release(&grant).await.unwrap();
            tokio::time::sleep(ms(10)).await;
            assert_eq!(world.left(), 0, "{weather}, {polls} polls");
            done
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_goes_on_trying_and_is_cancelled_leaves_the_lock_to_its_sibling() {
    // The first call's answers get lost, and its undo is late; a second call of
    // the owner wins by sharing; the first tries again and is then dropped.
    let owner = OwnerId::new("one owner").unwrap();
    let world = World::of(3).await;
    let (first, second) = (world.client(1).await, world.client(2).await);
    let answers = |lost: bool| {
        for node in &world.faulty {
            node.plan(move |command| match command {
                Command::Acquire { .. } if lost => Some(Mishap::ReplyLost),
                Command::Undo { .. } => Some(Mishap::RequestDelayed(ms(700))),
                _ => None,
            });
        }
    };
    let options = once().owner(owner.clone());
    answers(true);
    let trying = {
        let options = options.clone().retries(9).delay(ms(50)).jitter(ms(0));
        tokio::spawn(async move { first.acquire("r", options).await })
    };
    tokio::time::sleep(ms(100)).await;
    answers(false);
    let grant = second.acquire("r", options).await.unwrap();
    answers(true);
    // The first attempt times out, the second one is made, and then nobody waits for it.
    tokio::time::sleep(ms(400)).await;
    trying.abort();
    assert!(trying.await.unwrap_err().is_cancelled());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        world.held_by("r", &owner),
        3,
        "the second call relies on it for {:?} more",
        grant.remaining()
    );
}

/// The keys that locks have left, apart from floors and markers.
fn left_on(cluster: &RedisCluster) -> Vec<String> {
    let servers = cluster.servers().iter();
    let keys = servers.flat_map(everlock_testkit::RedisServer::keys);
    keys.filter(|key| !key.contains('~')).collect()
}

async fn on_redis(cluster: &RedisCluster) -> Redlock {
    let builder = Redlock::builder().node_urls(cluster.urls());
    builder
        .initialise(Some(Duration::from_mins(1)))
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn over_real_redis_nothing_that_was_dropped_leaves_a_key_behind() {
    let cluster = RedisCluster::start(5);
    let client = on_redis(&cluster).await;
    let options = AcquireOptions::new().lease(Duration::from_secs(50));
    for round in 0..10 {
        let mut polls = 0;
        loop {
            let name = format!("acquire-{round}-{polls}");
            let acquire = client.acquire(name.as_str(), options.clone());
            let done = dropped_after(acquire, polls).await;
            if let Some(grant) = done {
                client.release(&grant.unwrap()).await.unwrap();
                break;
            }
            polls += 1;
        }
        let mut polls = 1;
        loop {
            let name = format!("release-{round}-{polls}");
            let grant = client
                .acquire(name.as_str(), options.clone())
                .await
                .unwrap();
            if dropped_after(client.release(&grant), polls).await.is_some() {
                break;
            }
            polls += 1;
        }
        let mut polls = 0;
        loop {
            let name = format!("work-{round}-{polls}");
            let work = client.with_lock(name.as_str(), options.clone(), async |_| {
                tokio::task::yield_now().await;
            });
            if dropped_after(work, polls).await.is_some() {
                break;
            }
            polls += 1;
        }
    }
    let cleared = eventually(Duration::from_secs(1), || async {
        left_on(&cluster).is_empty()
    });
    assert!(cleared.await, "left behind: {:?}", left_on(&cluster));
}

#[tokio::test]
async fn over_real_redis_an_extension_that_was_dropped_loses_nothing() {
    let cluster = RedisCluster::start(3);
    let client = on_redis(&cluster).await;
    let resource = Resource::new("r").unwrap();
    let options = AcquireOptions::new().lease(Duration::from_secs(30));
    let grant = client.acquire(&resource, options).await.unwrap();
    for polls in 0..6 {
        dropped_after(client.extend(&grant, ms(500)), polls).await;
    }
    assert_eq!(cluster.count("r", grant.owner().as_str()), 3);
    client.release(&grant).await.unwrap();
    let cleared = eventually(Duration::from_secs(1), || async {
        left_on(&cluster).is_empty()
    });
    assert!(cleared.await, "left behind: {:?}", left_on(&cluster));
}
