//! Hazard: a lock that is handed on from section to section of one process, where it
//! should have gone to the nodes, or to nobody.
//!
//! Each section has a higher token than those before it, nobody has the lock who had
//! not asked in time, and nothing is left behind, whoever goes away when.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::protocol::Command;
use everlock::{
    AcquireOptions, Error, FencingToken, Grant, Held, Holding, LossReason, Outcome, OwnerId,
    Redlock,
};
use support::World;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const LEASE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);
/// How long a section takes.
const SECTION: Duration = Duration::from_millis(5);
/// Long enough for whoever is told to have heard of it.
const MOMENT: Duration = Duration::from_millis(10);

fn patient() -> AcquireOptions {
    AcquireOptions::new()
        .lease(LEASE)
        .retries(100)
        .delay(10 * SECOND)
        .jitter(Duration::ZERO)
}

/// What sections had, in the order in which they began.
type Seen = Arc<Mutex<Vec<Grant>>>;

/// A section that is over a moment after it began, in a task of its own.
fn section(
    client: &Redlock,
    options: AcquireOptions,
    seen: &Seen,
) -> JoinHandle<Result<Outcome<()>, Error>> {
    let (client, seen) = (client.clone(), Arc::clone(seen));
    tokio::spawn(async move {
        let work = async |held: Held| {
            assert!(held.is_valid());
            seen.lock().unwrap().push((*held).clone());
            tokio::time::sleep(SECTION).await;
        };
        client.with_lock("r", options, work).await
    })
}

fn tokens(seen: &Seen) -> Vec<u64> {
    let seen = seen.lock().unwrap().clone();
    seen.iter().map(|grant| grant.token().as_u64()).collect()
}

fn commands(world: &World) -> u64 {
    world.faulty.iter().map(|node| node.commands()).sum()
}

async fn clean(world: &World, client: &Redlock) {
    assert!(client.drained(SECOND).await);
    tokio::time::sleep(MOMENT).await;
    assert_eq!(world.left(), 0);
}

/// The lock is held by `client` when this returns, under a plain grant, and `count`
/// sections wait for it.
async fn waiting(client: &Redlock, count: usize, seen: &Seen) -> (Grant, Vec<Waiting>) {
    let holder = client.acquire("r", patient()).await.unwrap();
    let mut sections = Vec::new();
    for _ in 0..count {
        sections.push(section(client, patient(), seen));
        tokio::time::sleep(MOMENT).await;
    }
    (holder, sections)
}

type Waiting = JoinHandle<Result<Outcome<()>, Error>>;

