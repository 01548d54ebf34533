//! One suite that every [`Lease`] passes, wherever it is kept: the contract as tests.
//!
//! Each rule is a function named after what it demands.
//! [`lease_contract!`](crate::lease_contract) makes one test of each, under tokio's
//! paused time: for subjects whose time is tokio's. [`run`] runs them all at once
//! in real time: for leases that are kept by real servers.
//!
//! Rules know a lease only through its trait and a [`Subject`], which makes leases,
//! and spoils the way between an owner and the backend. A subject that can't do
//! something says so, and the rules that need it pass without it.
//!
//! ```
//! use everlock::lease::contract::Subject;
//! use everlock::lease::{Lease, LeaseOptions, memory::MemoryLeases};
//! use std::sync::Arc;
//!
//! # #[derive(Debug)] struct TokioClock(tokio::time::Instant);
//! # impl everlock::clock::Clock for TokioClock {
//! #     fn now(&self) -> everlock::clock::Moment {
//! #         everlock::clock::Moment::from_origin(self.0.elapsed())
//! #     }
//! #     fn wall(&self) -> everlock::clock::WallTime { Default::default() }
//! # }
//! // In a test file of your crate: what is yours takes the place of `MemoryLeases`.
//! struct Ours(MemoryLeases);
//!
//! impl Subject for Ours {
//!     fn lease(&self, options: LeaseOptions) -> Arc<dyn Lease> {
//!         Arc::new(self.0.lease(options))
//!     }
//! }
//!
//! fn ours() -> std::future::Ready<Ours> {
//!     let clock = Arc::new(TokioClock(tokio::time::Instant::now()));
//!     std::future::ready(Ours(MemoryLeases::with_clock(clock)))
//! }
//!
//! everlock::lease_contract!(ours);
//! # fn main() {}
//! ```

#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a rule's name says what it demands, and it panics where a lease breaks it"
)]

pub mod acquiring;
pub mod losing;
pub mod releasing;
pub mod timers;
pub mod tokens;

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Lease, LeaseError, LeaseOptions, LeaseOptionsBuilder, LeaseToken, Subscription};
use crate::core::renewal::LossReason;

/// What a rule waits for.
pub type Waiting<'a, T = ()> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How an owner's way to the backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// In order.
    Fine,
    /// What is asked never arrives, and nothing is heard.
    Silent,
    /// What is asked is done, and nothing is heard.
    Deaf,
    /// What is asked arrives this much later.
    Slow(Duration),
    /// What is asked is done, and the answer comes this much later.
    Lagging(Duration),
}

/// Leases under test, with what a rule needs beside the trait.
pub trait Subject: Send + Sync {
    /// A lease as a process of its own would make it: the owner may have another one,
    /// of an earlier process.
    fn lease(&self, options: LeaseOptions) -> Arc<dyn Lease>;

    /// The ttl that rules use: long enough that a renewal is never late by accident.
    fn ttl(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// How many contend where many should.
    fn crowd(&self) -> usize {
        200
    }

    /// From now on the way between this owner and the backend is like this. Whether
    /// that can be done.
    fn weather(&self, owner: &str, weather: Weather) -> bool {
        let _ = (owner, weather);
        false
    }

    /// This owner's process stands still for so long: time passes on its clock, and
    /// no timer runs. Whether that can be done.
    fn suspend(&self, owner: &str, time: Duration) -> bool {
        let _ = (owner, time);
        false
    }

    /// Somebody ends the tenure of whoever holds the lease of this name, and the
    /// holder is not told. Whether that can be done.
    fn revoke<'a>(&'a self, name: &'a str) -> Waiting<'a, bool> {
        let _ = name;
        Box::pin(std::future::ready(false))
    }
}

/// What passes in the background is done within this, also on a busy machine.
const SOON: Duration = Duration::from_secs(8);
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A rule of the contract.
pub type Rule = for<'a> fn(&'a dyn Subject) -> Waiting<'a>;

/// Runs all rules at once, but for those that watch the whole runtime. Panics with
/// the first one that is broken, in the rule's own words and at its place.
pub async fn run(subject: &dyn Subject) {
    let all = rules().iter().map(|(_, rule)| rule(subject));
    futures_util::future::join_all(all).await;
}

