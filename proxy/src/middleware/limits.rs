//! How much is under way at once, of all and of each identity.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::identity::{self, Caller, Entry, OverLimit};
use crate::problem::{Kind, Problem};

/// What one acquire holds until it is dropped.
pub(super) struct Seat {
    _proxys: OwnedSemaphorePermit,
    _identitys: identity::Seat,
}

/// One request of this caller, if it may make one now.
pub(super) fn enter(app: &App, caller: &Caller) -> Result<Entry, Problem> {
    let entered = app.accounts.enter(&caller.identity, &caller.bounds());
    entered.map_err(|over| problem(&over))
}

/// A seat for one acquire, given back when it is dropped.
pub(super) fn seat(app: &App, entry: &Entry) -> Result<Seat, Problem> {
    let identitys = entry.seat().map_err(|over| problem(&over))?;
    let proxys = Arc::clone(&app.waiters).try_acquire_owned().map_err(|_| {
        let most = app.limits.max_waiters;
        let message = format!("{most} acquires are under way, as many as this proxy takes");
        Problem::new(Kind::TooMany(1), message)
    })?;
    Ok(Seat {
        _proxys: proxys,
        _identitys: identitys,
    })
}

fn problem(over: &OverLimit) -> Problem {
    match over {
        OverLimit::Rate(wait) => {
            // Rounded up: nobody should come too early.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let message = "more requests a second than this identity may make";
            Problem::new(Kind::TooMany(seconds.max(1)), message)
        }
        OverLimit::Waiters(most) => {
            let message =
                format!("{most} acquires are under way, as many as this identity may have");
            Problem::new(Kind::TooMany(1), message)
        }
        OverLimit::Identities => {
            let message = "more identities ask at once than this proxy takes";
            Problem::new(Kind::TooMany(1), message)
        }
    }
}
