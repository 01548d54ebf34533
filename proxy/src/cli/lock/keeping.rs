//! Keeps the lock while the command runs: the library's own loop, over either way.
//!
//! Invariant: `valid_until` is what the service confirmed last, counted from before it was asked;
//! the loop ends when that is over, or when the lock is known to be gone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everlock::LossReason;
use everlock::clock::{Clock as _, Moment, SystemClock};
use everlock::protocol::{Renewal, RenewalPlan, Renewed};
use everlock::renewing::until_lost;
use tokio::task::JoinHandle;

use crate::cli::way::{Failure, Hold, Way};

/// One try to renew is given half of what is left, and no more than this: the next one may meet
/// another proxy behind the balancer.
const LONGEST_TRY: Duration = Duration::from_secs(3);
/// But not less than a round trip may take.
const SHORTEST_TRY: Duration = Duration::from_millis(50);

/// A lock that is renewed; dropping it ends that.
pub(super) struct Keeping {
    renewal: Arc<Mutex<Renewal>>,
    task: JoinHandle<LossReason>,
}

impl Keeping {
    pub(super) fn start(way: Arc<Way>, hold: Hold, valid_until: Moment, lease: Duration) -> Self {
        let plan = RenewalPlan {
            lease,
            interval: None,
            valid_until,
            // The lease ends later on the nodes: renewed like this it grows by what is taken off
            // for drift, once.
            expires: valid_until,
            not_after: None,
        };
        let renewal = Arc::new(Mutex::new(Renewal::new(plan, SystemClock.now())));
        let task = tokio::spawn({
            let renewal = Arc::clone(&renewal);
            async move {
                let extend = |by| renew(&way, &hold, by, remaining(&renewal));
                until_lost(&SystemClock, &renewal, extend).await
            }
        });
        Self { renewal, task }
    }

    /// Until when the lock may be relied on.
    pub(super) fn valid_until(&self) -> Moment {
        valid_until(&self.renewal)
    }

    /// Waits for the loss; not to be called again then.
    pub(super) async fn lost(&mut self) -> LossReason {
        // A renewal that panicked keeps nothing any more.
        (&mut self.task).await.unwrap_or(LossReason::Expired)
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn valid_until(renewal: &Mutex<Renewal>) -> Moment {
    let renewal = renewal.lock().unwrap_or_else(PoisonError::into_inner);
    renewal.valid_until()
}

fn remaining(renewal: &Mutex<Renewal>) -> Duration {
    valid_until(renewal).saturating_since(SystemClock.now())
}

async fn renew(way: &Way, hold: &Hold, by: Duration, left: Duration) -> Renewed {
    let within = (left / 2).clamp(SHORTEST_TRY, LONGEST_TRY);
    match way.extend(hold, by, within).await {
        Ok(valid_until) => Renewed::Until {
            valid_until,
            expires: valid_until,
        },
        Err(Failure::NotHeld(_)) => Renewed::Gone,
        Err(_) => Renewed::Unknown,
    }
}
