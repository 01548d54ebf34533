//! Rules of waiting in line: who is before whom, and what outlives the line.

use std::time::Duration;

use super::{Bench, LEASE, MAX_LEASE, Make, SHORT_MAX_LEASE, attempt, open, owner, resource};
use crate::core::command::{Command, Turn};
use crate::core::queue::{MAX_QUEUE, TICKET_LIFE};
use crate::core::quorum::Vote;
use crate::core::token::FencingToken;
use crate::core::types::CallId;

pub(super) const fn queued(position: u32, length: u32) -> Vote {
    Vote::Queued { position, length }
}

pub(super) const LEFT: Vote = Vote::LeftQueue { wakes: false };

impl Bench {
    pub(super) fn turn(&self, ticket: u64, accepted: bool) -> Turn {
        let ticket = self.token(ticket);
        Turn { ticket, accepted }
    }

    /// Proposes a ticket without an attempt.
    pub(super) async fn propose(&self, call: u64, ticket: u64) -> Vote {
        self.stand(call, self.turn(ticket, false)).await
    }

    /// Stays under a ticket that a quorum accepted.
    pub(super) async fn beat(&self, call: u64, ticket: u64) -> Vote {
        self.stand(call, self.turn(ticket, true)).await
    }

    async fn stand(&self, call: u64, turn: Turn) -> Vote {
        let (resource, call) = (resource(), CallId::new(call));
        self.ask(Command::Stand {
            resource,
            call,
            turn,
        })
        .await
    }

    /// An attempt under an accepted ticket, by an owner named like the call.
    pub(super) async fn try_in_turn(&self, call: u64, ticket: u64, step: u64) -> Vote {
        self.try_as(&call.to_string(), call, self.turn(ticket, true), step)
            .await
    }

    pub(super) async fn try_as(&self, by: &str, call: u64, turn: Turn, step: u64) -> Vote {
        self.ask(Command::AcquireInTurn {
            resource: resource(),
            owner: owner(by),
            lease: LEASE,
            call: attempt(call, step),
            token: self.token(step),
            turn,
        })
        .await
    }

    pub(super) async fn leave(&self, call: u64, ticket: u64) -> Vote {
        self.ask(Command::LeaveQueue {
            resource: resource(),
            call: CallId::new(call),
            ticket: self.token(ticket),
        })
        .await
    }

    pub(super) async fn length(&self) -> u32 {
        let resource = resource();
        match self.ask(Command::Queue { resource }).await {
            Vote::Queue { length } => length,
            other => panic!("asked for the length: {other:?}"),
        }
    }
}

pub async fn the_first_in_line_is_granted_and_others_are_told_their_place(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.length().await, 0);
    let first = bench.try_as("1", 1, bench.turn(10, false), 11).await;
    assert_eq!(first, Vote::Granted);
    assert_eq!(bench.propose(2, 20).await, queued(1, 2));
    assert_eq!(bench.propose(3, 30).await, queued(2, 3));
    assert_eq!(bench.try_in_turn(2, 20, 40).await, queued(1, 3));
    assert_eq!(bench.holder().await.as_deref(), Some("1"));
    assert_eq!(bench.length().await, 3);
}

pub async fn a_grant_leaves_the_ticket_and_only_leaving_lets_the_next_one_pass(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.try_as("1", 1, bench.turn(10, false), 11).await;
    bench.propose(2, 20).await;
    bench.release("1", 11).await;
    assert_eq!(bench.try_in_turn(2, 20, 30).await, queued(1, 2));
    assert_eq!(bench.leave(1, 10).await, Vote::LeftQueue { wakes: true });
    assert_eq!(bench.try_in_turn(2, 20, 31).await, Vote::Granted);
    assert_eq!(bench.leave(2, 20).await, LEFT);
    assert_eq!(bench.length().await, 0);
}

pub async fn the_first_in_line_is_answered_as_any_acquire(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.acquire("other", 9, 5).await, Vote::Granted);
    let held = bench.try_as("1", 1, bench.turn(10, false), 11).await;
    assert!(matches!(held, Vote::Held { .. }), "{held:?}");
    bench.release("other", 5).await;
    bench.settle("other", 20).await;
    let floor = bench.token(20);
    assert_eq!(bench.try_in_turn(1, 10, 12).await, Vote::Stale { floor });
    assert_eq!(bench.try_in_turn(1, 10, 21).await, Vote::Granted);
    // Again by the same call: granted anew, as long as it is first.
    assert_eq!(bench.try_in_turn(1, 10, 22).await, Vote::Granted);
    bench.beat(2, 9).await;
    assert_eq!(bench.try_in_turn(1, 10, 23).await, queued(1, 2));
}

