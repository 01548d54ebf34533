//! What somebody in a line is told, until it is read.

use super::line::{Baton, Presence};
use super::proposal::Flight;
use crate::clock::Moment;

#[derive(Default)]
pub(super) struct Inbox {
    pub(super) news: Option<News>,
    /// Whether an attempt could be begun on its behalf.
    pub(super) asleep: bool,
    pub(super) left: bool,
    pub(super) presence: Presence,
}

/// What somebody in a line is told.
pub(super) enum News {
    /// It is the head now; the lock went to the one before it, until then at most.
    Head(Moment),
    /// The lock may be free: it should try.
    Try,
    /// The lock was let go for others to have the first try: it should try from then on.
    Later(Moment),
    /// The lock is being let go, and this attempt follows on the heels of the release.
    Begun(Box<Flight>),
    /// It has the lock: whoever held it in this process handed it on.
    Handed(Box<Baton>),
}

impl Inbox {
    /// The lock is more than an attempt that was begun, this more than advice to try, and
    /// that more than the place.
    pub(super) fn take(&mut self, news: News) {
        let keep = matches!(
            (&self.news, &news),
            (Some(News::Begun(_) | News::Handed(_)), _)
                | (Some(News::Later(_)), News::Try)
                | (Some(News::Try | News::Later(_)), News::Head(_))
        );
        if !keep && !self.left {
            self.news = Some(news);
        }
    }
}
