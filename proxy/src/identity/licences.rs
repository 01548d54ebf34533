//! The licences that this proxy has to do with, so that the backend is asked seldom.
//!
//! What the backend said is used for the refresh time. After that it is asked again in the background,
//! and if it can't be asked, what it said last counts for the grace: an outage of the backend stops
//! nobody it granted anything. Beyond the grace, and for what was never seen, no answer is a no.
//!
//! Invariant: one question a licence at a time, and at most [`MAX_KNOWN`] licences in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everlock::clock::{Clock as _, Moment, SystemClock};
use ring::digest;
use tokio_util::task::TaskTracker;

use super::licence::{Backend, Licence, LicenceKey, Unlicensed};

/// How often one licence is asked about in the background, at most.
const PAUSE: Duration = Duration::from_secs(1);
/// How many licences are remembered; some 30 MB.
const MAX_KNOWN: usize = 50_000;
/// Refusals of licence keys are remembered as long, so that the same wrong key in a loop
/// costs the backend nothing; so many of them.
const MAX_REFUSED: usize = 10_000;

type Hash = [u8; 32];

/// Licences by the names that the backend has for them.
#[derive(Debug)]
pub(crate) struct Licences {
    backend: Arc<dyn Backend>,
    refresh: Duration,
    grace: Duration,
    known: Mutex<HashMap<String, Arc<Slot>>>,
    refused: Mutex<HashMap<Hash, Moment>>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Slot {
    said: Mutex<Option<Said>>,
    asking: tokio::sync::Mutex<()>,
    tried: Mutex<Option<Moment>>,
}

/// What the backend said, and when it was asked.
#[derive(Clone, Debug)]
struct Said {
    licence: Option<Arc<Licence>>,
    at: Moment,
}

impl Licences {
    pub(crate) fn new(backend: Arc<dyn Backend>, refresh: Duration, grace: Duration) -> Self {
        Self {
            backend,
            refresh,
            grace,
            known: Mutex::default(),
            refused: Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// The licence with this key, asked for now unless it was refused a moment ago.
    pub(crate) async fn validate(&self, key: &LicenceKey) -> Result<Arc<Licence>, Unlicensed> {
        let now = SystemClock.now();
        let mut hash = Hash::default();
        hash.copy_from_slice(digest::digest(&digest::SHA256, key.reveal().as_bytes()).as_ref());
        let recent = |at: &Moment| now.saturating_since(*at) < self.refresh;
        if lock(&self.refused).get(&hash).is_some_and(recent) {
            return Err(Unlicensed::Refused);
        }
        match self.backend.validate(key).await {
            Ok(licence) => {
                let licence = Arc::new(licence);
                let slot = self.slot(&licence.reference)?;
                slot.note(Some(&licence), now);
                Ok(licence)
            }
            Err(Unlicensed::Refused) => {
                let mut refused = lock(&self.refused);
                if refused.len() >= MAX_REFUSED {
                    refused.retain(|_, at| recent(at));
                }
                if refused.len() < MAX_REFUSED {
                    refused.insert(hash, now);
                }
                Err(Unlicensed::Refused)
            }
            Err(Unlicensed::Unavailable) => Err(Unlicensed::Unavailable),
        }
    }

    /// The licence that the backend calls so.
    pub(crate) async fn look_up(
        self: &Arc<Self>,
        reference: &str,
    ) -> Result<Arc<Licence>, Unlicensed> {
        let slot = self.slot(reference)?;
        let now = SystemClock.now();
        let said = lock(&slot.said).clone();
        if let Some(said) = said {
            let age = now.saturating_since(said.at);
            if age < self.refresh {
                return said.verdict();
            }
            // A refusal is not stretched: it may have been renewed.
            if age < self.refresh + self.grace && said.licence.is_some() {
                if slot.may_try(now) {
                    let (this, slot, name) =
                        (Arc::clone(self), Arc::clone(&slot), reference.to_owned());
                    // It ends by the backend's deadline.
                    self.tasks
                        .spawn(async move { this.ask(&slot, &name).await });
                }
                return said.verdict();
            }
        }
        self.ask(&slot, reference).await
    }

    async fn ask(&self, slot: &Slot, reference: &str) -> Result<Arc<Licence>, Unlicensed> {
        let before = SystemClock.now();
        let _alone = slot.asking.lock().await;
        // Whoever waited for another's question has its answer.
        let said = lock(&slot.said).clone().filter(|said| said.at >= before);
        if let Some(said) = said {
            return said.verdict();
        }
        if lock(&slot.tried).is_some_and(|tried| tried >= before) {
            return Err(Unlicensed::Unavailable);
        }
        let at = SystemClock.now();
        *lock(&slot.tried) = Some(at);
        match self.backend.look_up(reference).await {
            Ok(licence) => {
                let licence = Arc::new(licence);
                slot.note(Some(&licence), at);
                Ok(licence)
            }
            Err(Unlicensed::Refused) => {
                slot.note(None, at);
                Err(Unlicensed::Refused)
            }
            Err(Unlicensed::Unavailable) => Err(Unlicensed::Unavailable),
        }
    }

    fn slot(&self, reference: &str) -> Result<Arc<Slot>, Unlicensed> {
        let mut known = lock(&self.known);
        if let Some(slot) = known.get(reference) {
            return Ok(Arc::clone(slot));
        }
        if known.len() >= MAX_KNOWN {
            let now = SystemClock.now();
            known.retain(|_, slot| {
                Arc::strong_count(slot) > 1 || slot.is_younger(self.refresh, now)
            });
        }
        if known.len() >= MAX_KNOWN {
            return Err(Unlicensed::Unavailable);
        }
        let slot = Arc::<Slot>::default();
        known.insert(reference.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }
}

impl Slot {
    fn note(&self, licence: Option<&Arc<Licence>>, at: Moment) {
        let licence = licence.cloned();
        *lock(&self.said) = Some(Said { licence, at });
    }

    /// Whether enough time went by since the last question.
    fn may_try(&self, now: Moment) -> bool {
        let mut tried = lock(&self.tried);
        let may = tried.is_none_or(|tried| now.saturating_since(tried) >= PAUSE);
        if may {
            *tried = Some(now);
        }
        may
    }

    fn is_younger(&self, age: Duration, now: Moment) -> bool {
        let said = lock(&self.said);
        said.as_ref()
            .is_some_and(|said| now.saturating_since(said.at) < age)
    }
}

impl Said {
    fn verdict(&self) -> Result<Arc<Licence>, Unlicensed> {
        let live = self
            .licence
            .clone()
            .filter(|licence| !licence.has_expired());
        live.ok_or(Unlicensed::Refused)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
