//! Heads of lines that are not there: their futures are not polled.
//!
//! A future that waits for a lock may be left alone for long, beside a task that does
//! something else. What it is told meanwhile lies unread, the lock itself perhaps, and
//! those behind it rely on its attempts.
//!
//! Invariant: a head that doesn't do what it should for a second or so goes behind the
//! others, and what it was given and has not read is given back. It costs an attempt
//! where it was only slow.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Lines, Place};
use crate::clock::Moment;
use crate::core::types::Resource;
use crate::redlock::Inner;
use crate::redlock::inbox::News;

/// Heads are looked at this often while there are lines.
const LOOK: Duration = Duration::from_millis(500);
/// Who was missed so often is not there.
const MISSES: u32 = 2;
/// An attempt proposes so often at most, and ends by the nodes' time each time.
const PROPOSALS: u32 = 3;

/// Whether a waiter was seen to do something since it was looked for.
#[derive(Default)]
pub(in crate::redlock) struct Presence {
    seen: bool,
    /// Until when it may sleep, unless it is told something.
    until: Option<Moment>,
    missed: u32,
}

impl Presence {
    pub(super) const fn sleep(&mut self, until: Moment) {
        self.seen = true;
        self.until = Some(until);
    }

    pub(super) const fn wake(&mut self) {
        self.seen = true;
        self.until = None;
    }

    /// It is looked for. How often it was missed in a row.
    fn look(&mut self, is_told: bool, now: Moment) -> u32 {
        let sleeps = !is_told && self.until.is_some_and(|until| now < until);
        if std::mem::take(&mut self.seen) || sleeps {
            self.missed = 0;
        } else {
            self.missed += 1;
        }
        self.missed
    }
}

impl Lines {
    /// Has somebody look after the heads, while there are lines.
    pub(super) fn watch(&self, inner: &Arc<Inner>) {
        if self.watched.swap(true, Ordering::SeqCst) {
            return;
        }
        let weak = Arc::downgrade(inner);
        inner.runtime.spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(inner) = weak.upgrade() else { return };
                if !inner.lines.look_for_heads(&inner) {
                    return;
                }
            }
        });
    }

    /// Whether there is anybody to look for again.
    fn look_for_heads(&self, inner: &Inner) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            self.watched.store(false, Ordering::SeqCst);
            // A line that began in between may have relied on this watch.
            let began = self.count.load(Ordering::SeqCst) > 0;
            return began && !self.watched.swap(true, Ordering::SeqCst);
        }
        let busy = inner.settings.node_timeout * PROPOSALS;
        let busy = u32::try_from(busy.as_millis() / LOOK.as_millis()).unwrap_or(u32::MAX);
        let now = inner.clock.now();
        let is_absent = |head: &Place| {
            let mut inbox = head.lock();
            let is_told = inbox.news.is_some();
            let most = if inbox.asleep {
                MISSES
            } else {
                MISSES.saturating_add(busy)
            };
            inbox.presence.look(is_told, now) >= most
        };
        let lines = self.lock();
        let heads = lines.iter().filter_map(|(resource, line)| {
            let (_, head) = line.places.first_key_value()?;
            is_absent(head).then(|| (resource.clone(), Arc::clone(head)))
        });
        let absent: Vec<_> = heads.collect();
        drop(lines);
        for (resource, head) in absent {
            self.pass_over(inner, &resource, &head);
        }
        true
    }

    /// Takes back what this head was given, and lets the next one be the head.
    fn pass_over(&self, inner: &Inner, resource: &Resource, absent: &Arc<Place>) {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(resource) else {
            return;
        };
        let mut inbox = absent.lock();
        if inbox.left || !absent.is_head.load(Ordering::Acquire) {
            return;
        }
        // Nothing is begun for it, or given to it, before it is seen again.
        inbox.asleep = false;
        let given = matches!(inbox.news, Some(News::Begun(_) | News::Handed(_)));
        let given = given.then(|| inbox.news.replace(News::Try));
        drop(inbox);
        let number = absent.number.load(Ordering::Relaxed);
        let (mut next, mut silent) = (None, None);
        if line.places.len() > 1 {
            let last = self.next_number();
            line.places.remove(&number);
            absent.number.store(last, Ordering::Relaxed);
            absent.is_head.store(false, Ordering::Release);
            line.places.insert(last, Arc::clone(absent));
            next = line.first();
        } else if given.is_some() {
            silent = line.silent.take();
        }
        drop(lines);
        // What was begun is undone before anybody tries.
        drop(given);
        if let Some(release) = silent {
            inner.tell_all(&release);
        }
        if let Some(next) = next {
            next.tell(News::Try);
        }
    }
}
