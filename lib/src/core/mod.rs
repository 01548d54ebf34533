//! The decisions, and nothing else.
//!
//! Everything here is pure: no tokio, no Redis, no clock and no randomness. The
//! present time and the dice are arguments, so every rule can be tested
//! exhaustively and the same code runs in production, simulation and model.
//!
//! Architecture invariant: `core` imports nothing from the rest of the crate.

pub(crate) mod admission;
pub(crate) mod answers;
pub(crate) mod attempt;
pub(crate) mod clock_watch;
pub(crate) mod clocks;
pub(crate) mod cohort;
pub(crate) mod command;
pub(crate) mod hearsay;
pub(crate) mod marker;
pub(crate) mod outcome;
pub(crate) mod queue;
pub(crate) mod quorum;
pub(crate) mod register;
pub(crate) mod renewal;
pub(crate) mod safeguards;
pub(crate) mod schedule;
pub(crate) mod shares;
pub(crate) mod shelf;
pub(crate) mod time;
pub(crate) mod token;
pub(crate) mod types;
pub(crate) mod validity;
