//! Hazard: schedules that were made up to break the protocol, and once did.
//!
//! Each test says the interleaving in its comments. The nodes of a world are
//! numbered from 0 here; owners are `u`, who is attacked, and `v`, who must not win.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::time::Duration;

use everlock::clock::Moment;
use everlock::node::faulty::Mishap;
use everlock::node::{Ballot, Node as _};
use everlock::protocol::{CallId, Command};
use everlock::{AcquireOptions, Error, FaultKind, FencingToken, Grant, OwnerId, Redlock, Resource};
use support::World;

const REFUSED: Mishap = Mishap::Refused(FaultKind::Refused);
/// Half a millisecond after the world's beginning.
const EARLY_TOKEN: FencingToken = FencingToken::new(1_800_000_000_000_500);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn pause(millis: u64) {
    tokio::time::sleep(ms(millis)).await;
}

/// One attempt under a given owner id.
fn one_attempt(owner: &str, lease: u64) -> AcquireOptions {
    let owner = OwnerId::new(owner).unwrap();
    AcquireOptions::new()
        .lease(ms(lease))
        .retries(0)
        .owner(owner)
}

/// Attempts this far apart, without jitter.
fn attempts(owner: &str, lease: u64, retries: u32, delay: u64) -> AcquireOptions {
    one_attempt(owner, lease)
        .retries(retries)
        .delay(ms(delay))
        .jitter(Duration::ZERO)
}

/// These messages are this late.
fn late(millis: u64, which: impl Fn(&Command) -> bool) -> impl FnMut(&Command) -> Option<Mishap> {
    move |command| which(command).then_some(Mishap::RequestDelayed(ms(millis)))
}

const fn is_acquire(command: &Command) -> bool {
    matches!(command, Command::Acquire { .. })
}

const fn is_undo(command: &Command) -> bool {
    matches!(command, Command::Undo { .. })
}

/// Gives one node's vote for `resource` to another owner, under a low token.
async fn occupy(world: &World, node: usize, resource: &str, owner: &str, lease: u64) {
    let mut ballot = Ballot::open();
    let command = Command::Acquire {
        resource: Resource::new(resource).unwrap(),
        owner: OwnerId::new(owner).unwrap(),
        lease: ms(lease),
        call: CallId::new(7),
        token: EARLY_TOKEN,
        reserve: 0,
    };
    let slot = ballot.slot(node);
    world.memory[node].submit(command, Moment::from_origin(Duration::MAX), slot);
    ballot.next().await;
}

/// While the grant is valid, `v` must not win.
async fn v_is_kept_out(world: &World, grant: &Grant) {
    assert!(grant.is_valid(), "or the test shows nothing");
    let rival = world.client(3).await;
    let other = rival.acquire("r", one_attempt("v", 5_000)).await;
    assert!(
        matches!(other, Err(Error::Contended { .. })),
        "{other:?} while {grant:?}: {:?}",
        world.holders("r")
    );
}

fn nobody_holds_it_on(world: &World, node: usize) {
    assert_eq!(world.holders("r")[node], None, "{:?}", world.holders("r"));
}

async fn two_clients(world: &World) -> (Redlock, Redlock) {
    (world.client(1).await, world.client(2).await)
}

#[tokio::test(start_paused = true)]
async fn the_founders_next_proposal_does_not_shorten_what_another_call_joined() {
    // u's first call is granted for 1 s and hears nothing; u's second call joins
    // the grant for 10 s; the first call proposes again, still for 1 s.
    let world = World::of(3).await;
    let (first, second) = two_clients(&world).await;
    world.faulty[2].always(REFUSED);
    for node in 0..2 {
        let mut unheard = true;
        world.faulty[node].plan(move |command| match command {
            Command::Acquire { lease, .. }
                if *lease == ms(1_000) && std::mem::take(&mut unheard) =>
            {
                Some(Mishap::ReplyLost)
            }
            Command::Undo { .. } => Some(Mishap::RequestDelayed(ms(1_500))),
            _ => None,
        });
    }
    let options = attempts("u", 1_000, 3, 200);
    let call = tokio::spawn(async move { first.acquire("r", options).await });
    pause(320).await;
    let joined = second.acquire("r", one_attempt("u", 10_000)).await.unwrap();
    assert_eq!(call.await.unwrap().unwrap().token(), joined.token());
    pause(1_200).await;
    v_is_kept_out(&world, &joined).await;
}

