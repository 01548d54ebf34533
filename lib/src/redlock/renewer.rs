//! The task that keeps a guard's lock: it does what `core::renewal` says.
//!
//! It ends with the guard, or with the loss. What it may leave behind when it is
//! dropped in the middle of an extension, the guard's release takes back.

use std::time::Duration;

use futures_util::future::{Fuse, FutureExt};

use super::guard::Held;
use super::{Holding, Redlock};
use crate::core::renewal::{RenewStep, Renewal, RenewalPlan, Renewed};
use crate::error::Error;
use crate::observer::GuardEnd;

/// The clock is looked at this often at least: tokio's timers stand still while
/// the machine is suspended, the validity does not.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Renews until the lock is lost, and tells that.
pub(super) async fn renew(
    redlock: Redlock,
    held: Held,
    lease: Duration,
    max_hold: Option<Duration>,
) {
    let inner = &redlock.inner;
    let now = inner.clock.now();
    let valid_until = held.valid_until();
    let mut renewal = Renewal::new(
        RenewalPlan {
            lease,
            valid_until,
            expires: valid_until + inner.settings.drift.of(lease),
            not_after: max_hold.map(|max_hold| now + max_hold),
        },
        now,
    );
    let extending = Fuse::terminated();
    tokio::pin!(extending);
    let mut under_way = false;
    let lost = loop {
        let now = inner.clock.now();
        let wake = if under_way && now < renewal.valid_until() {
            renewal.valid_until()
        } else {
            match renewal.step(now) {
                RenewStep::Lost(reason) => break reason,
                RenewStep::SleepUntil(next) => next,
                RenewStep::Extend { by } => {
                    under_way = true;
                    extending.set(redlock.extend(Holding::from(&*held), by).fuse());
                    renewal.valid_until()
                }
            }
        };
        tokio::select! {
            biased;
            extended = &mut extending, if under_way => {
                under_way = false;
                let result = match extended {
                    Ok(extension) => Renewed::Until {
                        valid_until: extension.valid_until(),
                        expires: extension.expires,
                    },
                    Err(Error::NotHeld { .. } | Error::HeldByAnother { .. }) => Renewed::Gone,
                    Err(_) => Renewed::Unknown,
                };
                renewal.renewed(result, inner.clock.now());
            }
            () = tokio::time::sleep(wake.saturating_since(now).min(LOOK_EVERY)) => {}
        }
    };
    // When it is told, the lock must not look valid any more.
    held.expire();
    if held.loss.tell(lost) {
        inner.note_end(&held, GuardEnd::Lost(lost));
        // An extension may have been done that was not heard of.
        inner.let_go(&Holding::from(&*held));
    }
}
