//! One acquire under way, from the question to its end, whatever that is.

use std::sync::Arc;

use everlock::AttemptCounter;

use super::{AcquireEnd, Insights};
use crate::advisor::Setting;

/// One acquire under way; when it is dropped, it came to its end.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(super) insights: &'a Insights,
    pub(super) place: Option<Place>,
    pub(super) how: AcquireEnd,
    pub(super) attempts: Option<AttemptCounter>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) key: u64,
    /// Stands for identity, key and owner.
    pub(super) held: u64,
    pub(super) setting: Setting,
    pub(super) group: (Arc<str>, String),
    pub(super) name: (Arc<str>, Arc<str>),
}

impl Asking<'_> {
    /// It ends like this. Without it, it was abandoned.
    pub(crate) const fn ends(&mut self, how: AcquireEnd) {
        self.how = how;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        let attempts = self.attempts.as_ref().map_or(0, AttemptCounter::made);
        self.insights.ended(&place, self.how, attempts);
    }
}
