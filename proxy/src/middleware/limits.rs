//! How many acquires are under way at once.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// A seat for one acquire, given back when it is dropped.
pub(super) fn seat(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&app.waiters).try_acquire_owned().map_err(|_| {
        let most = app.limits.max_waiters;
        let message = format!("{most} acquires are under way, as many as this proxy takes");
        Problem::new(Kind::TooManyWaiters, message)
    })
}
