//! Hazard: a strict order that costs the nodes more than it must.
//!
//! Commands are counted on nodes in memory, where nothing is left to the machine.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everlock::node::faulty::Mishap;
use everlock::node::memory::MemoryNode;
use everlock::protocol::Command;
use everlock::{AcquireOptions, FaultKind, Resource, Vote};
use support::World;

const TASKS: u64 = 16;
const SECTIONS: u64 = 20;

fn in_turn() -> AcquireOptions {
    AcquireOptions::new()
        .lease(Duration::from_mins(1))
        .retries(100)
        .delay(Duration::from_mins(1))
        .fifo(true)
}

#[tokio::test(start_paused = true)]
async fn a_section_in_line_costs_three_commands_a_node() {
    let world = World::of(5).await;
    let client = world.client(1).await;
    let counted: Arc<Mutex<BTreeMap<&str, u64>>> = Arc::default();
    for node in &world.faulty {
        let counted = Arc::clone(&counted);
        node.plan(move |command| {
            *counted.lock().unwrap().entry(command.name()).or_default() += 1;
            None
        });
    }
    let task = || async {
        for _ in 0..SECTIONS {
            let grant = client.acquire("r", in_turn()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
            client.release(&grant).await.unwrap();
        }
    };
    futures_util::future::join_all((0..TASKS).map(|_| task())).await;
    assert!(client.drained(Duration::from_secs(8)).await);
    let counted = counted.lock().unwrap().clone();
    let all: u64 = counted.values().sum();
    // A ticket, the attempt that wins, and the release, with which the line is left.
    assert!(
        all <= 15 * TASKS * SECTIONS,
        "{counted:?} in {} sections",
        TASKS * SECTIONS
    );
}

/// How long the line is on each node.
fn lengths(world: &World) -> Vec<u32> {
    let ask = |node: &Arc<MemoryNode>| {
        let resource = Resource::new("r").unwrap();
        match node.apply(&Command::Queue { resource }).vote {
            Vote::Queue { length } => length,
            other => panic!("{other:?}"),
        }
    };
    world.memory.iter().map(ask).collect()
}

#[tokio::test(start_paused = true)]
async fn who_holds_the_lock_for_long_leaves_the_line_before_it_lets_go() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let grant = client.acquire("r", in_turn()).await.unwrap();
    assert_eq!(lengths(&world), [1; 3]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(lengths(&world), [0; 3]);
    client.release(&grant).await.unwrap();
    // An orderly end does not wait for that.
    let _held = client.acquire("r", in_turn()).await.unwrap();
    assert!(client.drained(Duration::from_secs(8)).await);
    assert_eq!(lengths(&world), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_left_also_where_the_release_went_unheard() {
    let world = World::of(3).await;
    let client = world.client(1).await;
    let grant = client.acquire("r", in_turn()).await.unwrap();
    world.faulty[1].plan(|command| {
        matches!(command, Command::ReleaseInTurn { .. })
            .then_some(Mishap::Error(FaultKind::Loading))
    });
    client.release(&grant).await.unwrap();
    assert!(client.drained(Duration::from_secs(8)).await);
    assert_eq!((lengths(&world), world.left()), (vec![0; 3], 0));
    // The same for a guard that is dropped.
    drop(client.lock("r", in_turn()).await.unwrap());
    assert!(client.drained(Duration::from_secs(8)).await);
    assert_eq!((lengths(&world), world.left()), (vec![0; 3], 0));
}