pub async fn a_ticket_not_above_the_floor_is_refused_also_when_the_line_is_gone(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.propose(1, 10).await;
    let stale = Vote::TicketStale {
        floor: bench.token(10),
    };
    assert_eq!(bench.propose(2, 10).await, stale);
    assert_eq!(bench.propose(2, 9).await, stale);
    bench.leave(1, 10).await;
    assert_eq!(bench.length().await, 0);
    assert_eq!(bench.propose(2, 10).await, stale);
    assert_eq!(bench.propose(2, 11).await, queued(0, 1));
    // The lock's own floor is another matter.
    assert_eq!(bench.acquire("any", 3, 5).await, Vote::Granted);
}

pub async fn a_ticket_beyond_any_lease_is_ahead(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let beyond = bench.now().await.plus(MAX_LEASE + Duration::from_mins(1));
    let turn = Turn {
        ticket: FencingToken::new(beyond.as_micros()),
        accepted: false,
    };
    assert_eq!(bench.stand(1, turn).await, Vote::Ahead);
    let ticket = turn.ticket;
    let (resource, call) = (resource(), CallId::new(1));
    let leave = Command::LeaveQueue {
        resource,
        call,
        ticket,
    };
    assert_eq!(bench.ask(leave).await, LEFT);
    assert_eq!(bench.propose(2, 1).await, queued(0, 1));
}

pub async fn a_missing_ticket_floor_counts_as_that_of_a_day_ago(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let old = |hours: u64| Turn {
        ticket: FencingToken::new(bench.base - hours * 3_600_000_000),
        accepted: false,
    };
    let vote = bench.stand(1, old(25)).await;
    assert!(matches!(vote, Vote::TicketStale { .. }), "{vote:?}");
    assert_eq!(bench.stand(1, old(23)).await, queued(0, 1));
}

pub async fn a_proposal_that_comes_twice_is_accepted_and_a_late_one_is_not(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.propose(1, 10).await, queued(0, 1));
    assert_eq!(bench.propose(2, 20).await, queued(1, 2));
    assert_eq!(bench.propose(1, 10).await, queued(0, 2));
    let floor = bench.token(20);
    assert_eq!(bench.propose(2, 15).await, Vote::TicketStale { floor });
    assert_eq!(
        bench.beat(2, 20).await,
        queued(1, 2),
        "the later ticket stays"
    );
}

pub async fn a_new_ticket_replaces_the_earlier_one_also_when_it_is_refused(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.propose(1, 10).await;
    bench.propose(2, 20).await;
    assert_eq!(bench.propose(1, 30).await, queued(1, 2));
    bench.propose(3, 50).await;
    let floor = bench.token(50);
    assert_eq!(bench.propose(1, 40).await, Vote::TicketStale { floor });
    assert_eq!(bench.length().await, 2);
    assert_eq!(bench.beat(3, 50).await, queued(1, 2));
}

pub async fn an_accepted_ticket_enters_before_those_who_came_later(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.propose(2, 20).await;
    assert_eq!(bench.beat(1, 10).await, queued(0, 2));
    assert_eq!(bench.try_in_turn(2, 20, 30).await, queued(1, 2));
    assert_eq!(bench.try_in_turn(1, 10, 31).await, Vote::Granted);
    // The floor did not fall.
    let floor = bench.token(20);
    assert_eq!(bench.propose(3, 15).await, Vote::TicketStale { floor });
}

pub async fn equal_tickets_have_an_order(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.beat(u64::MAX, 10).await;
    assert_eq!(bench.beat(9, 10).await, queued(0, 2));
    assert_eq!(bench.beat(10, 10).await, queued(1, 3));
    assert_eq!(bench.beat(u64::MAX, 10).await, queued(2, 3));
}

pub async fn a_ticket_goes_unless_it_is_renewed(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.propose(1, 10).await;
    bench.pass(TICKET_LIFE / 2).await;
    assert_eq!(bench.propose(2, 20).await, queued(1, 2));
    bench
        .pass(TICKET_LIFE / 2 + Duration::from_millis(20))
        .await;
    assert_eq!(bench.length().await, 1);
    assert_eq!(bench.beat(2, 20).await, queued(0, 1));
    bench.pass(TICKET_LIFE + Duration::from_millis(20)).await;
    assert_eq!(bench.length().await, 0);
    let floor = bench.token(20);
    assert_eq!(bench.propose(3, 20).await, Vote::TicketStale { floor });
}

