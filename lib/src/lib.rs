#![doc = include_str!("../../README.md")]

pub mod clock;
pub mod cluster;
pub mod config;
mod core;
pub mod entropy;
mod error;
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod fuzz;
pub mod lease;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod node;
pub mod observer;
mod redlock;
pub mod renewing;

pub use crate::config::{AcquireOptions, AttemptCounter, NodeTls};
pub use crate::core::marker::Cause;
pub use crate::core::quorum::{Fault, FaultKind, Reply, Report, Vote, majority};
pub use crate::core::renewal::LossReason;
pub use crate::core::token::FencingToken;
pub use crate::core::types::{
    InvalidName, MAX_OWNER_BYTES, MAX_RESOURCE_BYTES, NodeId, OwnerId, Resource,
};
pub use crate::error::{ConfigError, Error};
pub use crate::redlock::{
    Extension, Grant, Guard, Held, Holding, Outcome, Readiness, Redlock, RedlockBuilder, Released,
};

/// What nodes are asked and answer, and the pure rules behind both.
///
/// For those who write a node of their own, a simulation or a model; the API of
/// everyday use is at the crate's root.
pub mod protocol {
    pub use crate::core::admission::{Admission, ServerFacts, judge};
    pub use crate::core::attempt::{Attempt, Loss, Step, Terms, Won};
    pub use crate::core::clock_watch::{ClockWatch, Sighting, Telling};
    pub use crate::core::clocks::{
        Agreement, Baseline, Baselines, ClockRecord, ClockStep, SHIFT_ALLOWANCE, Span,
    };
    pub use crate::core::command::{Command, Turn};
    pub use crate::core::marker::{
        Bar, ClusterInfo, DEFAULT_MAX_LEASE, MAX_MAX_LEASE, MIN_MAX_LEASE, Marker, MarkerCommand,
        MarkerState, Phase, bar,
    };
    pub use crate::core::outcome::{Counts, ExtendOutcome, ReleaseOutcome};
    pub use crate::core::queue::{MAX_QUEUE, TICKET_LIFE};
    pub use crate::core::register::Register;
    pub use crate::core::renewal::{RenewStep, Renewal, RenewalPlan, Renewed};
    #[cfg(feature = "test-util")]
    pub use crate::core::safeguards::{Safeguard, SwitchedOff};
    pub use crate::core::schedule::{Next, Plan, SHORTEST_DELAY, Schedule};
    pub use crate::core::time::{median, millis_ceil};
    pub use crate::core::token::TokenClock;
    pub use crate::core::types::CallId;
    pub use crate::core::validity::{
        DEFAULT_DRIFT_FACTOR, DEFAULT_DRIFT_MARGIN, Drift, MAX_DRIFT_FACTOR,
    };
}
