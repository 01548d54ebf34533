//! Rules of leaving the line: with the release of what was had from there, and who hears of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::queue::{LEFT, queued};
use super::{Bench, Make, PATIENCE, owner, resource};
use crate::core::command::Command;
use crate::core::quorum::Vote;
use crate::core::types::CallId;

impl Bench {
    async fn release_in_turn(&self, call: u64, ticket: u64, step: u64) -> Vote {
        self.ask(Command::ReleaseInTurn {
            resource: resource(),
            owner: owner(&call.to_string()),
            token: self.token(step),
            call: CallId::new(call),
            ticket: self.token(ticket),
        })
        .await
    }
}

pub async fn a_release_by_the_winner_takes_it_out_of_the_line_as_well(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.try_as("1", 1, bench.turn(10, false), 11).await;
    bench.propose(2, 20).await;
    bench.propose(3, 30).await;
    let token = Some(bench.token(11));
    assert_eq!(
        bench.release_in_turn(1, 10, 11).await,
        Vote::Released { token }
    );
    assert_eq!(bench.beat(2, 20).await, queued(0, 2));
    assert_eq!(bench.try_in_turn(2, 20, 40).await, Vote::Granted);
    // Whose lock is over leaves the line all the same, and nobody else's place is touched.
    let vote = bench.release_in_turn(1, 10, 11).await;
    assert!(matches!(vote, Vote::Held { .. }), "{vote:?}");
    assert_eq!(bench.length().await, 2);
    bench.undo("2", 2, 40).await;
    assert_eq!(bench.release_in_turn(2, 20, 40).await, Vote::Absent);
    assert_eq!(bench.beat(3, 30).await, queued(0, 1));
    // Where it never stood, its ticket is refused from then on.
    assert_eq!(bench.release_in_turn(4, 50, 41).await, Vote::Absent);
    let floor = bench.token(50);
    assert_eq!(bench.propose(4, 50).await, Vote::TicketStale { floor });
    assert_eq!(bench.propose(5, 51).await, queued(1, 2));
}

pub async fn leaving_is_heard_where_the_next_one_may_be_granted_the_lock(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    let listening = bench.node.listen(
        &resource(),
        Arc::new(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        }),
    );
    let wait_for = async |count: usize| {
        let reached = async {
            while heard.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.unwrap_or_else(|_| panic!("never heard {count}"));
    };
    wait_for(1).await;
    for call in 1..=4 {
        bench.beat(call, call * 10).await;
    }
    assert_eq!(bench.leave(3, 30).await, LEFT, "not the first");
    bench.acquire("fast", 9, 50).await;
    assert_eq!(bench.leave(1, 10).await, LEFT, "somebody holds the lock");
    bench.undo("fast", 9, 50).await;
    assert_eq!(bench.leave(2, 20).await, Vote::LeftQueue { wakes: true });
    // Messages come in order: had anything else been told, it would be here by now.
    wait_for(2).await;
    bench.acquire("fast", 9, 60).await;
    bench.release("fast", 60).await;
    wait_for(3).await;
    bench.try_in_turn(4, 40, 70).await;
    bench.release_in_turn(4, 40, 70).await;
    wait_for(4).await;
    assert_eq!(heard.load(Ordering::SeqCst), 4);
    drop(listening);
}
