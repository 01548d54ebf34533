//! Hazard: a quorum that is counted wrongly.
//!
//! For one to seven nodes, every set of nodes that are up, and every way in
//! which the others can be down: what the real client says is compared with an
//! oracle that was written from the protocol's sections 3 to 5, by hand.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use std::time::Duration;

use everlock::node::faulty::Mishap;
use everlock::{Error, FaultKind, Grant, OwnerId, Resource};
use support::{World, once};

/// How a node that is down is down. With the last two, what it is asked takes effect.
const DOWN: [Mishap; 4] = [
    Mishap::Refused(FaultKind::Refused),
    Mishap::RequestLost,
    Mishap::ReplyLost,
    Mishap::Cut(FaultKind::Disconnected),
];
const LEASE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

/// One node's state before the operation: what it will answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Ours,
    Others,
    Nothing,
    Silence,
}

/// The outcomes of the protocol's sections 4 and 5, in its own words.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Done,
    Unavailable,
    HeldByAnother,
    NotHeld,
}

impl Said {
    fn of<T>(result: &Result<T, Error>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(Error::Unavailable { .. }) => Self::Unavailable,
            Err(Error::HeldByAnother { .. }) => Self::HeldByAnother,
            Err(Error::NotHeld { .. }) => Self::NotHeld,
            Err(other) => panic!("{other}"),
        }
    }
}

fn count(answers: &[Answer], of: Answer) -> usize {
    answers.iter().filter(|answer| **answer == of).count()
}

fn more_than_half(some: usize, nodes: usize) -> bool {
    some * 2 > nodes
}

/// Section 4: "unavailable if u ≥ q; else released if d ≥ 1 and d + u ≥ q;
/// else held by another if o ≥ q; else not held".
fn release_oracle(answers: &[Answer]) -> Said {
    let nodes = answers.len();
    let (deleted, unanswered) = (
        count(answers, Answer::Ours),
        count(answers, Answer::Silence),
    );
    if more_than_half(unanswered, nodes) {
        Said::Unavailable
    } else if deleted >= 1 && more_than_half(deleted + unanswered, nodes) {
        Said::Done
    } else if more_than_half(count(answers, Answer::Others), nodes) {
        Said::HeldByAnother
    } else {
        Said::NotHeld
    }
}

/// Section 5: "extended if c ≥ q; else unavailable if c + u ≥ q; else held by
/// another if o ≥ q; else not held".
fn extend_oracle(answers: &[Answer]) -> Said {
    let nodes = answers.len();
    let (confirming, unanswered) = (
        count(answers, Answer::Ours),
        count(answers, Answer::Silence),
    );
    if more_than_half(confirming, nodes) {
        Said::Done
    } else if more_than_half(confirming + unanswered, nodes) {
        Said::Unavailable
    } else if more_than_half(count(answers, Answer::Others), nodes) {
        Said::HeldByAnother
    } else {
        Said::NotHeld
    }
}

/// Every set of `nodes` nodes.
fn masks(nodes: usize) -> impl Iterator<Item = Vec<bool>> {
    (0..1_u32 << nodes).map(move |mask| (0..nodes).map(|node| mask >> node & 1 == 1).collect())
}

/// Every way to give each of `nodes` nodes one of these answers.
fn assignments(nodes: usize, answers: &[Answer]) -> Vec<Vec<Answer>> {
    let mut all = vec![vec![]];
    for _ in 0..nodes {
        all = all
            .iter()
            .flat_map(|so_far| {
                answers.iter().map(|answer| {
                    let mut longer = so_far.clone();
                    longer.push(*answer);
                    longer
                })
            })
            .collect();
    }
    all
}

impl World {
    fn switch(&self, up: &[bool], down: Mishap) {
        for (node, up) in self.faulty.iter().zip(up) {
            if *up { node.heal() } else { node.always(down) }
        }
    }

