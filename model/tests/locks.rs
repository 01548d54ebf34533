//! Hazard: an order of messages, losses and expiries that nobody thought of.
//!
//! Each mechanism that is switched off must be found, by the promise that it is for.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use everlock_model::configs::{What, all};
use everlock_model::locks::{Config, NOTHING_LEFT, ONE_HOLDER, STAYS_OPEN, TOKENS_RISE};
use everlock_model::node::{Rules, Undoing};
use everlock_model::run::{Bounds, run};

/// Long enough for every violation below, many times over.
const STEPS: usize = 20_000_000;

#[track_caller]
fn must_be_found(config: Config, property: &'static str) {
    let bounds = Bounds {
        until: Some(property),
        steps: Some(STEPS),
        ..Bounds::default()
    };
    let outcome = run(config, bounds);
    println!("{property}: {}", outcome.summary());
    outcome.expect(property);
}

fn without(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Rules::default();
    change(&mut rules);
    rules
}

#[test]
fn without_the_floor_test_tokens_fall() {
    must_be_found(
        Config {
            attempts: [1; 3],
            tokens: 2,
            early: true,
            rules: without(|rules| rules.floor_test = false),
            ..Config::default()
        },
        TOKENS_RISE,
    );
}

#[test]
fn without_what_was_reserved_a_token_is_given_twice() {
    must_be_found(
        Config {
            attempts: [1; 3],
            tokens: 3,
            reserve: 1,
            rules: without(|rules| rules.reserves = false),
            ..Config::default()
        },
        TOKENS_RISE,
    );
}

#[test]
fn handed_on_to_who_asked_later_tokens_fall() {
    must_be_found(
        Config {
            attempts: [1; 3],
            tokens: 4,
            reserve: 1,
            early: true,
            rules: without(|rules| rules.cohort = false),
            ..Config::default()
        },
        TOKENS_RISE,
    );
}

#[test]
fn without_the_undos_floor_a_late_request_is_left() {
    must_be_found(
        Config {
            attempts: [1; 3],
            clients: 1,
            tokens: 1,
            rules: without(|rules| rules.undo_lifts = false),
            ..Config::default()
        },
        NOTHING_LEFT,
    );
}

#[test]
fn an_undo_of_whatever_the_owner_holds_takes_a_later_attempts_lock() {
    must_be_found(
        Config {
            attempts: [2, 1, 0],
            tokens: 2,
            rules: without(|rules| rules.undo = Undoing::Owner),
            ..Config::default()
        },
        ONE_HOLDER,
    );
}

#[test]
fn an_undo_of_all_attempts_takes_a_later_attempts_lock() {
    must_be_found(
        Config {
            attempts: [2, 1, 0],
            tokens: 2,
            rules: without(|rules| rules.undo = Undoing::Call),
            ..Config::default()
        },
        ONE_HOLDER,
    );
}

#[test]
fn an_undo_across_calls_takes_another_calls_lock() {
    must_be_found(
        Config {
            clients: 3,
            attempts: [1; 3],
            one_owner: true,
            tokens: 2,
            rules: without(|rules| rules.undo = Undoing::Token),
            ..Config::default()
        },
        ONE_HOLDER,
    );
}

#[test]
fn an_undo_beyond_any_lease_refuses_the_key_for_ever() {
    must_be_found(
        Config {
            attempts: [1; 3],
            tokens: 1,
            wild: 1,
            rules: without(|rules| rules.lifts_bounded = false),
            ..Config::default()
        },
        STAYS_OPEN,
    );
}

#[test]
fn a_guarded_node_that_grants_makes_two_holders() {
    must_be_found(
        Config {
            attempts: [1; 3],
            tokens: 2,
            loss: true,
            later_tokens: 1,
            rules: without(|rules| {
                rules.guarded_grants_nothing = false;
            }),
            ..Config::default()
        },
        ONE_HOLDER,
    );
}

#[test]
fn without_the_restart_guard_there_are_two_holders() {
    must_be_found(
        Config {
            attempts: [1; 3],
            tokens: 2,
            loss: true,
            rules: without(|rules| rules.guard = false),
            ..Config::default()
        },
        ONE_HOLDER,
    );
}

#[test]
fn a_repair_without_the_floor_test_brings_a_released_lock_back() {
    must_be_found(
        Config {
            clients: 1,
            attempts: [1; 3],
            tokens: 1,
            extensions: 1,
            rules: without(|rules| rules.repair_floor_test = false),
            ..Config::default()
        },
        NOTHING_LEFT,
    );
}

#[test]
fn without_settlement_a_released_lock_comes_back() {
    must_be_found(
        Config {
            clients: 1,
            attempts: [1; 3],
            tokens: 1,
            rules: without(|rules| rules.settle = false),
            ..Config::default()
        },
        NOTHING_LEFT,
    );
}

#[test]
fn without_shares_an_undo_takes_the_lock_from_who_asked_again() {
    must_be_found(
        Config {
            clients: 3,
            attempts: [1; 3],
            one_owner: true,
            tokens: 2,
            rules: without(|rules| rules.shares = false),
            ..Config::default()
        },
        ONE_HOLDER,
    );
}

/// More than a million states, and every promise kept in each.
#[test]
fn with_every_mechanism_on_nothing_is_violated() {
    let mut states = 0;
    for named in all() {
        if !named.short || !matches!(named.what, What::Locks(_)) {
            continue;
        }
        let outcome = named.what.explore(Bounds::default());
        println!("{}: {}", named.name, outcome.summary());
        outcome.expect_none();
        assert!(outcome.exhausted);
        states += outcome.states;
    }
    assert!(states > 1_000_000, "{states}");
}
