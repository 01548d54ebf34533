//! Hazard: waiters that nobody wakes, and commands that pay for one another.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everlock::node::faulty::Mishap;
use everlock::observer::{Event, Observer};
use everlock::{AcquireOptions, Error, FaultKind, Grant, Redlock};
use everlock_testkit::{RedisCluster, RedisServer, SETTLED, eventually};
use support::World;
use support::redis::client;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const MAX_LEASE: Duration = Duration::from_mins(2);

/// So patient that polling would show.
fn patient() -> AcquireOptions {
    AcquireOptions::new().lease(MINUTE).retries(5).delay(MINUTE)
}

fn waiter(client: &Redlock, resource: &'static str) -> tokio::task::JoinHandle<Grant> {
    let client = client.clone();
    tokio::spawn(async move { client.acquire(resource, patient()).await.unwrap() })
}

async fn soon(waiting: tokio::task::JoinHandle<Grant>, what: &str) -> Grant {
    let won = tokio::time::timeout(SETTLED, waiting).await;
    won.unwrap_or_else(|_| panic!("{what}")).unwrap()
}

#[derive(Default)]
struct Attempts(AtomicUsize);

impl Observer for Attempts {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Attempted { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn channels(server: &RedisServer, lock: &str) -> bool {
    let answer = server.command(&["PUBSUB", "NUMSUB", &format!("everlock~free:{lock}")]);
    answer.contains('1')
}

#[tokio::test]
async fn nodes_that_tell_of_different_releases_are_no_quorum() {
    let cluster = RedisCluster::start(3);
    let holder = client(&cluster, MAX_LEASE).await;
    let held = holder.acquire("r", patient()).await.unwrap();
    let attempts = Arc::new(Attempts::default());
    let builder = Redlock::builder().node_urls(cluster.urls());
    let other = builder.observer(attempts.clone()).connect().await.unwrap();
    let waiting = waiter(&other, "r");
    let everywhere = || async { cluster.servers().iter().all(|one| channels(one, "r")) };
    assert!(eventually(SETTLED, everywhere).await);
    tokio::time::sleep(SECOND / 2).await;
    let count = || attempts.0.load(Ordering::Relaxed);
    // What was left of the listening's begin is used up by these.
    for node in 0..3 {
        let token = format!("{:016}", 1 + node);
        cluster.servers()[node].command(&["PUBLISH", "everlock~free:r", &token]);
        tokio::time::sleep(SECOND / 20).await;
    }
    let before = count();
    for (number, node) in [0, 1, 2, 0, 1, 2].into_iter().enumerate() {
        let token = format!("{:016}", 10 + number);
        cluster.servers()[node].command(&["PUBLISH", "everlock~free:r", &token]);
        tokio::time::sleep(SECOND / 20).await;
    }
    assert_eq!(count(), before, "each node told of a release of its own");
    for node in 0..2 {
        let token = format!("{:016}", 77);
        cluster.servers()[node].command(&["PUBLISH", "everlock~free:r", &token]);
    }
    assert!(eventually(SETTLED, || async { count() == before + 1 }).await);
    holder.release(&held).await.unwrap();
    soon(waiting, "woken by the release").await;
}

#[tokio::test]
async fn a_lock_that_a_user_may_not_have_costs_nobody_else_theirs() {
    let rights = "resetchannels &* ~ok* ~everlock~* -@all +@all";
    let cluster =
        RedisCluster::start_with(3, |_, server| server.acl_user("some", "secret", rights));
    let _opened = client(&cluster, MAX_LEASE).await;
    let url = |server: &RedisServer| server.url_as("some", "secret");
    let builder = Redlock::builder().node_urls(cluster.servers().iter().map(url));
    let client = builder.connect().await.unwrap();
    let once = || AcquireOptions::new().retries(0).lease(MINUTE);
    for _ in 0..20 {
        let (ok, refused, also) = tokio::join!(
            client.acquire("ok-1", once()),
            client.acquire("no-1", once()),
            client.acquire("ok-2", once()),
        );
        assert!(refused.is_err());
        let (ok, also) = (ok.unwrap(), also.unwrap());
        let (first, second) = tokio::join!(client.release(&ok), client.release(&also));
        first.unwrap();
        second.unwrap();
    }
}

#[tokio::test]
async fn a_channel_that_a_user_may_not_hear_deafens_no_other_and_makes_no_storm() {
    let rights = "resetchannels &everlock~free:ok* ~* -@all +@all";
    let cluster =
        RedisCluster::start_with(3, |_, server| server.acl_user("some", "secret", rights));
    let holder = client(&cluster, MAX_LEASE).await;
    let url = |server: &RedisServer| server.url_as("some", "secret");
    let builder = Redlock::builder().node_urls(cluster.servers().iter().map(url));
    let other = builder.connect().await.unwrap();
    let no = holder.acquire("no", patient()).await.unwrap();
    let ok = holder.acquire("ok", patient()).await.unwrap();
    let deaf = waiter(&other, "no");
    tokio::time::sleep(SECOND / 5).await;
    let hearing = waiter(&other, "ok");
    let connections = || {
        let info = cluster.servers()[0].command(&["INFO", "stats"]);
        let line = info.split("total_connections_received:").nth(1).unwrap();
        let digits: String = line.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().unwrap()
    };
    tokio::time::sleep(SECOND).await;
    let before = connections();
    tokio::time::sleep(2 * SECOND).await;
    let made = connections() - before;
    assert!(made < 12, "{made} connections in two seconds");
    holder.release(&ok).await.unwrap();
    soon(hearing, "the channel that may be heard").await;
    holder.release(&no).await.unwrap();
    deaf.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_after_one_that_gave_up_never_meets_what_that_one_left() {
    let cluster = RedisCluster::start(3);
    let client = client(&cluster, MAX_LEASE).await;
    for round in 0..200_u64 {
        let held = client.acquire("r", patient()).await.unwrap();
        let first = waiter(&client, "r");
        tokio::time::sleep(Duration::from_millis(3)).await;
        let next = waiter(&client, "r");
        tokio::time::sleep(Duration::from_millis(3)).await;
        let releasing = client.clone();
        let held = tokio::spawn(async move { releasing.release(&held).await });
        tokio::time::sleep(Duration::from_micros(round * 10)).await;
        first.abort();
        held.await.unwrap().unwrap();
        if let Ok(won) = first.await {
            client.release(&won).await.unwrap();
        }
        let won = soon(next, &format!("the next one sleeps in round {round}")).await;
        client.release(&won).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_passed_on_to_somebody_who_goes_away_is_told_to_other_processes() {
    for polls in 0..30 {
        let world = World::of(3).await;
        let (one, other) = (world.client(1).await, world.client(2).await);
        let held = one.acquire("r", patient()).await.unwrap();
        let taker = one.clone();
        let mut taker = Box::pin(async move { taker.acquire("r", patient()).await });
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut taker => unreachable!("the lock is held"),
                () = tokio::task::yield_now() => {}
            }
        }
        let waiting = waiter(&other, "r");
        tokio::time::sleep(SECOND).await;
        one.release(&held).await.unwrap();
        let mut won = None;
        for _ in 0..polls {
            tokio::select! {
                biased;
                grant = &mut taker => { won = Some(grant.unwrap()); break }
                () = tokio::task::yield_now() => {}
            }
        }
        drop(taker);
        if let Some(won) = won {
            one.release(&won).await.unwrap();
        }
        let woken = tokio::time::timeout(SECOND, waiting).await;
        assert!(woken.is_ok(), "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_in_line_tries_when_the_lease_of_the_one_before_ends() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let held = client.acquire("r", patient()).await.unwrap();
    let first = client.clone();
    let short = patient().lease(2 * SECOND);
    let first = tokio::spawn(async move { first.acquire("r", short).await.unwrap() });
    tokio::time::sleep(SECOND).await;
    let next = waiter(&client, "r");
    tokio::time::sleep(SECOND).await;
    client.release(&held).await.unwrap();
    let _never_released = first.await.unwrap();
    let won = tokio::time::timeout(5 * SECOND, next).await;
    assert!(won.is_ok(), "it sleeps for the whole delay");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_over_is_nobodys_answer() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let held = client.acquire("r", patient()).await.unwrap();
    let first = waiter(&client, "r");
    tokio::time::sleep(SECOND).await;
    let next = waiter(&client, "r");
    for node in &world.faulty {
        node.always(Mishap::Refused(FaultKind::Refused));
    }
    // The head tries, in vain.
    tokio::time::sleep(SECOND * 119 / 2).await;
    world.heal();
    let won = tokio::time::timeout(MINUTE, first).await.unwrap().unwrap();
    drop(held);
    let late = patient().retries(2).delay(SECOND);
    let error = client.acquire("r", late).await.unwrap_err();
    assert!(matches!(error, Error::Contended { .. }), "{error}");
    client.release(&won).await.unwrap();
    assert!(next.await.is_ok());
}
