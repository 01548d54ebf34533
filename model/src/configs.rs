//! The configurations by name.

use crate::fifo;
use crate::locks::Config;
use crate::run::{Bounds, Outcome, run};

/// A configuration.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// What it explores.
    pub about: &'static str,
    /// Whether it is part of every full test run.
    pub short: bool,
    /// The configuration itself.
    pub what: What,
}

/// A configuration of one of the models.
#[derive(Clone, Debug)]
pub enum What {
    /// Acquire, undo, extend, release.
    Locks(Config),
    /// Standing in line.
    Line(fifo::Config),
}

impl What {
    /// Explores it.
    pub fn explore(self, bounds: Bounds) -> Outcome {
        match self {
            Self::Locks(config) => run(config, bounds),
            Self::Line(config) => run(config, bounds),
        }
    }
}

fn locks(name: &'static str, about: &'static str, short: bool, config: Config) -> Named {
    Named {
        name,
        about,
        short,
        what: What::Locks(config),
    }
}

fn line(name: &'static str, about: &'static str, short: bool, config: fifo::Config) -> Named {
    Named {
        name,
        about,
        short,
        what: What::Line(config),
    }
}

/// All of them.
pub fn all() -> Vec<Named> {
    [small(), large(), lines()].concat()
}

/// Explored in every full test run.
fn small() -> Vec<Named> {
    vec![
        locks(
            "two-clients",
            "2 clients × 1 attempt, 3 tokens",
            true,
            Config {
                attempts: [1; 3],
                ..Config::default()
            },
        ),
        locks(
            "two-clients-retry",
            "2 clients, 2 and 1 attempts, 2 tokens",
            true,
            Config {
                attempts: [2, 1, 0],
                tokens: 2,
                ..Config::default()
            },
        ),
        locks(
            "early",
            "2 clients × 1 attempt, 3 tokens, leases that end at any moment",
            true,
            Config {
                attempts: [1; 3],
                early: true,
                ..Config::default()
            },
        ),
        locks(
            "extend",
            "2 clients × 1 attempt, 2 tokens, one extension with repairs",
            true,
            Config {
                attempts: [1; 3],
                tokens: 2,
                extensions: 1,
                ..Config::default()
            },
        ),
        locks(
            "loss",
            "2 clients × 1 attempt, 2 tokens, one node loses its data",
            true,
            Config {
                attempts: [1; 3],
                tokens: 2,
                loss: true,
                later_tokens: 1,
                ..Config::default()
            },
        ),
        locks(
            "handing-on",
            "2 clients × 1 attempt, 4 tokens, each reserves one more",
            true,
            Config {
                attempts: [1; 3],
                tokens: 4,
                reserve: 1,
                ..Config::default()
            },
        ),
        locks(
            "handing-on-early",
            "2 clients × 1 attempt, 4 tokens, each reserves one more, leases that end at any moment",
            true,
            Config {
                attempts: [1; 3],
                tokens: 4,
                reserve: 1,
                early: true,
                ..Config::default()
            },
        ),
        locks(
            "duplicates",
            "2 clients × 1 attempt, 2 tokens, messages that arrive again",
            true,
            Config {
                attempts: [1; 3],
                tokens: 2,
                duplicates: true,
                ..Config::default()
            },
        ),
    ]
}

/// Explored when there is time.
fn large() -> Vec<Named> {
    vec![
        locks(
            "two-by-two",
            "2 clients × 2 attempts, 2 tokens",
            false,
            Config {
                tokens: 2,
                ..Config::default()
            },
        ),
        locks(
            "two-by-two-tokens",
            "2 clients × 2 attempts, 3 tokens",
            false,
            Config::default(),
        ),
        locks(
            "three-clients",
            "3 clients × 1 attempt, 2 tokens",
            false,
            Config {
                clients: 3,
                attempts: [1; 3],
                tokens: 2,
                ..Config::default()
            },
        ),
        locks(
            "three-clients-tokens",
            "3 clients × 1 attempt, 3 tokens",
            false,
            Config {
                clients: 3,
                attempts: [1; 3],
                ..Config::default()
            },
        ),
        locks(
            "one-owner",
            "2 calls of one owner and a rival, 1 attempt each, 3 tokens",
            false,
            Config {
                clients: 3,
                attempts: [1; 3],
                one_owner: true,
                ..Config::default()
            },
        ),
    ]
}

/// Standing in line.
fn lines() -> Vec<Named> {
    vec![
        line(
            "line",
            "2 waiters, 2 tickets, 1 expiry",
            true,
            fifo::Config::default(),
        ),
        line(
            "line-loss",
            "2 waiters, 2 tickets, 1 expiry, one node loses its data",
            true,
            fifo::Config {
                loss: true,
                later_tickets: 1,
                ..fifo::Config::default()
            },
        ),
        line(
            "line-leaving",
            "2 waiters, 2 tickets, 1 expiry, waiters that give up",
            true,
            fifo::Config {
                leaving: true,
                ..fifo::Config::default()
            },
        ),
        line(
            "line-again",
            "2 waiters, 3 tickets, 2 proposals each",
            false,
            fifo::Config {
                proposals: [2; 3],
                tickets: 3,
                ..fifo::Config::default()
            },
        ),
        line(
            "line-three",
            "3 waiters, 3 tickets, 1 expiry",
            false,
            fifo::Config {
                waiters: 3,
                tickets: 3,
                ..fifo::Config::default()
            },
        ),
    ]
}
