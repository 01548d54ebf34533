//! Who asked first gets the lock first, over all clients, and whatever becomes of
//! those that wait.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::observer::{Event, Observer};
use everlock::protocol::{CallId, Command, MAX_QUEUE, TICKET_LIFE, Turn};
use everlock::{AcquireOptions, Error, FencingToken, Grant, Redlock, Resource, Vote};
use everlock_testkit::{RedisCluster, RedisServer, eventually};
use support::World;
use support::redis::{builder, client, locks_left};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const MAX_LEASE: Duration = Duration::from_mins(2);
/// Longer than anything takes on a slow machine.
const AT_LAST: Duration = Duration::from_secs(20);

/// So patient that polling would show.
fn in_turn() -> AcquireOptions {
    AcquireOptions::new()
        .lease(MINUTE)
        .retries(5)
        .delay(MINUTE)
        .fifo(true)
}

fn wait(client: &Redlock, options: AcquireOptions) -> JoinHandle<Result<Grant, Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.acquire("r", options).await })
}

async fn won(waiting: JoinHandle<Result<Grant, Error>>) -> Grant {
    let won = tokio::time::timeout(AT_LAST, waiting).await;
    won.expect("nobody waits for a minute").unwrap().unwrap()
}

/// Waits until so many stand in line.
async fn in_line(client: &Redlock, length: u32) {
    let reached = eventually(AT_LAST, || async {
        client.queue("r").await.is_ok_and(|found| found == length)
    });
    let found = async { client.queue("r").await };
    assert!(reached.await, "{length}: {:?}", found.await);
}

/// Takes the lock in turn, and waits until its own ticket has left the line.
async fn hold(client: &Redlock) -> Grant {
    let grant = client.acquire("r", in_turn()).await.unwrap();
    in_line(client, 0).await;
    grant
}

/// How many requests were told that they stand in line on a quorum of nodes.
#[derive(Clone, Debug, Default)]
struct Arrivals(Arc<AtomicUsize>);

impl Observer for Arrivals {
    fn event(&self, event: &Event<'_>) {
        if let Event::InLine { .. } = event {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is left of lines, but for what must outlive them.
fn lines_left(cluster: &RedisCluster) -> Vec<String> {
    let keys = cluster.servers().iter().flat_map(RedisServer::keys);
    keys.filter(|key| key.contains("~queue") || key.contains("~beats"))
        .collect()
}

async fn nothing_left(cluster: &RedisCluster) {
    let cleared = eventually(AT_LAST, || async {
        lines_left(cluster).is_empty() && locks_left(cluster).is_empty()
    });
    let left = || (lines_left(cluster), locks_left(cluster));
    assert!(cleared.await, "{:?}", left());
}

/// Waiters of several clients stand in line one after the other, and are served: their order.
async fn served(
    clients: &[Redlock],
    waiters: usize,
    opener: &Redlock,
    arrivals: &Arrivals,
) -> Vec<usize> {
    let holder = hold(opener).await;
    let before = arrivals.0.load(Ordering::Relaxed);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..waiters {
        let (client, order) = (clients[number % clients.len()].clone(), Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            let grant = client.acquire("r", in_turn()).await.unwrap();
            order.lock().unwrap().push((number, grant.token()));
            client.release(&grant).await.unwrap();
        }));
        let stands = || async { arrivals.0.load(Ordering::Relaxed) > before + number };
        assert!(eventually(AT_LAST, stands).await, "{number} stands in line");
    }
    let started = Instant::now();
    opener.release(&holder).await.unwrap();
    for waiting in waiting {
        let done = tokio::time::timeout(AT_LAST, waiting).await;
        done.expect("nobody waits for a minute").unwrap();
    }
    // Passed on by wake-ups: heartbeats alone would take a second for each.
    let most = SECOND * u32::try_from(waiters).unwrap() / 2;
    assert!(started.elapsed() < most, "{:?}", started.elapsed());
    let order = order.lock().unwrap().clone();
    assert!(order.is_sorted_by_key(|(_, token)| *token), "{order:?}");
    order.into_iter().map(|(number, _)| number).collect()
}

async fn clients(cluster: &RedisCluster, count: usize) -> (Vec<Redlock>, Arrivals) {
    let (mut clients, arrivals) = (Vec::new(), Arrivals::default());
    for _ in 0..count {
        let builder = builder(cluster).initialise(Some(MAX_LEASE));
        let builder = builder.observer(Arc::new(arrivals.clone()));
        clients.push(builder.connect().await.unwrap());
    }
    (clients, arrivals)
}

#[tokio::test]
async fn grants_follow_the_order_of_asking_over_all_clients() {
    let cluster = RedisCluster::start(5);
    let (clients, arrivals) = clients(&cluster, 5).await;
    for _ in 0..6 {
        let order = served(&clients[1..], 12, &clients[0], &arrivals).await;
        assert_eq!(order, (0..12).collect::<Vec<_>>());
    }
    nothing_left(&cluster).await;
}

#[tokio::test]
async fn the_order_holds_while_a_minority_is_down_or_stopped() {
    let cluster = RedisCluster::start(5);
    let (clients, arrivals) = clients(&cluster, 4).await;
    cluster.kill(0);
    cluster.pause(1);
    let order = served(&clients[1..], 9, &clients[0], &arrivals).await;
    assert_eq!(order, (0..9).collect::<Vec<_>>());
    cluster.resume(1);
    let holder = clients[0].acquire("r", in_turn()).await.unwrap();
    clients[0].release(&holder).await.unwrap();
}

#[tokio::test]
async fn who_gives_up_or_goes_away_leaves_the_line_at_once() {
    let cluster = RedisCluster::start(3);
    let (clients, _) = clients(&cluster, 3).await;
    let holder = hold(&clients[0]).await;
    let gone = wait(&clients[1], in_turn());
    in_line(&clients[0], 1).await;
    let brief = wait(&clients[1], in_turn().retries(1).delay(4 * SECOND));
    in_line(&clients[0], 2).await;
    let next = wait(&clients[2], in_turn());
    in_line(&clients[0], 3).await;
    let error = brief.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Contended { .. }), "{error}");
    assert_eq!(error.report().unwrap().position(), Some(1));
    in_line(&clients[0], 2).await;
    clients[0].release(&holder).await.unwrap();
    // Its turn comes while it goes: it may have won, and else it holds up nobody.
    gone.abort();
    let started = Instant::now();
    if let Ok(won) = gone.await {
        clients[1].release(&won.unwrap()).await.unwrap();
    }
    let grant = won(next).await;
    assert!(started.elapsed() < 2 * SECOND, "{:?}", started.elapsed());
    clients[2].release(&grant).await.unwrap();
    nothing_left(&cluster).await;
}

