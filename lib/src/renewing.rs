//! The loop that keeps something held: it does what `core::renewal` says.
//!
//! Invariant: it ends when the thing is lost, by the deadline that this process
//! knows at the latest, also while a renewal is under way. It owns no task and
//! tells nobody: who runs it does, and ends it by dropping it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Fuse, FutureExt};

use crate::clock::Clock;
use crate::core::renewal::{LossReason, RenewStep, Renewal, Renewed};

/// The clock is looked at this often at least: tokio's timers stand still while
/// the machine is suspended, the validity does not.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(crate) fn lock(renewal: &Mutex<Renewal>) -> MutexGuard<'_, Renewal> {
    renewal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews by `extend`, which is given the time to add, until the thing is lost.
///
/// For holders whose locks are kept elsewhere, behind an API: [`Redlock::lock`](crate::Redlock::lock)
/// and [`Keeper`](crate::lease::Keeper) run it themselves. `renewal` tells at any time until when
/// the thing may be relied on. Dropping the future ends the renewal; an extension that was sent
/// takes its course.
pub async fn until_lost<F>(
    clock: &dyn Clock,
    renewal: &Mutex<Renewal>,
    extend: impl Fn(Duration) -> F,
) -> LossReason
where
    F: Future<Output = Renewed>,
{
    let extending = Fuse::terminated();
    tokio::pin!(extending);
    let mut under_way = false;
    loop {
        let now = clock.now();
        let valid_until = lock(renewal).valid_until();
        let wake = if under_way && now < valid_until {
            valid_until
        } else {
            let step = lock(renewal).step(now);
            match step {
                RenewStep::Lost(reason) => return reason,
                RenewStep::SleepUntil(next) => next,
                RenewStep::Extend { by } => {
                    under_way = true;
                    extending.set(extend(by).fuse());
                    valid_until
                }
            }
        };
        tokio::select! {
            biased;
            renewed = &mut extending, if under_way => {
                under_way = false;
                lock(renewal).renewed(renewed, clock.now());
            }
            () = tokio::time::sleep(wake.saturating_since(now).min(LOOK_EVERY)) => {}
        }
    }
}
