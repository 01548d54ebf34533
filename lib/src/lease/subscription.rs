//! Who wants to hear of a loss.
//!
//! Invariant: handlers are called in the order in which they were added, never
//! under a lock, and not any more once their subscription was dropped.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::renewal::LossReason;

/// Called with the reason of each loss.
pub type LostHandler = Box<dyn Fn(LossReason) + Send + Sync>;

#[derive(Default)]
struct List {
    next: u64,
    entries: Vec<(u64, Arc<LostHandler>)>,
}

type Shared = Mutex<List>;

fn lock(list: &Shared) -> MutexGuard<'_, List> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those who want to hear.
#[derive(Default)]
pub(super) struct Handlers(Arc<Shared>);

impl Handlers {
    pub(super) fn add(&self, handler: Arc<LostHandler>) -> Subscription {
        let mut list = lock(&self.0);
        let number = list.next;
        list.next += 1;
        list.entries.push((number, handler));
        drop(list);
        let list = Arc::downgrade(&self.0);
        Subscription::new(move || {
            if let Some(list) = list.upgrade() {
                let mut list = lock(&list);
                let at = list.entries.iter().position(|entry| entry.0 == number);
                let gone = at.map(|at| list.entries.remove(at));
                drop(list);
                // What a handler owns may do anything when it goes, so not under the lock.
                drop(gone);
            }
        })
    }

    /// Those who are to be told of something that happens now.
    pub(super) fn present(&self) -> Vec<u64> {
        lock(&self.0).entries.iter().map(|entry| entry.0).collect()
    }

    /// Tells them, but for those who left meanwhile.
    pub(super) fn tell(&self, audience: Vec<u64>, reason: LossReason) {
        for number in audience {
            let list = lock(&self.0);
            let found = list.entries.iter().find(|entry| entry.0 == number);
            let handler = found.map(|entry| Arc::clone(&entry.1));
            drop(list);
            if let Some(handler) = handler {
                call(&handler, reason);
            }
        }
    }

    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut lock(&self.0).entries);
        drop(gone);
    }
}

/// A panic is reported by the panic hook and goes no further.
pub(super) fn call(handler: &LostHandler, reason: LossReason) {
    let _ = catch_unwind(AssertUnwindSafe(|| handler(reason)));
}

/// Keeps a handler subscribed until it is dropped.
#[must_use = "a subscription that is dropped ends: keep it, or detach it"]
pub struct Subscription(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Subscription {
    /// A subscription that is ended by this call; for implementations of other make.
    pub fn new(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(end)))
    }

    /// Keeps the handler subscribed for as long as the lease is there.
    pub fn detach(mut self) {
        self.0 = None;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
