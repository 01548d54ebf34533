//! Hazard: messages that arrive when nobody waits for them any more.
//!
//! A stopped server's kernel still takes requests in, also on connections that
//! are closed meanwhile; the server works through all of them when it goes on.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use everlock::node::faulty::{FaultyNode, Mishap, Odds};
use everlock::node::memory::MemoryNode;
use everlock::protocol::Command;
use everlock::{AcquireOptions, Error, FaultKind, Redlock, Resource};
use everlock_testkit::{FaultProxy, Flow, RedisCluster, SETTLED, eventually};
use support::redis::{client, locks_left, locks_on};
use support::{Dice, World, once};

const SECOND: Duration = Duration::from_secs(1);
const MAX_LEASE: Duration = Duration::from_mins(2);
const LEASE: Duration = Duration::from_mins(1);

fn attempt() -> AcquireOptions {
    AcquireOptions::new().lease(LEASE).retries(0)
}

/// Makes so many attempts on resources of their own, in waves, all of which fail.
async fn attempts_that_time_out(client: &Redlock, attempts: usize, waves: usize) {
    let failed = Arc::new(AtomicUsize::new(0));
    for wave in 0..waves {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..attempts / waves {
            let (client, failed) = (client.clone(), Arc::clone(&failed));
            tasks.spawn(async move {
                let name = format!("late-{wave}-{number}");
                let result = client.acquire(name, attempt()).await;
                assert!(
                    matches!(result, Err(Error::Unavailable { .. })),
                    "{result:?}"
                );
                failed.fetch_add(1, Ordering::Relaxed);
            });
        }
        tasks.join_all().await;
    }
    assert_eq!(failed.load(Ordering::Relaxed), attempts);
}

/// Goes on acquiring and releasing until told to stop: how often that worked.
fn other_traffic(client: Redlock, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<usize> {
    tokio::spawn(async move {
        let mut done = 0;
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("traffic-{number}");
            if let Ok(grant) = client.acquire(name, attempt()).await {
                let _ = client.release(&grant).await;
                done += 1;
            }
        }
        done
    })
}

fn late(cluster: &RedisCluster) -> Vec<String> {
    let mut left = locks_left(cluster);
    left.retain(|key| key.starts_with("late"));
    left
}

