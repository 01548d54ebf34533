//! A node whose messages get lost, late, or refused: by a switch, a script or a seed.
//!
//! It wraps any node and meddles with the messages to and from it, never with
//! the node's own state. Everything that it delays runs on tokio's timers, so
//! that under a paused clock a fault costs no time, and one seed gives one history.
//!
//! What it does not do: it keeps no order among delayed messages. That is on
//! purpose: the protocol must bear any order.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Ballot, Ear, Judged, Listening, Node, NodeFuture, ReplySlot};
use crate::clock::Moment;
use crate::core::admission::ServerFacts;
use crate::core::command::Command;
use crate::core::marker::{MarkerCommand, MarkerState};
use crate::core::quorum::{Fault, FaultKind, Reply};
use crate::core::types::{NodeId, Resource};
use crate::entropy::{Entropy, SeededEntropy, roll};

/// A silent node's messages are given up after this, as those of a Redis node are.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(2);
const DETAIL: &str = "injected";
/// A delayed request is sent however late it is.
const ALWAYS: Moment = Moment::from_origin(Duration::MAX);

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It is refused before it is sent, which the sender learns at once.
    Refused(FaultKind),
    /// The node answers with an error and does nothing; the sender can't know that.
    Error(FaultKind),
    /// The node does what it was asked, and the sender learns at once that there is no answer.
    Cut(FaultKind),
    /// It never arrives, and nothing is heard.
    RequestLost,
    /// The node does what it was asked, and nothing is heard.
    ReplyLost,
    /// It arrives this much later; the answer comes then.
    RequestDelayed(Duration),
    /// The node does what it was asked at once, and the answer comes this much later.
    ReplyDelayed(Duration),
    /// It is kept until the node is switched to something else, and arrives
    /// then: a server that was stopped. Nothing is heard until then.
    Stopped,
}

/// Decides what happens to each command's message.
pub type Plan = Box<dyn FnMut(&Command) -> Option<Mishap> + Send>;

/// How often what happens, in parts of a thousand messages; the rest is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Odds {
    /// [`Mishap::Refused`].
    pub refused: u16,
    /// [`Mishap::Error`].
    pub error: u16,
    /// [`Mishap::Cut`].
    pub cut: u16,
    /// [`Mishap::RequestLost`].
    pub request_lost: u16,
    /// [`Mishap::ReplyLost`].
    pub reply_lost: u16,
    /// [`Mishap::RequestDelayed`].
    pub request_delayed: u16,
    /// [`Mishap::ReplyDelayed`].
    pub reply_delayed: u16,
    /// No delay is longer.
    pub longest_delay: Duration,
}

impl Odds {
    fn draw(&self, entropy: &dyn Entropy) -> Option<Mishap> {
        let mut at = u16::try_from(entropy.bits() % 1_000).unwrap_or(0);
        let late = self.longest_delay.mul_f64(roll(entropy));
        for (share, mishap) in [
            (self.refused, Mishap::Refused(FaultKind::Refused)),
            (self.error, Mishap::Error(FaultKind::Loading)),
            (self.cut, Mishap::Cut(FaultKind::Disconnected)),
            (self.request_lost, Mishap::RequestLost),
            (self.reply_lost, Mishap::ReplyLost),
            (self.request_delayed, Mishap::RequestDelayed(late)),
            (self.reply_delayed, Mishap::ReplyDelayed(late)),
        ] {
            if at < share {
                return Some(mishap);
            }
            at -= share;
        }
        None
    }
}

/// A node with faults. Must be used within a tokio runtime.
pub struct FaultyNode {
    inner: Arc<dyn Node>,
    silence: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What happens to every message, whatever the plan says.
    always: Option<Mishap>,
    /// Nobody is told of releases.
    hushed: bool,
    plan: Option<Plan>,
    stopped: VecDeque<(u64, Command, Option<ReplySlot>)>,
    next_stopped: u64,
    commands: u64,
    mishaps: u64,
}

