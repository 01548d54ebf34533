//! Straight to the nodes, with the library.

use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use everlock::config::MAX_RETRIES;
use everlock::{AcquireOptions, ConfigError, Error, Holding, NodeTls, Redlock, Resource};

use super::{Failure, Hold, Lock, Wanted, Won};
use crate::app;
use crate::identity::Identity;

/// What is left to undo or to tell is given this long at the end.
const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// A client of the nodes, and where its keys are.
pub(in crate::cli) struct Nodes {
    redlock: Redlock,
    prefix: String,
    identity: Identity,
}

impl Nodes {
    pub(super) async fn open(
        urls: Vec<String>,
        tls: NodeTls,
        patience: Duration,
        (prefix, identity): (String, Identity),
    ) -> Result<Self, Failure> {
        let builder = Redlock::builder().node_urls(urls).node_tls(tls);
        let redlock = builder.patience(patience).connect().await;
        Ok(Self {
            redlock: redlock.map_err(|error| Failure::Unavailable(error.to_string()))?,
            prefix,
            identity,
        })
    }

    fn resource(&self, key: &str) -> Resource {
        app::resource(&self.prefix, &self.identity, key)
    }

    pub(super) async fn acquire(&self, lock: &Lock, wanted: &Wanted) -> Result<Won, Failure> {
        let started = SystemClock.now();
        let mut attempts = 0;
        loop {
            let gone = SystemClock.now().saturating_since(started);
            let left = wanted.wait.map(|wait| wait.saturating_sub(gone));
            let options = options(lock, wanted, left);
            let failure = match self
                .redlock
                .acquire(self.resource(&lock.key), options)
                .await
            {
                Ok(grant) => {
                    return Ok(Won {
                        token: Some(grant.token().as_u64()),
                        valid_until: grant.valid_until(),
                        attempts: attempts + grant.attempts(),
                        hold: Hold {
                            lock: lock.clone(),
                            grant: Some(grant),
                        },
                    });
                }
                Err(error) => {
                    attempts += error.attempts();
                    failure(error, attempts)
                }
            };
            // The line may be full, or the retries of one request used up, before the time is over.
            let left = left.map(|_| {
                let gone = SystemClock.now().saturating_since(started);
                wanted.wait.unwrap_or_default().saturating_sub(gone)
            });
            if !matches!(failure, Failure::Held { .. }) || left.is_some_and(|left| left.is_zero()) {
                self.settle(lock).await;
                return Err(failure);
            }
            tokio::time::sleep(left.map_or(wanted.delay, |left| left.min(wanted.delay))).await;
        }
    }

    pub(super) async fn extend(&self, hold: &Hold, by: Duration) -> Result<Moment, Failure> {
        let extended = self.redlock.extend(self.holding(hold), by).await;
        extended
            .map(|extension| extension.valid_until())
            .map_err(|error| failure(error, 0))
    }

    pub(super) async fn release(&self, hold: &Hold) -> Result<(), Failure> {
        let released = self.redlock.release(self.holding(hold)).await;
        self.settle(&hold.lock).await;
        released.map_err(|error| failure(error, 0))
    }

    /// Has all nodes hear what they were told, before the process ends: also those that a quorum
    /// did without. What a node is asked now, it answers after all that.
    pub(super) async fn settle(&self, lock: &Lock) {
        self.redlock.inspect(&self.resource(&lock.key)).await;
        self.redlock.drained(SETTLE_WITHIN).await;
    }

    pub(super) async fn queue(&self, key: &str) -> Option<u32> {
        self.redlock.queue(self.resource(key)).await.ok()
    }

    fn holding(&self, hold: &Hold) -> Holding {
        match &hold.grant {
            Some(grant) => Holding::from(grant),
            None => Holding::from((&self.resource(&hold.lock.key), &hold.lock.uuid)),
        }
    }
}

fn options(lock: &Lock, wanted: &Wanted, left: Option<Duration>) -> AcquireOptions {
    let once = left.is_some_and(|left| left.is_zero());
    let options = AcquireOptions::new()
        .owner(lock.uuid.clone())
        .lease(wanted.lease)
        .retries(if once { 0 } else { MAX_RETRIES })
        .delay(wanted.delay)
        .jitter(wanted.jitter)
        .fifo(wanted.fifo);
    match left {
        Some(left) if !once => options.deadline(left),
        _ => options,
    }
}

fn failure(error: Error, attempts: u32) -> Failure {
    let why = error.to_string();
    match error {
        Error::Contended {
            retry_after,
            report,
            ..
        } => Failure::Held {
            why,
            retry_after,
            position: report.position(),
            attempts,
        },
        Error::QueueFull { .. } => Failure::Held {
            why,
            retry_after: None,
            position: None,
            attempts,
        },
        Error::NotHeld { .. } | Error::HeldByAnother { .. } | Error::Lost => Failure::NotHeld(why),
        Error::Config(ConfigError::OutOfBounds {
            field,
            value,
            bounds,
        }) => Failure::Misused(format!("{field} is {value}: it takes {bounds}")),
        Error::Config(error) => Failure::Misused(error.to_string()),
        _ => Failure::Unavailable(why),
    }
}
