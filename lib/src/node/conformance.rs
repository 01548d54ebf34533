//! One suite that every node passes, whatever it keeps its state in.
//!
//! Each rule is a function named after what it demands; the macro
//! [`node_conformance!`](crate::node_conformance) makes one test of each. Rules
//! know a node only through its trait and a [`Subject`], which opens the doors
//! that tests need: restarting, forgetting, letting time pass.
//! It says nothing about messages that get lost, which no node can help.

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "a rule's name says what it demands, and it panics where a node breaks it"
)]

pub mod acquire;
pub mod clocks;
pub mod extend;
pub mod guard;
pub mod leaving;
pub mod marker;
pub mod names;
pub mod queue;
pub mod release;
pub mod shares;
pub mod undo;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Ballot, Node};
use crate::clock::{Clock, SystemClock};
use crate::core::command::Command;
use crate::core::marker::{ClusterInfo, MarkerCommand, MarkerState};
use crate::core::quorum::{Fault, FaultKind, Reply, Vote};
use crate::core::time::WallTime;
use crate::core::token::FencingToken;
use crate::core::types::{CallId, OwnerId, Resource};
use crate::error::ConfigError;
use crate::redlock::Redlock;

/// The maximum lease of the nodes that rules open.
pub const MAX_LEASE: Duration = Duration::from_secs(3);
/// That of the nodes whose guard a rule waits for.
pub const SHORT_MAX_LEASE: Duration = Duration::from_millis(1_200);
/// A lease that does not end while a rule runs.
pub const LEASE: Duration = Duration::from_millis(2_500);
/// How precisely a node's times are compared: test machines are busy.
const SLACK: Duration = Duration::from_millis(700);
/// How long a node is given for one answer, its reconnecting included.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a rule waits for.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A node under test, with what a rule needs beside the node's trait.
pub trait Subject: Send + Sync {
    /// The node: fresh, without a marker.
    fn node(&self) -> Arc<dyn Node>;
    /// Begins another run of the server, which keeps its data.
    fn restart(&self);
    /// Loses all data, the marker included; may begin another run.
    fn forget(&self);
    /// Lets this much time pass on the node's clock.
    fn pass(&self, time: Duration) -> Waiting<'_>;
    /// Sets the node's clock back by this much.
    fn step_back(&self, by: Duration);
}

/// Makes subjects: `true` asks for one that counts as losing nothing in a restart.
pub type Make<'a> = &'a dyn Fn(bool) -> Box<dyn Subject>;

/// The node at this URL, outside of any client: for subjects on a Redis server. Must be
/// called within a tokio runtime.
pub fn redis_node(url: &str) -> Result<Arc<dyn Node>, ConfigError> {
    let cluster = Redlock::builder().node_urls([url]).cluster()?;
    cluster.nodes.into_iter().next().ok_or(ConfigError::NoNodes)
}

/// Hands a node one command and waits for the answer, whatever it is.
pub async fn submit(node: &dyn Node, command: Command) -> Reply {
    let mut ballot = Ballot::open();
    node.submit(command, SystemClock.now() + PATIENCE, ballot.slot(0));
    let answer = tokio::time::timeout(PATIENCE * 2, ballot.next()).await;
    answer.expect("every command is answered").1
}

/// Opens a node without a marker for voting, as the only one of its cluster.
pub async fn open(node: &dyn Node, max_lease: Duration, durable: bool) {
    let prepare = MarkerCommand::Prepare {
        cluster: cluster(max_lease),
        nonce: "nonce".into(),
        over: None,
        durable,
    };
    node.mark(prepare).await.expect("the node can be prepared");
    let nonce = "nonce".into();
    let activated = node.mark(MarkerCommand::Activate { nonce }).await;
    activated.expect("the node can be opened");
}

/// The cluster of one node that the rules' nodes belong to.
#[must_use]
pub fn cluster(max_lease: Duration) -> ClusterInfo {
    ClusterInfo {
        id: "conformance".to_owned(),
        nodes: 1,
        max_lease,
    }
}

/// A node with its subject, and short ways of asking it.
pub(crate) struct Bench {
    subject: Box<dyn Subject>,
    node: Arc<dyn Node>,
    base: u64,
}

/// A call's attempts are numbered by the steps at which they are made.
fn attempt(call: u64, step: u64) -> CallId {
    CallId::new(call).at_attempt(u32::try_from(step).expect("tests make few steps"))
}

impl Bench {
    /// An open node of [`MAX_LEASE`].
    async fn open(make: Make<'_>) -> Self {
        let bench = Self::unmarked(make(false)).await;
        open(&*bench.node, MAX_LEASE, false).await;
        bench
    }

    async fn unmarked(subject: Box<dyn Subject>) -> Self {
        let node = subject.node();
        let base = node.mark(MarkerCommand::Read).await;
        let base = base.expect("the node answers").time.as_micros();
        Self {
            subject,
            node,
            base,
        }
    }