async fn all_well(sections: Vec<Waiting>) {
    for section in sections {
        let outcome = tokio::time::timeout(SECOND, section).await;
        let outcome = outcome.expect("nobody waits for a delay").unwrap().unwrap();
        assert!(
            outcome.valid_to_the_end && outcome.release.is_ok(),
            "{outcome:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_waited_have_the_lock_in_turn_for_one_round_of_commands() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let seen = Seen::default();
    let (holder, sections) = waiting(&client, 8, &seen).await;
    let before = commands(&world);
    client.release(&holder).await.unwrap();
    all_well(sections).await;
    clean(&world, &client).await;
    // The first release and acquire, and the last release, on five nodes each.
    assert_eq!(commands(&world) - before, 15);
    let tokens = tokens(&seen);
    assert_eq!(tokens.len(), 8);
    assert!(tokens.is_sorted_by(|one, other| one < other), "{tokens:?}");
    assert!(holder.token().as_u64() < tokens[0]);
    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().all(|grant| grant.owner() == seen[0].owner()));
    assert!(seen.iter().all(|grant| grant.owner() != holder.owner()));
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_after_has_a_higher_token_than_all_of_them() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let (other, clock) = world.client_with_clock(2).await;
    let seen = Seen::default();
    let (holder, sections) = waiting(&client, 8, &seen).await;
    client.release(&holder).await.unwrap();
    all_well(sections).await;
    let last = *tokens(&seen).last().unwrap();
    // By its clock it proposes a lower one, and is told the floor.
    clock.skew(-2);
    let next = other.acquire("r", patient()).await.unwrap();
    assert!(next.token().as_u64() > last, "{} {last}", next.token());
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_on_is_valid_for_its_holder_alone() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let seen = Seen::default();
    let (holder, sections) = waiting(&client, 2, &seen).await;
    client.release(&holder).await.unwrap();
    while seen.lock().unwrap().len() < 2 {
        tokio::time::sleep(SECTION / 5).await;
    }
    let (first, second) = {
        let seen = seen.lock().unwrap().clone();
        (seen[0].clone(), seen[1].clone())
    };
    assert!(!first.is_valid() && second.is_valid());
    // Its clones can't harm who has the lock now.
    let extended = client.extend(&first, SECOND).await;
    assert!(matches!(extended, Err(Error::Lost)), "{extended:?}");
    let released = client.release(&first).await;
    assert!(
        matches!(released, Err(Error::NotHeld { .. })),
        "{released:?}"
    );
    assert_eq!(world.held_by("r", second.owner()), 3);
    let extension = client.extend(&second, SECOND).await.unwrap();
    assert_eq!(extension.token(), Some(second.token()));
    all_well(sections).await;
    clean(&world, &client).await;
}

#[tokio::test(start_paused = true)]
async fn to_who_names_it_by_a_token_a_lock_that_was_handed_on_is_the_first_sections() {
    // As `Holding::under` says of itself.
    let world = World::of(3).await;
    let client = world.client(1).await;
    let seen = Seen::default();
    let (holder, sections) = waiting(&client, 2, &seen).await;
    client.release(&holder).await.unwrap();
    while seen.lock().unwrap().len() < 2 {
        tokio::time::sleep(SECTION / 5).await;
    }
    let named = |section: usize| {
        let grant = &seen.lock().unwrap()[section];
        Holding::under(grant.resource(), grant.owner(), grant.token())
    };
    let extended = client.extend(named(1), SECOND).await;
    assert!(
        matches!(extended, Err(Error::HeldByAnother { .. })),
        "{extended:?}"
    );
    client.release(named(0)).await.unwrap();
    assert_eq!(world.left(), 0, "it was the second section's");
    drop(sections);
}

/// A section that goes on until it is told to end, and what it had.
fn held_until(
    client: &Redlock,
    go: &Arc<Notify>,
    had: &Seen,
) -> JoinHandle<Result<Outcome<()>, Error>> {
    let (client, go, had) = (client.clone(), Arc::clone(go), Arc::clone(had));
    tokio::spawn(async move {
        let work = async |held: Held| {
            had.lock().unwrap().push((*held).clone());
            go.notified().await;
        };
        client.with_lock("r", patient(), work).await
    })
}

#[tokio::test(start_paused = true)]
async fn who_asked_later_than_the_lock_was_asked_for_has_a_token_from_the_nodes() {
    // All nodes let the lock go early, which no clock here shows, and another process
    // has it meanwhile. Who asks after that must not have a lower token.
    let world = World::of(3).await;
    let (client, other) = (world.client(1).await, world.client(2).await);
    let (seen, had, go) = (Seen::default(), Seen::default(), Arc::new(Notify::new()));
    let holder = client.acquire("r", patient()).await.unwrap();
    let first = held_until(&client, &go, &had);
    tokio::time::sleep(MOMENT).await;
    let cohort = section(&client, patient(), &seen);
    let goes_away = section(&client, patient(), &seen);
    tokio::time::sleep(MOMENT).await;
    client.release(&holder).await.unwrap();
    tokio::time::sleep(MOMENT).await;
    let first_had = had.lock().unwrap()[0].clone();
    for node in &world.memory {
        let lost = Command::Settle {
            resource: first_had.resource().clone(),
            owner: first_had.owner().clone(),
            token: FencingToken::MAX,
        };
        node.apply(&lost);
    }
    let brief = patient().lease(MOMENT);
    let between = other.acquire("r", brief).await.unwrap();
    assert!(between.token() > first_had.token() && first_had.is_valid());
    goes_away.abort();
    tokio::time::sleep(MOMENT * 2).await;
    let late = section(&client, patient(), &seen);
    tokio::time::sleep(MOMENT).await;
    go.notify_one();
    assert!(first.await.unwrap().is_ok());
    // Its turn was before the other process had the lock, and its token tells.
    assert!(
        cohort.await.unwrap().unwrap().release.is_err(),
        "it was gone"
    );
    all_well(vec![late]).await;
    let (tokens, between) = (tokens(&seen), between.token().as_u64());
    assert!(
        tokens[0] < between && between < tokens[1],
        "{tokens:?} {between}"
    );
    clean(&world, &client).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_the_section_itself_released_is_not_handed_on() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let (seen, had, go) = (Seen::default(), Seen::default(), Arc::new(Notify::new()));
    let holder = client.acquire("r", patient()).await.unwrap();
    let first = held_until(&client, &go, &had);
    tokio::time::sleep(MOMENT).await;
    let next = [(); 2].map(|()| section(&client, patient(), &seen));
    tokio::time::sleep(MOMENT).await;
    client.release(&holder).await.unwrap();
    tokio::time::sleep(MOMENT).await;
    let had = had.lock().unwrap()[0].clone();
    client.release(&had).await.unwrap();
    go.notify_one();
    assert!(
        first.await.unwrap().unwrap().release.is_err(),
        "it was gone"
    );
    all_well(next.into()).await;
    let seen = seen.lock().unwrap().clone();
    assert!(seen[0].attempts() > 0 && seen[0].owner() != had.owner());
    assert!(had.token() < seen[0].token() && seen[0].token() < seen[1].token());
    clean(&world, &client).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_an_operator_took_is_not_handed_on() {
    let world = World::of(3).await;
    let (client, operator) = (world.client(1).await, world.client(2).await);
    let (seen, had, go) = (Seen::default(), Seen::default(), Arc::new(Notify::new()));
    let holder = client.acquire("r", patient()).await.unwrap();
    let first = held_until(&client, &go, &had);
    tokio::time::sleep(MOMENT).await;
    let next = section(&client, patient(), &seen);
    tokio::time::sleep(MOMENT).await;
    client.release(&holder).await.unwrap();
    tokio::time::sleep(MOMENT).await;
    let had = had.lock().unwrap()[0].clone();
    let by_name = (had.resource(), had.owner());
    operator.release(by_name).await.unwrap();
    // Whether the operator or the next section is first now, the nodes have decided.
    let taken = operator.acquire("r", patient()).await.unwrap();
    tokio::time::sleep(MOMENT).await;
    go.notify_one();
    assert!(
        first.await.unwrap().unwrap().release.is_err(),
        "it was gone"
    );
    operator.release(&taken).await.unwrap();
    all_well(vec![next]).await;
    let seen = seen.lock().unwrap().clone();
    assert!(seen[0].attempts() > 0 && seen[0].owner() != had.owner());
    assert_ne!(seen[0].token(), taken.token());
    clean(&world, &client).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_was_lost_is_not_handed_on() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let seen = Seen::default();
    let holder = client.acquire("r", patient()).await.unwrap();
    let short = patient().lease(2 * SECOND);
    let first = {
        let (client, brief) = (client.clone(), short.clone().max_hold(SECOND / 10));
        tokio::spawn(async move {
            let work = async |held: Held| held.lost().await;
            client.with_lock("r", brief, work).await
        })
    };
    tokio::time::sleep(MOMENT).await;
    let second = section(&client, short, &seen);
    tokio::time::sleep(MOMENT).await;
    let before = holder.token().as_u64();
    client.release(&holder).await.unwrap();
    let outcome = first.await.unwrap().unwrap();
    assert_eq!(outcome.value, LossReason::HeldTooLong);
    assert!(!outcome.valid_to_the_end);
    assert!(matches!(outcome.release, Err(Error::Lost)));
    let second = tokio::time::timeout(11 * SECOND, second).await;
    assert!(second.unwrap().unwrap().unwrap().release.is_ok());
    assert!(tokens(&seen)[0] > before);
    clean(&world, &client).await;
}

#[tokio::test(start_paused = true)]
async fn a_section_that_goes_away_at_any_moment_leaves_the_lock_to_the_next() {
    for polls in 0..60 {
        let world = World::of(3).await;
        let client = world.client(1).await;
        let seen = Seen::default();
        let holder = client.acquire("r", patient()).await.unwrap();
        let (own, began) = (client.clone(), AtomicU64::new(0));
        let first = section(&client, patient(), &seen);
        tokio::time::sleep(MOMENT).await;
        let mut going = Box::pin(own.with_lock("r", patient(), async |held: Held| {
            began.store(held.token().as_u64(), Ordering::Relaxed);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        }));
        for _ in 0..10 {
            tokio::select! {
                biased;
                _ = &mut going => unreachable!("the lock is held"),
                () = tokio::task::yield_now() => {}
            }
        }
        let last = section(&client, patient(), &seen);
        tokio::time::sleep(MOMENT).await;
        client.release(&holder).await.unwrap();
        let mut done = false;
        for _ in 0..polls {
            tokio::select! {
                biased;
                outcome = &mut going => { done = outcome.is_ok(); break }
                () = tokio::time::sleep(Duration::from_micros(200)) => {}
            }
        }
        drop(going);
        all_well(vec![first, last]).await;
        let (tokens, began) = (tokens(&seen), began.load(Ordering::Relaxed));
        assert!(tokens[0] < tokens[1], "after {polls} polls: {tokens:?}");
        if began > 0 {
            let between = tokens[0] < began && began < tokens[1];
            assert!(between, "after {polls} polls: {tokens:?} {began} {done}");
        }
        clean(&world, &client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_section_that_panics_leaves_the_lock_to_the_next() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let seen = Seen::default();
    let holder = client.acquire("r", patient()).await.unwrap();
    let own = client.clone();
    let panicking = tokio::spawn(async move {
        let work = async |_| panic!("the section's own business");
        let _ = own.with_lock::<_, (), _>("r", patient(), work).await;
    });
    tokio::time::sleep(MOMENT).await;
    let next = section(&client, patient(), &seen);
    tokio::time::sleep(MOMENT).await;
    client.release(&holder).await.unwrap();
    assert!(panicking.await.unwrap_err().is_panic());
    all_well(vec![next]).await;
    clean(&world, &client).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_handed_the_lock_and_never_looks_holds_it_no_longer_than_a_lease() {
    let world = World::of(3).await;
    let (client, other) = (world.client(1).await, world.client(2).await);
    let seen = Seen::default();
    let short = patient().lease(2 * SECOND);
    let holder = client.acquire("r", short.clone()).await.unwrap();
    let first = section(&client, short.clone(), &seen);
    tokio::time::sleep(MOMENT).await;
    let mut asleep = pin!(client.with_lock("r", short.clone(), async |held: Held| held.token()));
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = &mut asleep => unreachable!("the lock is held"),
            () = tokio::task::yield_now() => {}
        }
    }
    client.release(&holder).await.unwrap();
    all_well(vec![first]).await;
    // It lies in the inbox of one who does nothing.
    assert_eq!(world.left(), 3);
    let waiting = short.delay(SECOND / 10);
    let grant = tokio::time::timeout(3 * SECOND, other.acquire("r", waiting)).await;
    let grant = grant.expect("a lease is over").unwrap();
    tokio::select! {
        biased;
        _ = &mut asleep => panic!("it is held by another"),
        () = tokio::time::sleep(SECOND / 2) => {}
    }
    other.release(&grant).await.unwrap();
    let outcome = tokio::time::timeout(SECOND * 12, asleep).await;
    let outcome = outcome.expect("it asks the nodes").unwrap();
    assert!(outcome.value > grant.token());
    clean(&world, &client).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_not_read_that_it_has_the_lock_is_not_handed_it_again() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let seen = Seen::default();
    let short = patient().lease(SECOND / 4);
    let holder = client.acquire("r", short.clone()).await.unwrap();
    let first = section(&client, short.clone(), &seen);
    tokio::time::sleep(MOMENT).await;
    let mut asleep = pin!(client.with_lock("r", short.clone(), async |held: Held| held.token()));
    for _ in 0..10 {
        tokio::select! {
            biased;
            _ = &mut asleep => unreachable!("the lock is held"),
            () = tokio::task::yield_now() => {}
        }
    }
    let behind = section(&client, short.clone(), &seen);
    tokio::time::sleep(MOMENT).await;
    client.release(&holder).await.unwrap();
    all_well(vec![first]).await;
    tokio::time::sleep(SECOND / 3).await;
    // The lease is over, and somebody who stands in no line has the lock.
    let passing = section(&client, short.retries(0), &seen);
    all_well(vec![passing]).await;
    let outcome = tokio::time::timeout(SECOND * 12, asleep).await;
    let outcome = outcome.expect("it asks the nodes").unwrap();
    all_well(vec![behind]).await;
    let tokens = tokens(&seen);
    assert!(tokens[1] < outcome.value.as_u64() && outcome.value.as_u64() < tokens[2]);
    clean(&world, &client).await;
}

#[tokio::test(start_paused = true)]
async fn sections_that_want_something_of_their_own_ask_the_nodes() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let owner = || OwnerId::new("mine").unwrap();
    let own: [fn(AcquireOptions) -> AcquireOptions; 3] = [
        |options| options.owner(OwnerId::new("mine").unwrap()),
        |options| options.lease(LEASE * 2),
        |options| options.fifo(true),
    ];
    for (case, change) in own.into_iter().enumerate() {
        let seen = Seen::default();
        let (holder, mut sections) = waiting(&client, 1, &seen).await;
        sections.push(section(&client, change(patient()), &seen));
        tokio::time::sleep(MOMENT).await;
        client.release(&holder).await.unwrap();
        all_well(sections).await;
        let seen = seen.lock().unwrap().clone();
        assert_ne!(seen[0].owner(), seen[1].owner(), "case {case}");
        assert!(seen[1].attempts() > 0 && seen[0].token() != seen[1].token());
        assert_eq!(
            case == 0,
            seen.iter().any(|grant| *grant.owner() == owner())
        );
        clean(&world, &client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn other_processes_have_their_turn() {
    let world = World::of(3).await;
    let clients = [world.client(1).await, world.client(2).await];
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let until = tokio::time::Instant::now() + 3 * SECOND;
    let work = |client: &Redlock, count: usize| {
        let (client, counts) = (client.clone(), &counts);
        async move {
            let quick = patient().delay(Duration::from_millis(5));
            while tokio::time::Instant::now() < until {
                let section = async |_| tokio::time::sleep(Duration::from_millis(1)).await;
                let outcome = client.with_lock("r", quick.clone(), section).await;
                assert!(outcome.unwrap().valid_to_the_end);
                counts[count].fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let tasks = (0..16).map(|task| work(&clients[task % 2], task % 2));
    futures_util::future::join_all(tasks).await;
    let [one, other] = counts.map(AtomicU64::into_inner);
    assert!(one + other > 500, "{one} {other}");
    assert!(one.min(other) * 10 >= one.max(other) * 8, "{one} {other}");
}
