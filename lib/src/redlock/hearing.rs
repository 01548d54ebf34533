//! Listening for one lock at every node: told when a quorum of them has spoken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Inner;
use super::line::Passing;
use crate::clock::Moment;
use crate::core::hearsay::Word;
use crate::core::token::FencingToken;
use crate::core::types::Resource;
use crate::node::{Listening, Node};

/// A lock that nobody waits for is listened for this long, for those who come back.
const LINGER: Duration = Duration::from_secs(5);
/// Of so many locks at most.
const MAX_LINGERING: usize = 256;

/// Listens for one lock at every node, until it is dropped.
pub(super) struct Hearing {
    _listening: Vec<Listening>,
}

impl Hearing {
    /// `told` is called each time, with the token of the release where one was heard
    /// of; it must not block.
    pub(super) fn begin(
        inner: &Arc<Inner>,
        resource: &Resource,
        told: impl Fn(Option<FencingToken>) + Send + Sync + 'static,
    ) -> Self {
        let (count, quorum) = (inner.nodes.len(), inner.quorum());
        let word = Arc::new(Mutex::new(Word::of(count, quorum)));
        let told = Arc::new(told);
        let listen = |(index, node): (usize, &Arc<dyn Node>)| {
            let (word, told) = (Arc::clone(&word), Arc::clone(&told));
            let ear = move |release| {
                let mut word = word.lock().unwrap_or_else(PoisonError::into_inner);
                let heard = word.hear(index, release);
                drop(word);
                if heard {
                    told(release);
                }
            };
            node.listen(resource, Arc::new(ear))
        };
        Self {
            _listening: inner.nodes.iter().enumerate().map(listen).collect(),
        }
    }
}

/// Listening that goes on for a while after the last waiter has gone.
#[derive(Default)]
pub(super) struct Lingering(Mutex<HashMap<Resource, Kept>>);

struct Kept {
    until: Moment,
    hearing: Hearing,
    passing: Passing,
}

impl Lingering {
    fn lock(&self) -> MutexGuard<'_, HashMap<Resource, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, resource: &Resource) -> Option<(Hearing, Passing)> {
        let kept = self.lock().remove(resource)?;
        Some((kept.hearing, kept.passing))
    }

    /// Keeps it, if there is room.
    pub(super) fn keep(
        &self,
        resource: &Resource,
        hearing: Hearing,
        passing: Passing,
        now: Moment,
    ) {
        let mut kept = self.lock();
        if kept.len() < MAX_LINGERING {
            let until = now + LINGER;
            let new = Kept {
                until,
                hearing,
                passing,
            };
            kept.insert(resource.clone(), new);
            return;
        }
        // Its end is told to the nodes, after the others can go on.
        drop(kept);
        drop(hearing);
    }

    /// Ends what nobody came back for.
    pub(super) fn forget(&self, now: Moment) {
        let over = |_: &Resource, kept: &mut Kept| kept.until <= now;
        let gone: Vec<_> = self.lock().extract_if(over).collect();
        drop(gone);
    }
}
