//! The task that keeps a guard's lock.
//!
//! It ends with the guard, or with the loss. What it may leave behind when it is
//! dropped in the middle of an extension, the guard's release takes back.

use std::sync::Mutex;
use std::time::Duration;

use super::guard::Held;
use super::{Holding, Redlock};
use crate::core::renewal::{Renewal, RenewalPlan, Renewed};
use crate::error::Error;
use crate::observer::GuardEnd;
use crate::renewing;

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
    let renewal = Mutex::new(Renewal::new(
        RenewalPlan {
            lease,
            interval: None,
            valid_until,
            expires: valid_until + inner.settings.drift.of(lease),
            not_after: max_hold.map(|max_hold| now + max_hold),
        },
        now,
    ));
    let extend = |by| {
        let extending = redlock.extend(Holding::from(&*held), by);
        let held = &held;
        async move {
            match extending.await {
                // Released under the guard, by whoever has a clone of its grant.
                Err(Error::Lost) if held.was_given_up() => Renewed::Gone,
                extended => renewed(extended),
            }
        }
    };
    let lost = renewing::until_lost(&*inner.clock, &renewal, extend).await;
    // When it is told, the lock must not look valid any more.
    held.expire();
    if held.loss.tell(lost) {
        inner.note_end(&held, GuardEnd::Lost(lost));
        // An extension may have been done that was not heard of.
        inner.let_go(&Holding::from(&*held));
    }
}

fn renewed(extended: Result<super::Extension, Error>) -> Renewed {
    match extended {
        Ok(extension) => Renewed::Until {
            valid_until: extension.valid_until(),
            expires: extension.expires(),
        },
        Err(Error::NotHeld { .. } | Error::HeldByAnother { .. }) => Renewed::Gone,
        Err(_) => Renewed::Unknown,
    }
}