#[test]
fn a_waiter_that_dies_is_passed_when_its_heartbeats_stop() {
    let cluster = RedisCluster::start(3);
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
    };
    let (living, dying) = (runtime().unwrap(), runtime().unwrap());
    let (clients, _) = living.block_on(clients(&cluster, 2));
    let holder = living.block_on(hold(&clients[0]));
    let dead = dying.block_on(client(&cluster, MAX_LEASE));
    dying.spawn(async move { dead.acquire("r", in_turn()).await });
    living.block_on(in_line(&clients[0], 1));
    let entered = living.enter();
    let next = wait(&clients[1], in_turn());
    drop(entered);
    living.block_on(in_line(&clients[0], 2));
    // It takes its connections and its background tasks along, and so can tell nobody. Whatever
    // it had sent is carried out while the lock is held: an attempt that came after the release
    // would win, and nobody would give its lock back before the lease is over.
    dying.shutdown_timeout(AT_LAST);
    for server in cluster.servers() {
        server.command(&["PING"]);
    }
    living.block_on(async {
        let started = Instant::now();
        clients[0].release(&holder).await.unwrap();
        let grant = won(next).await;
        let took = started.elapsed();
        assert!(took > SECOND / 2, "it was dead, and had not left: {took:?}");
        assert!(took < TICKET_LIFE + 4 * SECOND, "{took:?}");
        clients[1].release(&grant).await.unwrap();
        nothing_left(&cluster).await;
    });
}