    async fn ask(&self, command: Command) -> Vote {
        // A node that was restarted may need a moment.
        for _ in 0..200 {
            let vote = submit(&*self.node, command.clone()).await.vote;
            match vote {
                Vote::Failed(Fault {
                    kind: FaultKind::Refused | FaultKind::Disconnected | FaultKind::Unreachable,
                    ..
                }) => tokio::time::sleep(Duration::from_millis(25)).await,
                vote => return vote,
            }
        }
        panic!("the node does not come back")
    }

    async fn mark(&self, command: MarkerCommand) -> MarkerState {
        for _ in 0..200 {
            if let Ok(state) = self.node.mark(command.clone()).await {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the node does not come back")
    }

    async fn now(&self) -> WallTime {
        self.mark(MarkerCommand::Read).await.time
    }

    /// The token `step` after the time at which the rule began.
    fn token(&self, step: u64) -> FencingToken {
        FencingToken::new(self.base + step)
    }

    async fn acquire(&self, by: &str, call: u64, step: u64) -> Vote {
        self.acquire_for(by, call, step, LEASE).await
    }

    async fn acquire_for(&self, by: &str, call: u64, step: u64, lease: Duration) -> Vote {
        let tokens = (attempt(call, step), self.token(step), 0);
        self.acquire_as(by, tokens, lease).await
    }

    async fn acquire_under(
        &self,
        by: &str,
        call: u64,
        token: FencingToken,
        lease: Duration,
    ) -> Vote {
        let tokens = (CallId::new(call), token, 0);
        self.acquire_as(by, tokens, lease).await
    }

    async fn acquire_as(
        &self,
        by: &str,
        (call, token, reserve): (CallId, FencingToken, u32),
        lease: Duration,
    ) -> Vote {
        self.ask(Command::Acquire {
            resource: resource(),
            owner: owner(by),
            lease,
            call,
            token,
            reserve,
        })
        .await
    }

    async fn release(&self, by: &str, step: u64) -> Vote {
        self.ask(Command::Release {
            resource: resource(),
            owner: owner(by),
            token: self.token(step),
        })
        .await
    }

    async fn pass_on(&self, by: &str, step: u64) -> Vote {
        self.ask(Command::PassOn {
            resource: resource(),
            owner: owner(by),
            token: self.token(step),
        })
        .await
    }

    async fn settle(&self, by: &str, step: u64) -> Vote {
        self.ask(Command::Settle {
            resource: resource(),
            owner: owner(by),
            token: self.token(step),
        })
        .await
    }

    async fn holder(&self) -> Option<String> {
        let inspect = Command::Inspect {
            resource: resource(),
        };
        match self.ask(inspect).await {
            Vote::Holder { owner, .. } => Some((*owner).to_owned()),
            Vote::Absent => None,
            other => panic!("asked for the holder: {other:?}"),
        }
    }

    /// Notes a loss, as whoever sees it first does.
    async fn guard(&self, max_lease: Duration, durable: bool) -> MarkerState {
        let started = None;
        self.mark(MarkerCommand::Guard {
            cluster: cluster(max_lease),
            started,
            durable,
        })
        .await
    }

    async fn pass(&self, time: Duration) {
        self.subject.pass(time).await;
    }
}

fn resource() -> Resource {
    Resource::new("tenant:orders:42").expect("the name is valid")
}

fn owner(id: &str) -> OwnerId {
    OwnerId::new(id).expect("the id is valid")
}

/// Whether two durations are the same but for what a busy machine adds.
#[track_caller]
fn about(found: Duration, expected: Duration) {
    assert!(
        found <= expected + Duration::from_millis(2) && found + SLACK >= expected,
        "found {found:?}, expected about {expected:?}"
    );
}

/// Makes a test of every rule of the suite. `$make` is a function that makes a
/// subject; its argument says whether it must count as losing nothing in a restart.
#[macro_export]
macro_rules! node_conformance {
    ($make:path) => {
        $crate::node_conformance! { $make =>
            acquire::a_free_lock_is_granted_to_its_owner_alone
            acquire::another_owner_is_told_what_remains_and_under_which_token
            acquire::a_held_lock_is_held_whatever_token_is_proposed
            acquire::a_token_not_above_the_floor_is_stale_and_told_the_floor
            acquire::tokens_that_are_reserved_are_granted_to_nobody_else
            acquire::reserved_tokens_beyond_any_lease_are_ahead
            acquire::a_missing_floor_counts_as_that_of_a_day_ago
            acquire::a_token_beyond_any_lease_is_ahead
            acquire::a_lease_above_the_maximum_is_refused_and_the_maximum_is_not
            acquire::the_same_call_is_granted_again_under_a_higher_token
            acquire::an_expired_lock_is_free_and_its_floor_stays
            acquire::resources_do_not_touch_each_other
            acquire::a_node_that_votes_answers_a_ping
            shares::the_owner_asking_by_another_call_shares_the_grant
            shares::sharing_never_shortens_a_lease_and_may_lengthen_it
            shares::an_undo_takes_the_lock_only_with_the_last_share
            shares::an_undo_takes_back_nothing_that_a_later_attempt_renewed
            shares::an_undo_before_the_sharing_call_arrives_makes_it_stale
            shares::more_calls_than_are_counted_pin_the_grant_until_it_is_released
            shares::stale_and_ahead_come_before_sharing
            shares::a_call_that_asks_again_takes_nothing_from_those_it_shares_with
            undo::what_is_undone_is_free_at_once
            undo::an_undo_before_arrival_makes_a_late_acquire_stale
            undo::an_undo_never_hits_a_later_attempt
            undo::an_undo_never_hits_another_owner
            undo::an_undo_beyond_any_lease_lifts_no_floor
            undo::an_undo_never_lowers_a_floor
            undo::an_undo_aloud_is_heard_if_the_lock_went_with_it
            release::a_release_frees_and_tells_the_token
            release::a_release_without_the_token_may_bring_a_higher_one
            release::a_newer_grant_is_not_released_and_told
            release::nobodys_and_anothers_locks_are_not_released
            release::an_expired_lock_is_absent_to_its_owner
            release::a_settlement_refuses_late_grants_of_what_was_released
            release::a_settlement_deletes_what_was_granted_late
            release::a_settlement_hits_neither_newer_grants_nor_other_owners
            release::what_is_passed_on_is_released
            release::a_release_is_heard_and_what_is_passed_on_or_undone_silently_is_not
            extend::an_extension_adds_to_what_remains_and_keeps_the_token
            extend::an_extension_ends_at_the_maximum_lease
            extend::an_expired_lock_is_never_resurrected
            extend::anothers_lock_is_not_extended
            extend::an_extended_lock_outlives_its_first_lease_and_then_ends
            names::hostile_names_are_kept_apart_and_told_back_unchanged
            names::the_longest_names_fit
            names::owners_of_any_shape_share_and_undo
            queue::the_first_in_line_is_granted_and_others_are_told_their_place
            queue::a_grant_leaves_the_ticket_and_only_leaving_lets_the_next_one_pass
            leaving::a_release_by_the_winner_takes_it_out_of_the_line_as_well
            queue::the_first_in_line_is_answered_as_any_acquire
            queue::a_ticket_not_above_the_floor_is_refused_also_when_the_line_is_gone
            queue::a_ticket_beyond_any_lease_is_ahead
            queue::a_missing_ticket_floor_counts_as_that_of_a_day_ago
            queue::a_proposal_that_comes_twice_is_accepted_and_a_late_one_is_not
            queue::a_new_ticket_replaces_the_earlier_one_also_when_it_is_refused
            queue::an_accepted_ticket_enters_before_those_who_came_later
            queue::equal_tickets_have_an_order
            queue::a_ticket_goes_unless_it_is_renewed
            queue::a_proposal_after_leaving_is_refused
            queue::a_full_line_refuses_new_tickets_and_takes_accepted_ones
            queue::acquires_without_a_ticket_take_no_notice_of_the_line
            queue::who_holds_the_lock_by_another_call_is_told_so_behind_others
            queue::a_guarded_node_keeps_its_line_and_grants_nothing
            queue::a_node_whose_loss_was_not_noted_takes_nobody_in_line
            queue::tickets_that_may_be_forgotten_are_refused_after_a_loss
            leaving::leaving_is_heard_where_the_next_one_may_be_granted_the_lock
            guard::a_node_without_a_marker_votes_on_nothing
            guard::a_prepared_node_votes_on_nothing
            guard::a_guarded_node_releases_undoes_and_tells_the_holder
            guard::a_node_that_lost_everything_waits_the_longest_lease_and_no_longer
            guard::a_later_witness_neither_shortens_nor_prolongs_a_guard
            guard::tokens_that_may_be_forgotten_are_refused_after_a_loss
            guard::steps_back_that_are_small_one_by_one_add_up
            guard::a_restart_that_may_have_lost_something_waits
            guard::a_restart_counts_from_the_start_of_the_server
            guard::a_restart_that_loses_nothing_votes_at_once
            guard::a_guard_survives_a_restart_that_loses_nothing
            clocks::a_clock_has_no_baseline_until_it_is_given_one
            clocks::a_baseline_is_kept_and_follows_drift_without_a_guard
            clocks::a_jump_guards_at_once_for_the_longest_lease_and_is_named
            clocks::a_jump_that_was_noted_is_not_noted_again
            clocks::a_rebase_begins_an_era_and_guards_nobody
            clocks::a_restart_keeps_the_baseline_and_a_loss_does_not
            marker::a_look_changes_nothing
            marker::the_lower_cluster_id_wins_whatever_the_order
            marker::who_did_not_see_what_is_prepared_prepares_nothing
            marker::only_the_present_nonce_opens_a_node
            marker::an_open_node_is_never_prepared_again
            marker::a_preparation_of_another_run_gives_way
            marker::a_guard_keeps_the_cluster_that_the_node_knows
        }
    };
    ($make:path => $($group:ident :: $rule:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let make = |durable| -> Box<dyn $crate::node::conformance::Subject> {
                    Box::new($make(durable))
                };
                $crate::node::conformance::$group::$rule(&make).await;
            }
        )+
    };
}