#[tokio::test(start_paused = true)]
async fn the_undo_of_a_founder_that_proposed_again_does_not_take_a_joined_calls_lock() {
    // As above, but the first call never hears an answer, and gives up.
    let world = World::of(3).await;
    let (first, second) = two_clients(&world).await;
    world.faulty[2].always(REFUSED);
    for node in &world.faulty[..2] {
        node.plan(|command| match command {
            Command::Acquire { lease, .. } if *lease == ms(7_000) => Some(Mishap::ReplyLost),
            Command::Undo { .. } => Some(Mishap::RequestDelayed(ms(700))),
            _ => None,
        });
    }
    let options = attempts("u", 7_000, 1, 100);
    let call = tokio::spawn(async move { first.acquire("r", options).await });
    pause(320).await;
    let joined = second.acquire("r", one_attempt("u", 60_000)).await.unwrap();
    assert!(matches!(
        call.await.unwrap(),
        Err(Error::Unavailable { .. })
    ));
    pause(1_500).await;
    v_is_kept_out(&world, &joined).await;
}

/// What happens to u's acquire of "r" while another call of its process, on
/// "other", corrects the token clock between its two attempts.
fn first_attempt_fails_on(
    node: usize,
    unanswered: bool,
) -> impl FnMut(&Command) -> Option<Mishap> + Send {
    let mut first = true;
    move |command| match command {
        Command::Acquire { resource, .. } if resource.as_str() == "other" => {
            unanswered.then_some(Mishap::RequestLost)
        }
        Command::Acquire { owner, .. } if owner.as_str() == "u" => {
            if node == 0 {
                Some(REFUSED)
            } else {
                let error = Mishap::Error(FaultKind::Loading);
                std::mem::take(&mut first).then_some(error)
            }
        }
        Command::Undo { resource, .. } if resource.as_str() == "r" => {
            Some(Mishap::RequestDelayed(ms(1_000)))
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn the_late_undo_of_one_attempt_does_not_take_the_win_of_the_next() {
    // u's first attempt fails, its undo is 1 s late; u's second attempt wins.
    // Meanwhile a call on another resource ends with an older median time.
    let world = World::of(3).await;
    let client = world.client(1).await;
    occupy(&world, 0, "other", "v", 60_000).await;
    pause(50).await;
    for node in 0..3 {
        world.faulty[node].plan(first_attempt_fails_on(node, node == 2));
    }
    let elsewhere = client.clone();
    let call =
        tokio::spawn(async move { elsewhere.acquire("other", one_attempt("x", 5_000)).await });
    pause(250).await;
    let grant = client
        .acquire("r", attempts("u", 60_000, 1, 100))
        .await
        .unwrap();
    assert_eq!(grant.attempts(), 2);
    call.await.unwrap().unwrap_err();
    pause(2_000).await;
    v_is_kept_out(&world, &grant).await;
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_later_than_a_release_that_found_nothing_is_refused() {
    // u's request reaches node 2 5 s late; u's lease ends; u's release meets
    // nothing anywhere.
    let world = World::of(3).await;
    let client = world.client(1).await;
    world.faulty[2].plan(late(5_000, is_acquire));
    let grant = client.acquire("r", one_attempt("u", 1_000)).await.unwrap();
    pause(2_000).await;
    let released = client.release(&grant).await;
    assert!(
        matches!(released, Err(Error::NotHeld { .. })),
        "{released:?}"
    );
    assert!(client.drained(ms(1_000)).await);
    pause(3_500).await;
    nobody_holds_it_on(&world, 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_is_refused_where_the_release_met_an_older_grant() {
    // An older call of u is left on node 2, its undo a minute late. u wins by
    // nodes 0 and 1; the request to node 2 is late. The release takes the older
    // grant from node 2; then the request arrives.
    let world = World::of(3).await;
    let (client, before) = two_clients(&world).await;
    for node in &world.faulty[..2] {
        node.always(REFUSED);
    }
    world.faulty[2].plan(late(60_000, is_undo));
    let lost = before.acquire("r", one_attempt("u", 30_000)).await;
    assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    world.heal();
    pause(10).await;
    world.faulty[2].plan(late(5_000, is_acquire));
    let grant = client.acquire("r", one_attempt("u", 30_000)).await.unwrap();
    client.release(&grant).await.unwrap();
    assert!(client.drained(ms(1_000)).await);
    pause(6_000).await;
    nobody_holds_it_on(&world, 2);
}

#[tokio::test(start_paused = true)]
async fn the_late_proposal_of_a_call_that_joined_another_grant_does_not_outlive_the_release() {
    // u's second call joins the first one's grant on nodes 0 and 1; its own
    // proposal reaches node 2 after the lock was released everywhere.
    let world = World::of(3).await;
    let (first, second) = two_clients(&world).await;
    let founded = first.acquire("r", one_attempt("u", 10_000)).await.unwrap();
    pause(10).await;
    world.faulty[2].plan(late(3_000, is_acquire));
    let joined = second.acquire("r", one_attempt("u", 10_000)).await.unwrap();
    assert_eq!(joined.token(), founded.token());
    second.release(&joined).await.unwrap();
    assert!(second.drained(ms(1_000)).await && world.left() == 0);
    pause(3_500).await;
    nobody_holds_it_on(&world, 2);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_a_node_keeps_refusing_holds_up_no_other() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    for node in &world.faulty[1..] {
        node.always(REFUSED);
    }
    world.faulty[0].plan(|command| {
        let bad = matches!(command, Command::Undo { resource, .. } if resource.as_str() == "bad");
        bad.then_some(Mishap::Error(FaultKind::OutOfMemory))
    });
    for name in ["bad", "r"] {
        let lost = client.acquire(name, one_attempt("u", 60_000)).await;
        assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
        pause(1_000).await;
    }
    nobody_holds_it_on(&world, 0);
}

#[tokio::test(start_paused = true)]
async fn releasing_a_grant_that_ended_leaves_the_same_owners_newer_one_alone() {
    let world = World::of(3).await;
    let (first, second) = two_clients(&world).await;
    let ended = first.acquire("r", one_attempt("u", 1_000)).await.unwrap();
    pause(1_100).await;
    let newer = second.acquire("r", one_attempt("u", 60_000)).await.unwrap();
    assert!(newer.token() > ended.token() && !ended.is_valid());
    first.release(&ended).await.unwrap_err();
    v_is_kept_out(&world, &newer).await;
}

#[tokio::test(start_paused = true)]
async fn an_extension_does_not_revive_a_grant_that_ended() {
    // Between u's two acquisitions v held the lock: u's first token is stale,
    // though u holds the lock again.
    let world = World::of(3).await;
    let (first, second) = two_clients(&world).await;
    let ended = first.acquire("r", one_attempt("u", 1_000)).await.unwrap();
    pause(1_100).await;
    let rival = world.client(3).await;
    let between = rival.acquire("r", one_attempt("v", 1_000)).await.unwrap();
    rival.release(&between).await.unwrap();
    second.acquire("r", one_attempt("u", 60_000)).await.unwrap();
    let extended = first.extend(&ended, ms(1_000)).await;
    assert!(matches!(extended, Err(Error::Lost)), "{extended:?}");
    assert!(!ended.is_valid(), "{} came after it", between.token());
}

#[tokio::test(start_paused = true)]
async fn a_late_request_of_an_earlier_attempt_does_not_take_over_a_later_ones_win() {
    // u's clock is a minute ahead, so its first attempt proposes a high token and
    // its second a lower one. The first request reaches node 2 after the second
    // has won there, and then its undo does.
    let world = World::of(3).await;
    let (client, clock) = world.client_with_clock(1).await;
    clock.skew(60);
    occupy(&world, 1, "r", "x", 350).await;
    let mut first = true;
    world.faulty[2].plan(move |command| match command {
        Command::Acquire { owner, .. } if owner.as_str() == "u" && std::mem::take(&mut first) => {
            Some(Mishap::RequestDelayed(ms(1_500)))
        }
        Command::Undo { .. } => Some(Mishap::RequestDelayed(ms(2_500))),
        _ => None,
    });
    let options = attempts("u", 60_000, 2, 500);
    let grant = client.acquire("r", options).await.unwrap();
    pause(4_000).await;
    v_is_kept_out(&world, &grant).await;
}

#[tokio::test(start_paused = true)]
async fn an_extension_does_not_count_what_another_call_of_the_owner_was_granted() {
    // u holds nodes 0 and 2. Another call of u, which loses, is granted node 1
    // for a moment. The extension reaches nodes 1 and 2 alone.
    let world = World::of(3).await;
    let (holder, other) = two_clients(&world).await;
    world.faulty[1].always(REFUSED);
    let grant = holder.acquire("r", one_attempt("u", 1_000)).await.unwrap();
    // Two proposals of one microsecond would be one grant.
    pause(1).await;
    world.faulty[0].always(REFUSED);
    world.faulty[2].always(REFUSED);
    world.faulty[1].plan(late(1_000, is_undo));
    other
        .acquire("r", one_attempt("u", 1_000))
        .await
        .unwrap_err();
    world.faulty[0]
        .plan(|command| matches!(command, Command::Extend { .. }).then_some(Mishap::RequestLost));
    world.faulty[2].heal();
    let extended = holder.extend(&grant, ms(10_000)).await;
    pause(2_500).await;
    assert!(extended.is_err(), "{extended:?}: {:?}", world.holders("r"));
    assert!(!grant.is_valid(), "a majority of nodes may be another's");
}
