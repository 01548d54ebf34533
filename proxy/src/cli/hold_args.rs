//! What the commands that hold locks have in common: keys, ids and times, within their bounds.

use std::time::Duration;

use clap::Args;
use everlock::OwnerId;
use everlock::config::{MAX_DELAY, MIN_LEASE};
use everlock::protocol::MAX_MAX_LEASE;

use crate::api::MAX_KEY_BYTES;
use crate::config;

/// A longer wait is one without end.
const MAX_WAIT: Duration = Duration::from_hours(24 * 365);
/// Longer is an outage that somebody should hear of.
const MAX_PATIENCE: Duration = Duration::from_hours(1);

/// How a busy lock, or a silent service, is asked again.
#[derive(Args)]
pub(super) struct RetryArgs {
    /// Wait in line: first in, first out among all who ask with this
    #[arg(long)]
    pub(super) fifo: bool,
    /// The time between attempts; a release is heard of sooner
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = delay)]
    pub(super) retry_delay: Duration,
    /// A random time up to this is added to each delay
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = delay)]
    pub(super) retry_jitter: Duration,
    /// For how long it is borne that no quorum of nodes, or no proxy, answers
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = patience)]
    pub(super) patience: Duration,
}

pub(super) fn key(text: &str) -> Result<String, String> {
    if (1..=MAX_KEY_BYTES).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        let length = text.len();
        Err(format!(
            "it has {length} bytes: it takes 1 to {MAX_KEY_BYTES}"
        ))
    }
}

pub(super) fn uuid(text: &str) -> Result<OwnerId, String> {
    OwnerId::new(text).map_err(|error| error.to_string())
}

pub(super) fn lease(text: &str) -> Result<Duration, String> {
    config::duration(text, MIN_LEASE, MAX_MAX_LEASE)
}

pub(super) fn extension(text: &str) -> Result<Duration, String> {
    config::duration(text, Duration::from_millis(1), MAX_MAX_LEASE)
}

pub(super) fn wait(text: &str) -> Result<Duration, String> {
    config::duration(text, Duration::ZERO, MAX_WAIT)
}

fn delay(text: &str) -> Result<Duration, String> {
    config::duration(text, Duration::ZERO, MAX_DELAY)
}

fn patience(text: &str) -> Result<Duration, String> {
    config::duration(text, Duration::ZERO, MAX_PATIENCE)
}
