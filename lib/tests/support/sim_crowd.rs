//! The simulation's crowds: tasks of one client that want one lock at once, each for a
//! short section. Between them the lock is handed on without the nodes; or all of them
//! stand in line, each with a ticket of its own.
//!
//! Where it is handed on, the nodes know all of them by one owner; the history tells each by a name of its own,
//! so that they are judged like strangers.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everlock::{AcquireOptions, Error, Held, majority};
use everlock_testkit::history::Hold;
use futures_util::future::join_all;

use super::sim::{Wrong, ms};
use super::sim_clients::{Asked, Client, at_most};

/// Sections are numbered, so that each is somebody else in the history.
#[derive(Default)]
pub(crate) struct Sections(AtomicU64);

/// A section that runs. However it ends, it relies on the lock no longer.
struct Running<'a> {
    client: &'a Client,
    resource: usize,
    name: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let notes = &self.client.notes;
        notes.trace(format_args!("{} ends", self.name));
        let mut history = notes.history.lock().unwrap();
        history.released(self.resource, &self.name, u64::MAX, notes.now());
    }
}

impl Client {
    /// Several tasks want the lock, until all have had it, or have gone.
    pub(crate) async fn crowd(self: &Arc<Self>, asked: &Asked) {
        let (notes, dice) = (&self.notes, &self.crowd_dice);
        notes.count("crowd");
        let members = 2 + dice.below(4);
        let dies = (notes.terms.deaths && dice.one_in(6)).then(|| ms(dice.below(200)));
        let in_turn = notes.terms.in_turn;
        let in_turn = in_turn > 0 && self.line_dice.below(100) < in_turn;
        if in_turn {
            notes.count("crowd in line");
        }
        let options = self.options(asked).retries(6).fifo(in_turn);
        let members = (0..members).map(|_| self.member(asked, options.clone()));
        let crowd = join_all(members.collect::<Vec<_>>());
        let Some(dies) = dies else {
            crowd.await;
            return;
        };
        if tokio::time::timeout(dies, crowd).await.is_err() {
            notes.count("client died in a crowd");
            self.die(None);
        }
    }

    /// One of them.
    async fn member(self: &Arc<Self>, asked: &Asked, options: AcquireOptions) {
        let (notes, dice) = (&self.notes, &self.crowd_dice);
        tokio::time::sleep(ms(dice.below(10))).await;
        let asked = Asked {
            at: notes.now(),
            ..asked.clone()
        };
        let number = self.world.sections.0.fetch_add(1, Ordering::Relaxed);
        let name = format!("section {number} of client {}", self.number);
        notes.count("asked");
        notes.trace(format_args!("{name} asks for r{}", asked.resource));
        let redlock = self.redlock();
        let work = async |held: Held| self.section(&asked, &name, &held).await;
        let resource = format!("r{}", asked.resource);
        let mut running = pin!(redlock.with_lock(resource, options, work));
        let (after, terms) = (ms(dice.below(120)), &notes.terms);
        let ended = if terms.cancels && dice.one_in(4) {
            let polls = 1 + dice.below(12);
            let looking = at_most(polls, running.as_mut());
            let Ok(Some(ended)) = tokio::time::timeout(after, looking).await else {
                notes.count("member cancelled");
                notes.trace(format_args!("{name} goes away"));
                return;
            };
            ended
        } else if terms.pauses && dice.one_in(3) {
            // It looks at nothing for a while, though it may have been given the lock.
            if let Ok(ended) = tokio::time::timeout(after, running.as_mut()).await {
                ended
            } else {
                notes.count("member paused");
                tokio::time::sleep(ms(dice.below(900))).await;
                running.await
            }
        } else {
            running.await
        };
        notes.trace(format_args!("{name}: {ended:?}"));
        notes.count(match ended {
            Ok(_) => "section done",
            Err(Error::Contended { .. }) => "contended",
            Err(Error::Unavailable { .. }) => "unavailable",
            Err(other) => panic!("{other:?}"),
        });
    }

    async fn section(&self, asked: &Asked, name: &str, held: &Held) {
        let (notes, dice) = (&self.notes, &self.crowd_dice);
        let _running = Running {
            client: self,
            resource: asked.resource,
            name: name.to_owned(),
        };
        notes.count("acquired");
        // It may not be looking when it is told, and has nothing to rely on from then on.
        let (notes_of_loss, resource, of) = (Arc::clone(notes), asked.resource, name.to_owned());
        held.on_lost(move |_| {
            let now = notes_of_loss.now();
            let mut history = notes_of_loss.history.lock().unwrap();
            history.released(resource, &of, u64::MAX, now);
        });
        if held.attempts() == 0 {
            notes.count("handed on");
        }
        if held.remaining() <= asked.min_validity {
            let line = format!("{name} has {held:?} for {:?}", asked.min_validity);
            notes.wrong(Wrong::Late, line);
        }
        for _ in 0..=dice.below(3) {
            let told = Hold {
                client: self.number,
                resource: asked.resource,
                owner: name.to_owned(),
                token: held.token().as_u64(),
                asked: asked.at,
                acquired: notes.now(),
                valid_until: self.clock.true_time(held.valid_until()),
                released: None,
            };
            notes.trace(format_args!("{told}"));
            let quorum = majority(self.world.nodes.len());
            notes.lines.won(asked.resource, held.token(), quorum);
            notes.history.lock().unwrap().held(told);
            tokio::time::sleep(ms(dice.below(25))).await;
            if !held.is_valid() {
                return;
            }
        }
    }
}
