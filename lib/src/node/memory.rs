//! A node in this process's memory: the same rules, no server.
//!
//! It is the embedded default for development and the node of the simulation.
//! Each has a clock of its own. What it is not: a distributed lock; it is gone
//! with the process, and nobody outside the process can ask it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Ear, Ears, Judged, Listening, Node, NodeFuture, ReplySlot};
use crate::clock::{Clock, Moment};
use crate::core::admission::{Admission, ServerFacts, judge};
use crate::core::command::Command;
use crate::core::marker::{MarkerCommand, MarkerState};
use crate::core::quorum::{Reply, Vote};
use crate::core::register::Register;
use crate::core::token::FencingToken;
use crate::core::types::{CallId, NodeId, OwnerId, Resource};

/// An in-memory node.
pub struct MemoryNode {
    id: NodeId,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    ears: Arc<Ears>,
}

struct State {
    register: Register,
    run: u64,
    run_id: String,
}

fn run_id(id: &NodeId, run: u64) -> String {
    format!("{id}-run-{run}")
}

impl MemoryNode {
    /// A new node, not initialised, that goes by `clock`'s wall clock.
    #[must_use]
    pub fn new(name: &str, clock: Arc<dyn Clock>) -> Self {
        let id = NodeId::new(name);
        let state = State {
            register: Register::default(),
            run: 0,
            run_id: run_id(&id, 0),
        };
        Self {
            id,
            clock,
            state: Mutex::new(state),
            ears: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one command now.
    pub fn apply(&self, command: &Command) -> Reply {
        let now = self.clock.wall();
        let mut state = self.lock();
        let State {
            register, run_id, ..
        } = &mut *state;
        let vote = register.apply(now, run_id, command);
        drop(state);
        let told = match (command, &vote) {
            (
                Command::Release {
                    resource, token, ..
                }
                | Command::ReleaseInTurn {
                    resource, token, ..
                },
                Vote::Released { .. } | Vote::Absent,
            )
            | (
                Command::Undo {
                    resource,
                    token,
                    aloud: true,
                    ..
                },
                Vote::Undone { deleted: true },
            )
            | (
                Command::LeaveQueue {
                    resource,
                    ticket: token,
                    ..
                },
                Vote::LeftQueue { wakes: true },
            ) => Some((resource, Some(*token))),
            _ => None,
        };
        if let Some((resource, release)) = told {
            self.ears.tell(resource, release);
        }
        Reply::at(now, vote)
    }

    /// Restarts the node, with or without what it knew.
    pub fn restart(&self, keep_data: bool) {
        let kept = keep_data.then(|| self.snapshot());
        self.restart_from(kept.unwrap_or_default());
    }

    /// What the node knows now, as a server writes it to its disk.
    #[must_use]
    pub fn snapshot(&self) -> Register {
        self.lock().register.clone()
    }

    /// Restarts the node with what it knew at some time.
    pub fn restart_from(&self, snapshot: Register) {
        let mut state = self.lock();
        state.run += 1;
        state.run_id = run_id(&self.id, state.run);
        state.register = snapshot;
    }

    /// Who holds the resource on this node.
    #[must_use]
    pub fn holder(&self, resource: &Resource) -> Option<OwnerId> {
        self.lock()
            .register
            .holder(resource, self.clock.wall())
            .cloned()
    }

    /// The ticket under which a call stood in line here after the last command.
    #[must_use]
    pub fn ticket(&self, resource: &Resource, call: CallId) -> Option<FencingToken> {
        self.lock().register.ticket(resource, call)
    }

    /// How many locks are held here.
    #[must_use]
    pub fn locks(&self) -> usize {
        self.apply(&Command::Ping);
        self.lock().register.locks()
    }

    fn mark_now(&self, command: MarkerCommand) -> MarkerState {
        let now = self.clock.wall();
        let mut state = self.lock();
        let run_id = state.run_id.clone();
        let marker = state.register.mark(now, &run_id, command);
        MarkerState {
            time: now,
            run_id,
            marker,
        }
    }

    fn facts_now(&self) -> ServerFacts {
        ServerFacts {
            run_id: self.lock().run_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            product: "memory".to_owned(),
            eviction: Some("noeviction".to_owned()),
            durable: Some(false),
            ..ServerFacts::default()
        }
    }

    fn judge_now(&self) -> Judged {
        let state = self.mark_now(MarkerCommand::Read);
        let nodes = state
            .marker
            .as_ref()
            .map_or(0, |marker| marker.cluster.nodes);
        match judge(&self.facts_now(), &state, None, nodes) {
            Admission::Serve(info) => Judged::Serving(info),
            Admission::Guard(cluster) => {
                let durable = false;
                self.mark_now(MarkerCommand::Guard {
                    cluster: cluster.clone(),
                    started: None,
                    durable,
                });
                Judged::Serving(cluster)
            }
            Admission::Uninitialised => Judged::Uninitialised,
            Admission::Refuse(problem) => Judged::Refused(problem),
        }
    }
}

impl Node for MemoryNode {
    fn id(&self) -> &NodeId {
        &self.id
    }

    fn submit(&self, command: Command, _not_after: Moment, slot: ReplySlot) {
        slot.reply(self.apply(&command));
    }

    fn mark(&self, command: MarkerCommand) -> NodeFuture<'_, MarkerState> {
        Box::pin(async move { Ok(self.mark_now(command)) })
    }

    fn facts(&self) -> NodeFuture<'_, ServerFacts> {
        Box::pin(async move { Ok(self.facts_now()) })
    }

    fn listen(&self, resource: &Resource, ear: Ear) -> Listening {
        ear(None);
        self.ears.add(resource, ear, || {})
    }

    fn last_judged(&self) -> Option<Judged> {
        Some(self.judge_now())
    }

    fn judge(&self) -> Pin<Box<dyn Future<Output = Judged> + Send + '_>> {
        Box::pin(async move { self.judge_now() })
    }
}

impl fmt::Debug for MemoryNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNode")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