async fn stopped_for(longer: Duration) {
    let cluster = RedisCluster::start(5);
    let failing = client(&cluster, MAX_LEASE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let traffic = other_traffic(client(&cluster, MAX_LEASE).await, Arc::clone(&stop));
    for node in [0, 2, 4] {
        cluster.pause(node);
    }
    attempts_that_time_out(&failing, 1_000, 4).await;
    tokio::time::sleep(longer).await;
    for node in [0, 2, 4] {
        cluster.resume(node);
    }
    // A thousand undos on each of three nodes, beside other traffic; the leases last longer.
    let cleared = eventually(LEASE / 2, || async { late(&cluster).is_empty() });
    assert!(cleared.await, "left: {:?}", late(&cluster).len());
    // Nothing comes later either, and the others can go on.
    tokio::time::sleep(SECOND).await;
    assert_eq!(late(&cluster), Vec::<String>::new());
    stop.store(true, Ordering::Relaxed);
    assert!(traffic.await.unwrap() > 10, "traffic went on");
    let cleared = eventually(SETTLED, || async { locks_left(&cluster).is_empty() });
    assert!(cleared.await, "left: {:?}", locks_left(&cluster));
    for name in ["late-0-0", "late-3-249"] {
        let grant = failing.acquire(name, attempt()).await.unwrap();
        failing.release(&grant).await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_attempts_on_stopped_servers_leave_no_key_when_these_go_on() {
    stopped_for(Duration::ZERO).await;
}

#[tokio::test]
async fn requests_left_in_connections_that_were_closed_meanwhile_leave_no_key() {
    // Long enough for the client to have given the connections up.
    stopped_for(3 * SECOND).await;
}

#[tokio::test]
async fn a_stopped_minority_keeps_nothing_of_locks_that_came_and_went() {
    let cluster = RedisCluster::start(5);
    let client = client(&cluster, MAX_LEASE).await;
    cluster.pause(1);
    cluster.pause(3);
    for number in 0..200 {
        let name = format!("late-{number}");
        let grant = client.acquire(name, attempt()).await.unwrap();
        client.release(&grant).await.unwrap();
    }
    cluster.resume(1);
    cluster.resume(3);
    let cleared = eventually(SETTLED, || async { locks_left(&cluster).is_empty() });
    assert!(cleared.await, "left: {:?}", locks_left(&cluster));
    tokio::time::sleep(SECOND).await;
    assert_eq!(locks_left(&cluster), Vec::<String>::new());
}

#[tokio::test]
async fn a_network_that_stalls_and_heals_brings_nothing_back() {
    let cluster = RedisCluster::start(3);
    let mut proxies = Vec::new();
    for server in cluster.servers() {
        proxies.push(FaultProxy::in_front_of(server).await);
    }
    let urls = proxies.iter().map(FaultProxy::url);
    let builder = Redlock::builder().node_urls(urls);
    let builder = builder.initialise(Some(MAX_LEASE));
    let client = builder.connect().await.unwrap();
    for stalled_for in [Duration::from_millis(100), 3 * SECOND] {
        for proxy in &proxies[..2] {
            proxy.requests(Flow::Stall);
        }
        attempts_that_time_out(&client, 100, 2).await;
        tokio::time::sleep(stalled_for).await;
        for proxy in &proxies {
            proxy.heal().await;
        }
        let cleared = eventually(SETTLED, || async { late(&cluster).is_empty() });
        assert!(cleared.await, "left: {:?}", late(&cluster));
        tokio::time::sleep(SECOND).await;
        assert_eq!(late(&cluster), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_after_its_undo_is_refused() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    for node in &world.faulty {
        node.plan(|command| {
            let late = Mishap::RequestDelayed(Duration::from_secs(5));
            matches!(command, Command::Acquire { .. }).then_some(late)
        });
    }
    let result = client.acquire("r", once()).await;
    assert!(
        matches!(result, Err(Error::Unavailable { .. })),
        "{result:?}"
    );
    assert!(client.drained(SECOND).await, "the undos were answered");
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(world.left(), 0, "the requests arrived after their undos");
    for node in &world.faulty {
        assert!(node.mishaps() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_arrives_after_the_release_is_refused() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    for node in &world.faulty[..2] {
        node.plan(|command| {
            let late = Mishap::RequestDelayed(Duration::from_secs(5));
            matches!(command, Command::Acquire { .. }).then_some(late)
        });
    }
    let grant = client.acquire("r", once()).await.unwrap();
    client.release(&grant).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(world.left(), 0, "{:?}", world.holders("r"));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_meets_the_grant_of_an_earlier_attempt_refuses_the_later_one_too() {
    // On one node the first attempt's grant is in place still when the lock, won
    // by the second attempt elsewhere, is released; then the second one arrives.
    let world = World::of(3).await;
    let client = world.client(1).await;
    for node in &world.faulty[..2] {
        node.script([Some(Mishap::Refused(FaultKind::Refused))]);
    }
    let mut acquires = 0;
    world.faulty[2].plan(move |command| match command {
        Command::Acquire { .. } => {
            acquires += 1;
            let late = Mishap::RequestDelayed(3 * SECOND);
            Some(if acquires == 1 {
                Mishap::ReplyLost
            } else {
                late
            })
        }
        Command::Undo { .. } => Some(Mishap::RequestDelayed(5 * SECOND)),
        _ => None,
    });
    let grant = client.acquire("r", once().retries(3)).await.unwrap();
    assert_eq!(world.held_by("r", grant.owner()), 3);
    client.release(&grant).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(world.left(), 0, "{:?}", world.holders("r"));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_answered_too_late_refuses_late_grants_too() {
    // Nobody has confirmed the release in time; who said that it holds nothing
    // must be settled nevertheless, since its grant is on its way.
    let world = World::of(3).await;
    let client = world.client(1).await;
    world.faulty[0].plan(|command| {
        let late = Mishap::RequestDelayed(2 * SECOND);
        matches!(command, Command::Acquire { .. }).then_some(late)
    });
    let grant = client.acquire("r", once()).await.unwrap();
    for node in &world.faulty[1..] {
        node.always(Mishap::ReplyDelayed(Duration::from_millis(390)));
    }
    let released = client.release(&grant).await;
    assert!(
        matches!(released, Err(Error::Unavailable { .. })),
        "{released:?}"
    );
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(world.left(), 0, "{:?}", world.holders("r"));
}

#[tokio::test(start_paused = true)]
async fn a_release_by_name_ends_the_grant_that_it_learns_of_though_the_second_request_fails() {
    let world = World::of(3).await;
    let holder = world.client(1).await;
    let (client, clock) = world.client_with_clock(2).await;
    let grant = holder.acquire("r", once()).await.unwrap();
    // Its reading is below the token of the grant, so each node must be asked again.
    clock.skew(-60);
    for node in &world.faulty {
        let mut releases = 0;
        node.plan(move |command| {
            releases += u32::from(matches!(command, Command::Release { .. }));
            (releases == 2).then_some(Mishap::Refused(FaultKind::Refused))
        });
    }
    let name = Resource::new("r").unwrap();
    let error = client.release((&name, grant.owner())).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    world.heal();
    assert!(client.drained(10 * SECOND).await);
    assert_eq!(world.left(), 0, "{:?}", world.holders("r"));
}

#[tokio::test(start_paused = true)]
async fn a_late_undo_never_hits_the_next_acquisition_of_the_same_owner() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    for node in &world.faulty {
        node.plan(|command| match command {
            Command::Acquire { .. } => Some(Mishap::ReplyLost),
            Command::Undo { .. } => Some(Mishap::RequestDelayed(5 * SECOND)),
            _ => None,
        });
    }
    let owner = everlock::OwnerId::new("the owner").unwrap();
    let options = once().owner(owner.clone());
    let result = client.acquire("r", options.clone()).await;
    assert!(
        matches!(result, Err(Error::Unavailable { .. })),
        "{result:?}"
    );
    world.heal();
    let grant = client.acquire("r", options).await.unwrap();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(world.held_by("r", &owner), 3, "{:?}", world.holders("r"));
    assert!(grant.is_valid());
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_or_late_nothing_is_left_and_nobody_overlaps() {
    // Many small histories under random faults; the seed is in the message.
    let mut mishaps = 0;
    let mut granted = 0;
    for seed in 0..150 {
        let world = World::of(3).await;
        let odds = Odds {
            refused: 30,
            error: 30,
            cut: 40,
            request_lost: 40,
            reply_lost: 40,
            request_delayed: 150,
            reply_delayed: 150,
            longest_delay: Duration::from_millis(600),
        };
        for (number, node) in (0..).zip(&world.faulty) {
            node.seeded(seed * 10 + number, odds);
        }
        let held = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for rival in 0..3 {
            let (client, clock) = world.client_with_clock(seed * 10 + rival).await;
            let dice = Dice::new(seed * 10 + rival);
            clock.skew(i64::try_from(dice.below(400)).unwrap() - 200);
            let held = Arc::clone(&held);
            tasks.spawn(async move {
                let mut last = None;
                for _ in 0..4 {
                    let options = once()
                        .retries(5)
                        .delay(Duration::from_millis(50))
                        .lease(Duration::from_secs(2 + dice.below(3)));
                    let Ok(grant) = client.acquire("r", options).await else {
                        continue;
                    };
                    assert!(last < Some(grant.token()), "seed {seed}");
                    last = Some(grant.token());
                    let before = held.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(before, 0, "seed {seed}: two hold it at once");
                    let work = Duration::from_millis(dice.below(800));
                    tokio::time::sleep(work.min(grant.remaining() / 2)).await;
                    held.fetch_sub(1, Ordering::SeqCst);
                    let _ = client.release(&grant).await;
                }
                u64::from(last.is_some())
            });
        }
        granted += tasks.join_all().await.into_iter().sum::<u64>();
        mishaps += world.faulty.iter().map(|node| node.mishaps()).sum::<u64>();
        world.heal();
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(world.left(), 0, "seed {seed}: {:?}", world.holders("r"));
    }
    assert!(mishaps > 1_000 && granted > 200, "{mishaps}, {granted}");
}

#[tokio::test]
async fn a_slow_node_is_told_all_that_the_others_have_decided_without_it() {
    // More than fit on its way at once: the rest waits when its callers have gone.
    const LOCKS: usize = 1_500;
    let cluster = RedisCluster::start(3);
    let slow = FaultProxy::in_front_of(&cluster[2]).await;
    let mut urls = cluster.urls();
    urls[2] = slow.url();
    let builder = Redlock::builder().node_urls(urls);
    let builder = builder.initialise(Some(MAX_LEASE));
    // Long enough for a busy machine to send what waited.
    let builder = builder.node_timeout(3 * SECOND);
    let client = builder.connect().await.unwrap();
    slow.replies(Flow::Delay(Duration::from_millis(400)));
    let mut acquiring = tokio::task::JoinSet::new();
    for number in 0..LOCKS {
        let client = client.clone();
        acquiring.spawn(async move { client.acquire(format!("r{number}"), attempt()).await });
    }
    for grant in acquiring.join_all().await {
        grant.unwrap();
    }
    let on_slow = || locks_on(&cluster[2]).len();
    let told = eventually(2 * SECOND, || async { on_slow() == LOCKS });
    assert!(told.await, "{} of {LOCKS}", on_slow());
}

#[tokio::test(start_paused = true)]
async fn a_repair_that_arrives_after_the_release_is_refused() {
    // One node never got the grant. The extension has it repaired, the repair is
    // slow, and the release overtakes it.
    let world = World::of(3).await;
    let client = world.client(1).await;
    let mut acquires = 0;
    world.faulty[2].plan(move |command| {
        matches!(command, Command::Acquire { .. }).then(|| {
            acquires += 1;
            if acquires == 1 {
                Mishap::Refused(FaultKind::Refused)
            } else {
                Mishap::RequestDelayed(2 * SECOND)
            }
        })
    });
    let grant = client.acquire("r", once()).await.unwrap();
    assert_eq!(world.held_by("r", grant.owner()), 2);
    client.extend(&grant, SECOND).await.unwrap();
    client.release(&grant).await.unwrap();
    assert!(client.drained(SECOND).await);
    assert_eq!(world.faulty[2].mishaps(), 2, "the repair is on its way");
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(world.left(), 0, "{:?}", world.holders("r"));
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_a_node_can_make_nothing_of_yet_is_told_again() {
    let max_lease = 2 * SECOND;
    let world = World::with_max_lease(3, max_lease).await;
    let clock = Arc::new(world.clock());
    // Behind by more than any lease: what is proposed lies too far ahead to be refused there.
    clock.skew(-3);
    let slow = Arc::new(MemoryNode::new("slow", clock));
    let behind = Arc::new(FaultyNode::new(slow.clone()));
    let mut nodes = world.nodes();
    nodes[2] = behind.clone();
    let builder = || Redlock::builder().nodes(nodes.clone());
    let builder = || builder().clock(Arc::new(world.clock()));
    let client = builder().initialise(Some(max_lease)).connect().await;
    let client = client.unwrap();
    behind.plan(|command| {
        matches!(command, Command::Acquire { .. }).then_some(Mishap::RequestDelayed(2 * SECOND))
    });
    for node in &world.faulty {
        node.plan(|command| {
            matches!(command, Command::Acquire { .. }).then_some(Mishap::ReplyDelayed(SECOND / 10))
        });
    }
    let options = once().lease(SECOND);
    let gone = tokio::time::timeout(SECOND / 100, client.acquire("r", options));
    assert!(gone.await.is_err(), "it goes away in the middle");
    // By then the token is not too far ahead any more, and the request is there.
    tokio::time::sleep(2 * SECOND + SECOND / 4).await;
    assert_eq!((world.left(), slow.locks()), (0, 0));
    assert!(client.drained(SECOND).await);
}
