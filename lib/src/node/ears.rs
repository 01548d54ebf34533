//! Who wants to hear when a lock is let go on a node.
//!
//! Hearing is a help and no promise: messages are lost with connections, and
//! whoever waits for a lock tries at its planned moments all the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::token::FencingToken;
use crate::core::types::Resource;

/// Called when a lock was let go on a node, with the token of that release; and
/// without one where it may have been let go unheard. It must not block.
pub type Ear = Arc<dyn Fn(Option<FencingToken>) + Send + Sync>;

/// The ears at one node.
#[derive(Default)]
pub(crate) struct Ears {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_lock: HashMap<Resource, Vec<(u64, Ear)>>,
    next: u64,
}

impl Ears {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for a lock; `changed` is called when that ends.
    pub(crate) fn add(
        self: &Arc<Self>,
        resource: &Resource,
        ear: Ear,
        changed: impl FnOnce() + Send + 'static,
    ) -> Listening {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let ears = state.by_lock.entry(resource.clone()).or_default();
        ears.push((number, ear));
        drop(state);
        let (ears, resource) = (Arc::clone(self), resource.clone());
        Listening::until(move || {
            ears.remove(&resource, number);
            changed();
        })
    }

    fn remove(&self, resource: &Resource, number: u64) {
        let mut state = self.lock();
        if let Some(ears) = state.by_lock.get_mut(resource) {
            ears.retain(|(other, _)| *other != number);
            if ears.is_empty() {
                state.by_lock.remove(resource);
            }
        }
    }

    /// The lock may have been let go.
    pub(crate) fn tell(&self, resource: &Resource, release: Option<FencingToken>) {
        let ears = self.lock().by_lock.get(resource).cloned();
        for (_, ear) in ears.into_iter().flatten() {
            ear(release);
        }
    }

    /// The locks that somebody listens for.
    pub(crate) fn wanted(&self) -> Vec<Resource> {
        self.lock().by_lock.keys().cloned().collect()
    }
}

/// Ends the listening when it is dropped.
#[must_use = "dropping it ends the listening"]
pub struct Listening(Option<Box<dyn FnOnce() + Send>>);

impl Listening {
    /// Listening that hears nothing.
    pub const fn deaf() -> Self {
        Self(None)
    }

    /// Listening at whose end `end` is called.
    pub fn until(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").finish_non_exhaustive()
    }
}
