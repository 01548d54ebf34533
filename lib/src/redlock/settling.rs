//! What each node must still be told of one release.
//!
//! It hears every answer, also those that come after the caller has its own or
//! has gone, and settles a node as soon as its answer and the token of the
//! released grant are both known: then a grant of the released lock that arrives
//! late is refused there.

use std::sync::{Arc, Mutex, PoisonError};

use super::leaving::Stay;
use super::{Holding, Inner};
use crate::core::quorum::Vote;
use crate::core::safeguards::Safeguard;
use crate::core::token::FencingToken;
use crate::observer::Trace;

pub(super) struct Settling {
    inner: Arc<Inner>,
    held: Holding,
    /// What is asked for where no grant's token is known.
    asked: FencingToken,
    /// The place in line that is left with the release.
    place: Option<Stay>,
    /// Follows the release.
    trace: Option<Arc<dyn Trace>>,
    state: Mutex<State>,
}

struct State {
    /// The highest token under which the lock is known to have been held.
    ended: Option<FencingToken>,
    answers: Vec<Option<Answer>>,
}

#[derive(Clone, Copy)]
struct Answer {
    /// Up to which token the lock is surely over on the node; `None` if it failed.
    over: Option<FencingToken>,
    /// The token with which the node was settled.
    settled: Option<FencingToken>,
}

impl Settling {
    pub(super) fn new(
        inner: &Arc<Inner>,
        held: Holding,
        asked: FencingToken,
        place: Option<Stay>,
        trace: Option<Arc<dyn Trace>>,
    ) -> Arc<Self> {
        let answers = vec![None; inner.nodes.len()];
        let state = Mutex::new(State {
            ended: held.token,
            answers,
        });
        Arc::new(Self {
            inner: Arc::clone(inner),
            held,
            asked,
            place,
            trace,
            state,
        })
    }

    /// The lock is held under this token, or was: its release is what is wanted.
    pub(super) fn learn(&self, token: FencingToken) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended = state.ended.max(Some(token));
        self.tell(&mut state);
    }

    /// Takes note of a node's answer, and tells whom must be told now.
    pub(super) fn note(&self, node: usize, vote: &Vote) {
        if let (Vote::Failed(_), Some(place)) = (vote, self.place) {
            self.inner.leave(node, &self.held.resource, place);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let over = match vote {
            Vote::Released { token } => {
                if self.held.token.is_none() {
                    state.ended = state.ended.max(*token);
                }
                Some(token.unwrap_or(FencingToken::ZERO))
            }
            Vote::Newer { token } => {
                if self.held.token.is_none() {
                    state.ended = state.ended.max(Some(*token));
                }
                Some(FencingToken::ZERO)
            }
            Vote::Failed(_) => None,
            _ => Some(FencingToken::ZERO),
        };
        if let Some(slot) = state.answers.get_mut(node) {
            let settled = slot.and_then(|earlier| earlier.settled);
            *slot = Some(Answer { over, settled });
        }
        self.tell(&mut state);
    }

    fn tell(&self, state: &mut State) {
        // A node that failed may have held the lock: all must be told, as well as is known, since
        // where it was absent a grant of it may arrive yet.
        let failed = state
            .answers
            .iter()
            .flatten()
            .any(|answer| answer.over.is_none());
        let Some(token) = state.ended.or(failed.then_some(self.asked)) else {
            return;
        };
        for (node, answer) in state.answers.iter_mut().enumerate() {
            let Some(answer) = answer else { continue };
            if answer.over.max(answer.settled) < Some(token) && Safeguard::Settle.is_on() {
                answer.settled = Some(token);
                self.inner
                    .settle(node, &self.held, token, self.trace.clone());
            }
        }
    }
}