/// The rules that can run beside one another, by name.
#[must_use]
pub fn rules() -> &'static [(&'static str, Rule)] {
    crate::lease_contract!(@rules table [])
}

/// The test's time, which is tokio's: it may be paused, and the machine's is not.
pub(crate) struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    fn time(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Those who contend for one lease, in one rule.
pub(crate) struct Bench<'a> {
    subject: &'a dyn Subject,
    name: String,
    ttl: Duration,
}

/// One lease, and what its handlers were told.
pub(crate) struct Contender {
    lease: Arc<dyn Lease>,
    losses: Arc<Mutex<Vec<LossReason>>>,
    _heard: Subscription,
}

impl<'a> Bench<'a> {
    /// A lease of its own for each rule: the rule's name, as any backend takes it.
    fn of(subject: &'a dyn Subject, rule: &str) -> Self {
        Self {
            subject,
            name: rule.rsplit("::").next().unwrap_or(rule).replace('_', "-"),
            ttl: subject.ttl(),
        }
    }

    fn options(&self, owner: &str) -> LeaseOptionsBuilder {
        let owner = self.owner(owner);
        LeaseOptions::builder(self.name.as_str(), owner).ttl(self.ttl)
    }

    /// Rules that run at once have owners of their own, since weather is an owner's.
    fn owner(&self, owner: &str) -> String {
        let sum = self.name.bytes().fold(0_u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(byte.into())
        });
        format!("{owner}-{sum:08x}")
    }

    fn contender(&self, owner: &str) -> Contender {
        self.contender_with(self.options(owner))
    }

    fn contender_with(&self, options: LeaseOptionsBuilder) -> Contender {
        let lease = self.subject.lease(options.build().unwrap());
        let losses = Arc::new(Mutex::new(Vec::new()));
        let (noted, alive) = (Arc::clone(&losses), Arc::downgrade(&lease));
        let heard = lease.on_lost(Box::new(move |reason| {
            let alive = alive.upgrade().is_some_and(|lease| lease.check_alive());
            assert!(!alive, "when a loss is told, the lease is not alive");
            noted.lock().unwrap().push(reason);
        }));
        Contender {
            lease,
            losses,
            _heard: heard,
        }
    }

    fn weather(&self, owner: &str, weather: Weather) -> bool {
        self.subject.weather(&self.owner(owner), weather)
    }

    fn suspend(&self, owner: &str, time: Duration) -> bool {
        self.subject.suspend(&self.owner(owner), time)
    }

    async fn revoke(&self) -> bool {
        self.subject.revoke(&self.name).await
    }

    /// Acquires as soon as that is possible, `within` this time: how long it took.
    async fn acquires_within(&self, contender: &Contender, within: Duration) -> Duration {
        let started = Stopwatch::start();
        loop {
            if contender.acquire().await {
                return started.time();
            }
            assert!(started.time() < within, "not free within {within:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Contender {
    async fn acquire(&self) -> bool {
        self.lease.acquire().await.unwrap()
    }

    /// The token of a new or going tenure; a number of its acquires where there are none.
    async fn token(&self) -> LeaseToken {
        let token = self.lease.acquire_with_token().await.unwrap();
        token.expect("the lease is free, or ours")
    }

    async fn release(&self) -> Result<(), LeaseError> {
        self.lease.release().await
    }

    fn is_alive(&self) -> bool {
        self.lease.check_alive()
    }

    fn losses(&self) -> Vec<LossReason> {
        self.losses.lock().unwrap().clone()
    }

    async fn is_lost_within(&self, within: Duration) {
        until(within, || !self.losses().is_empty()).await;
    }
}

/// Waits until it is so; panics if it is not `within` this time.
#[track_caller]
fn until(within: Duration, is_so: impl Fn() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let started = Stopwatch::start();
        while !is_so() {
            let waited = started.time();
            assert!(waited < within, "{place}: not so within {within:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Begins a future and leaves it where it is.
async fn begun<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// Makes a test of every rule of the contract. The argument names a function whose
/// future makes a [`Subject`](crate::lease::contract::Subject).
#[macro_export]
macro_rules! lease_contract {
    (@rules $what:ident $make:tt) => {
        $crate::lease_contract! { @$what $make
            acquiring::a_second_owner_is_denied_while_the_first_renews
            acquiring::a_lease_is_alive_past_several_ttls_while_it_is_renewed
            acquiring::it_is_handed_over_after_a_release
            acquiring::it_is_taken_over_when_it_has_run_out_and_not_before
            acquiring::of_many_concurrent_acquires_exactly_one_wins
            acquiring::the_same_owner_acquires_again_in_the_same_tenure
            acquiring::acquires_at_once_of_one_lease_are_one_tenure
            acquiring::acquiring_again_all_the_time_loses_nothing
            acquiring::what_cannot_be_asked_is_an_error_and_no_lease
            acquiring::what_was_done_and_not_heard_of_is_no_lease_and_can_be_asked_again
            acquiring::asking_again_in_vain_leaves_the_tenure_to_its_deadline
            acquiring::asking_again_when_another_holds_it_ends_the_tenure
            acquiring::a_wild_number_of_attempts_ends_with_a_release
            tokens::the_token_is_that_of_the_present_tenure
            tokens::tokens_rise_over_releases_and_owners
            tokens::tokens_rise_over_takeovers
            tokens::a_restarted_owner_acquires_at_once_and_under_a_later_token
            tokens::a_result_that_was_overtaken_is_told_by_its_token
            releasing::a_release_of_nothing_does_nothing
            releasing::a_release_is_not_alive_before_anything_is_sent
            releasing::a_release_is_no_loss
            releasing::a_release_that_cannot_be_told_is_an_error_and_nothing_is_renewed_after_it
            releasing::a_release_that_failed_can_be_made_again
            releasing::a_release_of_what_was_lost_does_not_touch_a_successor
            releasing::a_release_in_the_middle_of_a_renewal_ends_it
            releasing::a_release_that_is_dropped_takes_its_course
            releasing::an_acquire_that_is_dropped_at_any_moment_leaves_nothing
            releasing::an_abandoned_acquire_that_wins_later_can_be_released
            releasing::a_release_overtakes_an_acquire_that_is_under_way
            releasing::a_release_may_be_awaited_before_the_acquire_that_it_overtakes
            releasing::releases_and_acquires_in_any_order_end_as_the_last_one_says
            losing::a_renewal_that_is_refused_is_a_loss
            losing::a_holder_that_is_cut_off_hears_by_its_deadline
            losing::a_holder_that_hears_no_answers_hears_by_its_deadline
            losing::a_transient_failure_costs_nothing
            losing::a_loss_is_told_once_to_each_handler_in_order_and_a_panic_harms_nobody
            losing::who_left_is_not_told
            losing::a_handler_may_leave_and_others_come_while_a_loss_is_told
            losing::who_comes_after_the_loss_is_told_at_once
            losing::who_comes_after_what_followed_the_loss_is_not_told
            losing::each_loss_is_told
            losing::a_pause_beyond_the_ttl_ends_the_tenure_at_once
            losing::a_pause_within_the_ttl_ends_nothing
            losing::a_renewal_that_is_answered_after_the_deadline_brings_nothing_back
            losing::an_acquire_that_is_answered_after_its_ttl_is_no_lease
            timers::a_lease_that_is_dropped_is_free_soon
        }
    };
    (@table [] $($group:ident :: $rule:ident)+) => {
        &[$((stringify!($rule), |subject| Box::pin($group::$rule(subject)))),+]
    };
    (@make [$($make:tt)+]) => { $($make)+().await };
    (@tests $make:tt $($group:ident :: $rule:ident)+) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $rule() {
                let subject = $crate::lease_contract! { @make $make };
                $crate::lease::contract::$group::$rule(&subject).await;
            }
        )+
    };
    ($($make:tt)+) => {
        $crate::lease_contract! { @rules tests [$($make)+] }
        $crate::lease_contract! { @tests [$($make)+]
            timers::nothing_runs_after_a_lease_was_dropped
            timers::acquiring_again_and_releasing_leave_no_timers
        }
    };
}
