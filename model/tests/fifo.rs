//! Hazard: a line that is overtaken.
//!
//! Each rule of the line that is switched off must be found.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use everlock_model::configs::all;
use everlock_model::fifo::{Config, IN_TURN, Rules};
use everlock_model::run::{Bounds, run};

const STEPS: usize = 40_000_000;

#[track_caller]
fn must_be_found(config: Config) {
    let bounds = Bounds {
        until: Some(IN_TURN),
        steps: Some(STEPS),
        ..Bounds::default()
    };
    let outcome = run(config, bounds);
    println!("{}", outcome.summary());
    outcome.expect(IN_TURN);
}

fn without(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Rules::default();
    change(&mut rules);
    rules
}

#[test]
fn a_node_that_grants_to_anybody_lets_late_comers_overtake() {
    must_be_found(Config {
        expiries: 0,
        rules: without(|rules| rules.first_only = false),
        ..Config::default()
    });
}

#[test]
fn without_the_ticket_test_a_late_comer_stands_before_others() {
    must_be_found(Config {
        expiries: 0,
        rules: without(|rules| rules.floor_test = false),
        ..Config::default()
    });
}

#[test]
fn a_ticket_floor_that_goes_with_the_line_lets_late_comers_overtake() {
    must_be_found(Config {
        expiries: 2,
        attempts: 2,
        rules: without(|rules| rules.floor_outlives_line = false),
        ..Config::default()
    });
}

#[test]
fn a_ticket_floor_that_goes_with_a_nodes_data_lets_late_comers_overtake() {
    must_be_found(Config {
        expiries: 0,
        loss: true,
        rules: without(|rules| rules.floor_outlives_loss = false),
        ..Config::default()
    });
}

#[test]
fn a_grant_that_removes_the_ticket_costs_the_place_in_line() {
    must_be_found(Config {
        expiries: 0,
        rules: without(|rules| rules.grant_keeps_ticket = false),
        ..Config::default()
    });
}

#[test]
fn a_ticket_that_a_minority_accepted_may_not_enter_everywhere() {
    must_be_found(Config {
        expiries: 0,
        rules: without(|rules| rules.quorum_accepts = false),
        ..Config::default()
    });
}

/// What is promised no more than it is kept: see `docs/protocol.md`.
#[test]
fn a_quorum_that_changes_while_a_rival_tries_is_not_enough() {
    must_be_found(Config {
        expiries: 1,
        moving: true,
        ..Config::default()
    });
}

#[test]
fn nobody_overtakes_who_stood_in_line_before() {
    for name in ["line", "line-leaving", "line-loss"] {
        exhaust(name);
    }
}

fn exhaust(name: &str) {
    let named = all().into_iter().find(|named| named.name == name).unwrap();
    let outcome = named.what.explore(Bounds::default());
    println!("{name}: {}", outcome.summary());
    outcome.expect_none();
    assert!(outcome.exhausted);
}