impl FaultyNode {
    /// This node, without a fault so far.
    #[must_use]
    pub fn new(inner: Arc<dyn Node>) -> Self {
        Self {
            inner,
            silence: DEFAULT_SILENCE,
            state: Arc::default(),
        }
    }

    /// After how long of silence a message is given up.
    #[must_use]
    pub const fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// From now on every message meets this mishap.
    pub fn always(&self, mishap: Mishap) {
        self.switch(|state| state.always = Some(mishap));
    }

    /// From now on nobody hears of releases here.
    pub fn hush(&self) {
        self.switch(|state| state.hushed = true);
    }

    /// From now on the plan decides about commands.
    pub fn plan(&self, plan: impl FnMut(&Command) -> Option<Mishap> + Send + 'static) {
        self.switch(|state| {
            state.always = None;
            state.plan = Some(Box::new(plan));
        });
    }

    /// The next commands meet these, in turn; those after them none.
    pub fn script(&self, mishaps: impl IntoIterator<Item = Option<Mishap>>) {
        let mut mishaps: VecDeque<_> = mishaps.into_iter().collect();
        self.plan(move |_| mishaps.pop_front().flatten());
    }

    /// From now on commands meet mishaps at these odds: the same for one seed.
    pub fn seeded(&self, seed: u64, odds: Odds) {
        let entropy = SeededEntropy::new(seed);
        self.plan(move |_| odds.draw(&entropy));
    }

    /// No further mishaps. What was stopped arrives now, in order.
    pub fn heal(&self) {
        self.switch(|state| {
            state.always = None;
            state.plan = None;
        });
    }

    /// How many commands were submitted so far.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.lock().commands
    }

    /// How many of them met a mishap.
    #[must_use]
    pub fn mishaps(&self) -> u64 {
        self.lock().mishaps
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switch(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if state.always == Some(Mishap::Stopped) {
            return;
        }
        let stopped = std::mem::take(&mut state.stopped);
        drop(state);
        for (_, command, slot) in stopped {
            let slot = slot.unwrap_or_else(|| Ballot::open().slot(0));
            self.inner.submit(command, ALWAYS, slot);
        }
    }

    fn draw(&self, command: &Command) -> Option<Mishap> {
        let mut state = self.lock();
        state.commands += 1;
        let mishap = match (state.always, &mut state.plan) {
            (Some(mishap), _) => Some(mishap),
            (None, Some(plan)) => plan(command),
            (None, None) => None,
        };
        state.mishaps += u64::from(mishap.is_some());
        mishap
    }

    /// Answers that nothing was heard, when that is noticed.
    fn give_up_later(&self, slot: ReplySlot) {
        let silence = self.silence;
        tokio::spawn(async move {
            tokio::time::sleep(silence).await;
            slot.fail(Fault::unknown(FaultKind::Timeout, DETAIL));
        });
    }

    fn stop(&self, command: Command, slot: ReplySlot) {
        let mut state = self.lock();
        let number = state.next_stopped;
        state.next_stopped += 1;
        state.stopped.push_back((number, command, Some(slot)));
        let (shared, silence) = (Arc::clone(&self.state), self.silence);
        tokio::spawn(async move {
            tokio::time::sleep(silence).await;
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let mut stopped = state.stopped.iter_mut();
            let slot = stopped
                .find(|(other, ..)| *other == number)
                .and_then(|(.., slot)| slot.take());
            drop(state);
            if let Some(slot) = slot {
                slot.fail(Fault::unknown(FaultKind::Timeout, DETAIL));
            }
        });
    }

    /// What becomes of a question that is no command: only switched faults meet it.
    async fn meddle<T>(&self, question: NodeFuture<'_, T>) -> Result<T, Fault> {
        let always = self.lock().always;
        match always {
            None => question.await,
            Some(Mishap::Refused(kind)) => Err(Fault::unsent(kind, DETAIL)),
            Some(Mishap::Error(kind)) => Err(Fault::unknown(kind, DETAIL)),
            Some(Mishap::Cut(kind)) => {
                question.await?;
                Err(Fault::unknown(kind, DETAIL))
            }
            Some(Mishap::RequestDelayed(late)) => {
                tokio::time::sleep(late).await;
                question.await
            }
            Some(Mishap::ReplyDelayed(late)) => {
                let answer = question.await;
                tokio::time::sleep(late).await;
                answer
            }
            Some(Mishap::ReplyLost) => {
                question.await?;
                tokio::time::sleep(self.silence).await;
                Err(Fault::unknown(FaultKind::Timeout, DETAIL))
            }
            Some(Mishap::RequestLost | Mishap::Stopped) => {
                tokio::time::sleep(self.silence).await;
                Err(Fault::unknown(FaultKind::Timeout, DETAIL))
            }
        }
    }

    /// Why the node is away, if it is switched to a fault that shows in its being judged.
    fn away(&self) -> Option<Judged> {
        match self.lock().always? {
            Mishap::RequestDelayed(_) | Mishap::ReplyDelayed(_) => None,
            Mishap::Refused(kind) | Mishap::Error(kind) | Mishap::Cut(kind) => {
                Some(Judged::Away(Fault::unsent(kind, DETAIL)))
            }
            Mishap::RequestLost | Mishap::ReplyLost | Mishap::Stopped => {
                Some(Judged::Away(Fault::unknown(FaultKind::Timeout, DETAIL)))
            }
        }
    }
}