#[tokio::test]
async fn others_may_take_the_lock_out_of_turn_and_never_change_the_order() {
    let cluster = RedisCluster::start(3);
    let (clients, arrivals) = clients(&cluster, 4).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (rude, ended) = (clients[3].clone(), Arc::clone(&stop));
    let rude = tokio::spawn(async move {
        let options = AcquireOptions::new().lease(MINUTE).retries(0);
        let mut taken = 0;
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            if let Ok(grant) = rude.acquire("r", options.clone()).await {
                taken += 1;
                rude.release(&grant).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        taken
    });
    let mut all = Vec::new();
    for _ in 0..3 {
        all.extend(served(&clients[1..3], 8, &clients[0], &arrivals).await);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(rude.await.unwrap() > 0, "it was never in the way");
    let expected: Vec<_> = (0..3).flat_map(|_| 0..8).collect();
    assert_eq!(all, expected);
    nothing_left(&cluster).await;
}

#[tokio::test]
async fn an_owner_that_asks_again_is_answered_though_others_wait() {
    let cluster = RedisCluster::start(3);
    let (clients, _) = clients(&cluster, 2).await;
    let owner = everlock::OwnerId::new("me").unwrap();
    let first = clients[0].acquire("r", in_turn().owner(owner.clone()));
    let first = first.await.unwrap();
    in_line(&clients[0], 0).await;
    let waiting = wait(&clients[1], in_turn());
    in_line(&clients[0], 1).await;
    let again = clients[0].acquire("r", in_turn().owner(owner));
    let again = tokio::time::timeout(AT_LAST, again).await.unwrap().unwrap();
    assert_eq!(again.token(), first.token());
    clients[0].release(&again).await.unwrap();
    assert!(won(waiting).await.token() > first.token());
}

#[tokio::test(start_paused = true)]
async fn a_full_line_is_a_clear_refusal() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let _holder = client.acquire("r", in_turn()).await.unwrap();
    let now = everlock::clock::Clock::wall(&world.clock()).as_micros();
    for waiter in 0..MAX_QUEUE as u64 {
        for node in &world.memory {
            let stood = node.apply(&Command::Stand {
                resource: Resource::new("r").unwrap(),
                call: CallId::new(waiter),
                turn: Turn {
                    ticket: FencingToken::new(now + waiter),
                    accepted: true,
                },
            });
            assert!(matches!(stood.vote, Vote::Queued { .. }));
        }
    }
    tokio::time::sleep(SECOND / 10).await;
    let error = client.acquire("r", in_turn()).await.unwrap_err();
    assert!(
        matches!(error, Error::QueueFull { length: 1_000, .. }),
        "{error}"
    );
    assert_eq!(client.queue("r").await.unwrap(), 1_000);
    tokio::time::sleep(TICKET_LIFE).await;
    assert_eq!(client.queue("r").await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_at_any_moment_leaves_nothing() {
    for polls in 0..60 {
        let world = World::of(3).await;
        let client = world.client(polls).await;
        let holder = if polls % 2 == 0 {
            Some(client.acquire("r", in_turn()).await.unwrap())
        } else {
            None
        };
        let mut waiting = Box::pin(client.acquire("r", in_turn()));
        let mut grant = None;
        for _ in 0..polls {
            tokio::select! {
                biased;
                won = &mut waiting => { grant = Some(won.unwrap()); break }
                () = tokio::time::sleep(Duration::from_millis(polls * 3)) => {}
            }
        }
        drop(waiting);
        for held in holder.iter().chain(&grant) {
            client.release(held).await.unwrap();
        }
        assert!(client.drained(SECOND).await);
        assert_eq!(client.queue("r").await.unwrap(), 0, "after {polls} polls");
        assert_eq!(world.left(), 0, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_is_kept_however_long_the_wait_and_the_delay() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let options = in_turn().lease(MAX_LEASE);
    let holder = client.acquire("r", options.clone()).await.unwrap();
    let first = wait(&client, options.clone());
    tokio::time::sleep(SECOND).await;
    let second = wait(&client, options);
    tokio::time::sleep(50 * SECOND).await;
    assert_eq!(client.queue("r").await.unwrap(), 2);
    client.release(&holder).await.unwrap();
    let grant = won(first).await;
    assert!(!second.is_finished());
    client.release(&grant).await.unwrap();
    assert!(won(second).await.token() > grant.token());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_polled_no_more_is_passed_when_its_ticket_is_over() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let holder = client.acquire("r", in_turn()).await.unwrap();
    let mut idle = Box::pin(client.acquire("r", in_turn()));
    let looked = tokio::time::timeout(SECOND / 2, idle.as_mut()).await;
    assert!(looked.is_err(), "the lock is held");
    let next = wait(&client, in_turn());
    tokio::time::sleep(SECOND / 2).await;
    let started = Instant::now();
    client.release(&holder).await.unwrap();
    let grant = won(next).await;
    assert!(started.elapsed() < TICKET_LIFE + 2 * SECOND);
    client.release(&grant).await.unwrap();
    let late = tokio::time::timeout(AT_LAST, idle).await;
    client.release(&late.unwrap().unwrap()).await.unwrap();
    assert!(client.drained(SECOND).await);
    assert_eq!(world.left(), 0);
}