pub async fn a_proposal_after_leaving_is_refused(make: Make<'_>) {
    let bench = Bench::open(make).await;
    assert_eq!(bench.leave(1, 10).await, LEFT);
    let floor = bench.token(10);
    assert_eq!(bench.propose(1, 10).await, Vote::TicketStale { floor });
    assert_eq!(bench.length().await, 0);
    // An older leave lowers nothing.
    assert_eq!(bench.leave(2, 5).await, LEFT);
    assert_eq!(bench.propose(3, 10).await, Vote::TicketStale { floor });
}

pub async fn a_full_line_refuses_new_tickets_and_takes_accepted_ones(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let most = u32::try_from(MAX_QUEUE).expect("a small number");
    for number in 1..=u64::from(most) {
        let place = bench.propose(number, 10 + number).await;
        assert!(matches!(place, Vote::Queued { .. }), "{number}: {place:?}");
        if number % 100 == 0 {
            // A slow machine must not lose those who came first.
            for early in 1..=number {
                bench.beat(early, 10 + early).await;
            }
        }
    }
    let late = u64::from(most) + 1;
    let full = Vote::QueueFull { length: most };
    assert_eq!(bench.propose(late, 10 + late).await, full);
    assert_eq!(bench.beat(late, 10 + late).await, queued(most, most + 1));
    assert_eq!(bench.propose(1, 20 + late).await, full, "its place is gone");
    bench.leave(2, 12).await;
    bench.leave(3, 13).await;
    assert_eq!(
        bench.propose(1, 20 + late).await,
        queued(most - 2, most - 1)
    );
}

pub async fn acquires_without_a_ticket_take_no_notice_of_the_line(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.propose(1, 10).await;
    assert_eq!(bench.acquire("fast", 7, 11).await, Vote::Granted);
    assert_eq!(bench.beat(1, 10).await, queued(0, 1));
}

pub async fn who_holds_the_lock_by_another_call_is_told_so_behind_others(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.acquire("me", 7, 5).await;
    bench.propose(1, 10).await;
    let again = bench.try_as("me", 8, bench.turn(20, false), 21).await;
    let token = bench.token(5);
    assert!(
        matches!(again, Vote::Again { token: of, .. } if of == token),
        "{again:?}"
    );
    // By the call that holds it, it would be granted anew: that is for the first in line.
    let anew = bench.try_as("other", 9, bench.turn(30, false), 31).await;
    assert_eq!(anew, queued(2, 3));
}

pub async fn a_guarded_node_keeps_its_line_and_grants_nothing(make: Make<'_>) {
    let long = Duration::from_mins(1);
    let bench = Bench::unmarked(make(false)).await;
    open(&*bench.node, long, false).await;
    bench.propose(1, 10).await;
    bench.subject.restart();
    bench.guard(long, false).await;
    assert_eq!(bench.beat(1, 10).await, queued(0, 1));
    let vote = bench.try_in_turn(1, 10, 11).await;
    assert!(matches!(vote, Vote::Guarded { .. }), "{vote:?}");
    let vote = bench.propose(2, 20).await;
    assert!(matches!(vote, Vote::Guarded { .. }), "{vote:?}");
    assert_eq!(bench.beat(3, 5).await, queued(0, 2));
    bench.leave(1, 10).await;
    bench.leave(3, 5).await;
    assert_eq!(bench.length().await, 0);
}

pub async fn a_node_whose_loss_was_not_noted_takes_nobody_in_line(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    for vote in [
        bench.propose(1, 10).await,
        bench.beat(1, 10).await,
        bench.try_in_turn(1, 10, 11).await,
    ] {
        assert_eq!(vote, Vote::Guarded { remaining: None });
    }
    assert_eq!(bench.leave(1, 10).await, LEFT);
    assert_eq!(bench.length().await, 0);
}

pub async fn tickets_that_may_be_forgotten_are_refused_after_a_loss(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    open(&*bench.node, SHORT_MAX_LEASE, false).await;
    bench.propose(1, 10).await;
    bench.subject.forget();
    let marker = bench.guard(SHORT_MAX_LEASE, false).await.marker;
    let base = marker.expect("the loss is noted").floor_base;
    bench
        .pass(SHORT_MAX_LEASE + Duration::from_millis(50))
        .await;
    let propose = async |ticket: u64| {
        let ticket = FencingToken::new(ticket);
        let accepted = false;
        bench.stand(2, Turn { ticket, accepted }).await
    };
    let floor = FencingToken::new(base.as_micros());
    assert_eq!(
        propose(base.as_micros()).await,
        Vote::TicketStale { floor },
        "one that was forgotten may have been higher"
    );
    assert_eq!(propose(base.as_micros() + 1).await, queued(0, 1));
    // Who was accepted by a quorum comes back to where it stood.
    assert_eq!(bench.beat(1, 10).await, queued(0, 2));
}