    /// Puts each node into the state in which it answers like this, except for
    /// silence. The owner of what is ours.
    fn arrange(&self, answers: &[Answer]) -> OwnerId {
        let (ours, others) = (owner("ours"), owner("others"));
        for (by, answer) in [(&ours, Answer::Ours), (&others, Answer::Others)] {
            let up: Vec<_> = answers.iter().map(|wanted| *wanted == answer).collect();
            if up.contains(&true) {
                self.place(&up, by);
            }
        }
        ours
    }

    /// Gives the resource to the owner on just these nodes.
    fn place(&self, up: &[bool], by: &OwnerId) {
        let wall = everlock::clock::Clock::wall(&self.clock());
        for (node, _) in self.memory.iter().zip(up).filter(|(_, up)| **up) {
            let command = everlock::protocol::Command::Acquire {
                resource: Resource::new("r").unwrap(),
                owner: by.clone(),
                lease: LEASE,
                call: everlock::protocol::CallId::new(1),
                token: everlock::FencingToken::new(wall.as_micros()),
                reserve: 0,
            };
            assert_eq!(node.apply(&command).vote, everlock::Vote::Granted);
        }
    }
}

fn owner(id: &str) -> OwnerId {
    OwnerId::new(id).unwrap()
}

async fn acquire(client: &everlock::Redlock) -> Result<Grant, Error> {
    client.acquire("r", once().lease(LEASE)).await
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_acquired_just_when_more_than_half_of_the_nodes_grant_it() {
    for nodes in 1..=7 {
        for down in DOWN {
            for up in masks(nodes) {
                let world = World::of(nodes).await;
                let client = world.client(1).await;
                world.switch(&up, down);
                let result = acquire(&client).await;
                let up_count = up.iter().filter(|up| **up).count();
                let what = format!("{up:?}, down: {down:?}");
                match &result {
                    Ok(grant) => {
                        assert!(more_than_half(up_count, nodes), "{what}");
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        assert!(world.held_by("r", grant.owner()) >= up_count, "{what}");
                        assert!(grant.is_valid(), "{what}");
                    }
                    Err(Error::Unavailable { .. }) => {
                        assert!(!more_than_half(up_count, nodes), "{what}");
                        // Nothing is left where the undo can be told at once …
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        for (node, up) in world.memory.iter().zip(&up) {
                            assert!(!up || node.locks() == 0, "{what}");
                        }
                    }
                    Err(other) => panic!("{what}: {other}"),
                }
                // … and everywhere a second after the nodes are back.
                world.heal();
                if let Ok(grant) = &result {
                    client.release(grant).await.unwrap();
                }
                tokio::time::sleep(SECOND).await;
                assert_eq!(world.left(), 0, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_meets_another_holder_gets_the_lock_just_with_more_than_half() {
    for nodes in 1..=5 {
        for answers in assignments(nodes, &[Answer::Others, Answer::Nothing, Answer::Silence]) {
            let world = World::of(nodes).await;
            let client = world.client(1).await;
            world.arrange(&answers);
            let up: Vec<_> = answers.iter().map(|a| *a != Answer::Silence).collect();
            world.switch(&up, Mishap::RequestLost);
            let result = acquire(&client).await;
            let free = count(&answers, Answer::Nothing);
            let silent = count(&answers, Answer::Silence);
            match &result {
                Ok(grant) => {
                    assert!(more_than_half(free, nodes), "{answers:?}");
                    client.release(grant).await.unwrap();
                }
                Err(Error::Unavailable { .. }) => {
                    assert!(!more_than_half(nodes - silent, nodes), "{answers:?}");
                }
                Err(Error::Contended { retry_after, .. }) => {
                    // Among an even number of nodes half of them are enough to stand in the way.
                    let others = count(&answers, Answer::Others);
                    let blocked = !more_than_half(nodes - others, nodes);
                    let answered = more_than_half(nodes - silent, nodes);
                    assert!(answered || blocked, "{answers:?}");
                    assert!(!more_than_half(free, nodes), "{answers:?}");
                    let known = retry_after.is_none_or(|after| after <= LEASE);
                    assert!(known, "{retry_after:?}");
                }
                Err(other) => panic!("{answers:?}: {other}"),
            }
            world.heal();
            tokio::time::sleep(SECOND).await;
            // The other holder is not disturbed, and nothing of ours is left.
            let others = count(&answers, Answer::Others);
            assert_eq!(world.held_by("r", &owner("others")), others, "{answers:?}");
            assert_eq!(world.left(), others, "{answers:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_says_what_the_counting_rule_says() {
    let all = [
        Answer::Ours,
        Answer::Others,
        Answer::Nothing,
        Answer::Silence,
    ];
    for nodes in 1..=5 {
        for down in DOWN {
            for answers in assignments(nodes, &all) {
                let world = World::of(nodes).await;
                let client = world.client(1).await;
                let ours = world.arrange(&answers);
                let up: Vec<_> = answers.iter().map(|a| *a != Answer::Silence).collect();
                world.switch(&up, down);
                let resource = Resource::new("r").unwrap();
                let result = client.extend((&resource, &ours), SECOND).await;
                let what = format!("{answers:?}, down: {down:?}");
                assert_eq!(Said::of(&result), extend_oracle(&answers), "{what}");
                if let Ok(extended) = result {
                    let taken_off = Duration::from_millis(602) + SECOND;
                    let least = extended.remaining() + taken_off;
                    assert!(least >= LEASE, "{what}: {extended:?}");
                    assert!(extended.remaining() < LEASE + SECOND, "{what}");
                }
                // A failed extension releases nothing and brings nothing back.
                world.heal();
                tokio::time::sleep(SECOND).await;
                let kept = world.held_by("r", &ours);
                let before = count(&answers, Answer::Ours);
                let repaired = count(&answers, Answer::Nothing);
                assert!((before..=before + repaired).contains(&kept), "{what}");
                let extended = extend_oracle(&answers) == Said::Done;
                assert!(extended || kept == before, "{what}: a resurrection");
                assert!(!extended || kept == before + repaired, "{what}: a repair");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_says_what_the_counting_rule_says_and_leaves_nothing() {
    let all = [
        Answer::Ours,
        Answer::Others,
        Answer::Nothing,
        Answer::Silence,
    ];
    for nodes in 1..=5 {
        for down in DOWN {
            for answers in assignments(nodes, &all) {
                let world = World::of(nodes).await;
                let client = world.client(1).await;
                let ours = world.arrange(&answers);
                let up: Vec<_> = answers.iter().map(|a| *a != Answer::Silence).collect();
                world.switch(&up, down);
                let resource = Resource::new("r").unwrap();
                let result = client.release((&resource, &ours)).await;
                let what = format!("{answers:?}, down: {down:?}");
                assert_eq!(Said::of(&result), release_oracle(&answers), "{what}");
                world.heal();
                tokio::time::sleep(SECOND).await;
                assert_eq!(world.held_by("r", &ours), 0, "{what}");
                let others = count(&answers, Answer::Others);
                assert_eq!(world.left(), others, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_mask_of_up_to_seven_nodes_extends_and_releases_with_more_than_half() {
    for nodes in 1..=7 {
        for down in DOWN {
            for up in masks(nodes) {
                let world = World::of(nodes).await;
                let client = world.client(1).await;
                let grant = acquire(&client).await.unwrap();
                world.switch(&up, down);
                let answers: Vec<_> = up
                    .iter()
                    .map(|up| if *up { Answer::Ours } else { Answer::Silence })
                    .collect();
                let what = format!("{up:?}, down: {down:?}");
                let extended = client.extend(&grant, SECOND).await;
                assert_eq!(Said::of(&extended), extend_oracle(&answers), "{what}");
                let released = client.release(&grant).await;
                assert_eq!(Said::of(&released), release_oracle(&answers), "{what}");
                world.heal();
                tokio::time::sleep(SECOND).await;
                assert_eq!(world.left(), 0, "{what}");
            }
        }
    }
}