/// A slot that hands the reply to `then`.
fn intercept(then: impl FnOnce(Reply) + Send + 'static) -> ReplySlot {
    let then = Mutex::new(Some(then));
    let reader = Ballot::with_late(move |_, reply| {
        let then = then.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(then) = then {
            then(reply);
        }
    });
    // The reader goes at once, so every reply is a late one.
    reader.slot(0)
}

impl Node for FaultyNode {
    fn id(&self) -> &NodeId {
        self.inner.id()
    }

    fn submit(&self, command: Command, not_after: Moment, slot: ReplySlot) {
        let inner = Arc::clone(&self.inner);
        match self.draw(&command) {
            None => inner.submit(command, not_after, slot),
            Some(Mishap::Refused(kind)) => slot.fail(Fault::unsent(kind, DETAIL)),
            Some(Mishap::Error(kind)) => slot.fail(Fault::unknown(kind, DETAIL)),
            Some(Mishap::Cut(kind)) => {
                let cut = intercept(move |_| slot.fail(Fault::unknown(kind, DETAIL)));
                inner.submit(command, not_after, cut);
            }
            Some(Mishap::RequestLost) => self.give_up_later(slot),
            Some(Mishap::ReplyLost) => {
                inner.submit(command, not_after, Ballot::open().slot(0));
                self.give_up_later(slot);
            }
            Some(Mishap::RequestDelayed(late)) => {
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    inner.submit(command, ALWAYS, slot);
                });
            }
            Some(Mishap::ReplyDelayed(late)) => {
                let runtime = tokio::runtime::Handle::current();
                let delayed = intercept(move |reply| {
                    runtime.spawn(async move {
                        tokio::time::sleep(late).await;
                        slot.reply(reply);
                    });
                });
                inner.submit(command, not_after, delayed);
            }
            Some(Mishap::Stopped) => self.stop(command, slot),
        }
    }

    fn listen(&self, resource: &Resource, ear: Ear) -> Listening {
        let state = Arc::clone(&self.state);
        // What is told while everything goes wrong is lost.
        let through = move |release| {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let lost = state.hushed || state.always.is_some();
            drop(state);
            if !lost {
                ear(release);
            }
        };
        self.inner.listen(resource, Arc::new(through))
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        Box::pin(self.meddle(self.inner.mark(command)))
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        Box::pin(self.meddle(self.inner.facts()))
    }

    fn last_judged(&self) -> Option<Judged> {
        self.away().or_else(|| self.inner.last_judged())
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        match self.away() {
            Some(away) => Box::pin(std::future::ready(away)),
            None => self.inner.judge(),
        }
    }
}

impl fmt::Debug for FaultyNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyNode")
            .field("inner", &self.inner)
            .field("always", &self.lock().always)
            .finish_non_exhaustive()
    }
}
