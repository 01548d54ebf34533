//! The task that owns a node's connection.
//!
//! Labelled states: `Dialling => Serving => Dialling …`, until the node is
//! dropped. While dialling after a failure, commands are answered with that
//! failure at once; a quorum must not wait for a node that is known to be away.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{Dialer, Link};
use super::membership::Seat;
use super::service::Service;
use crate::clock::Moment;
use crate::core::admission::ServerFacts;
use crate::core::command::Command;
use crate::core::marker::{MarkerCommand, MarkerState};
use crate::core::quorum::{Fault, FaultKind};
use crate::core::types::NodeId;
use crate::node::{Judged, ReplySlot};
use crate::observer::Event;

/// Pauses between two tries to connect; short, so that a node that is back is used at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Something to do with a node.
pub(super) enum Job {
    Command {
        command: Command,
        not_after: Moment,
        slot: ReplySlot,
    },
    Mark {
        command: MarkerCommand,
        answer: oneshot::Sender<Result<MarkerState, Fault>>,
    },
    Facts {
        answer: oneshot::Sender<Result<ServerFacts, Fault>>,
    },
    Judge {
        answer: oneshot::Sender<Judged>,
    },
}

impl Job {
    /// Answers that it was not done. A caller that has gone needs no answer.
    pub(super) fn fail(self, fault: &Fault) {
        match self {
            Self::Command { slot, .. } => slot.fail(fault.clone()),
            Self::Mark { answer, .. } => {
                let _ = answer.send(Err(fault.clone()));
            }
            Self::Facts { answer } => {
                let _ = answer.send(Err(fault.clone()));
            }
            Self::Judge { answer } => {
                let _ = answer.send(Judged::Away(fault.clone()));
            }
        }
    }
}

/// What ends a connection's service.
pub(super) enum End {
    /// The node was dropped.
    Dropped,
    /// The connection is no good any more.
    Broken(Fault),
}

pub(super) struct Driver {
    pub(super) id: NodeId,
    pub(super) dialer: Dialer,
    pub(super) seat: Seat,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) judged: watch::Sender<Option<Judged>>,
    /// Why the last connection failed, until there is another.
    fault: Option<Fault>,
    /// Jobs that came while the first connection was being made, or the one that is kept
    /// back for what is under way.
    pub(super) early: VecDeque<Job>,
}

impl Driver {
    pub(super) fn new(
        id: NodeId,
        dialer: Dialer,
        seat: Seat,
        jobs: mpsc::Receiver<Job>,
        judged: watch::Sender<Option<Judged>>,
    ) -> Self {
        Self {
            id,
            dialer,
            seat,
            jobs,
            judged,
            fault: None,
            early: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut pause = Duration::ZERO;
        loop {
            // Dialling => Serving
            let Some(dialled) = self.dial(pause).await else {
                return;
            };
            let end = match dialled {
                Ok(link) => {
                    pause = Duration::ZERO;
                    self.fault = None;
                    Service::new(&mut self, link).run().await
                }
                Err(fault) => End::Broken(fault),
            };
            // Serving => Dialling
            let End::Broken(fault) = end else { return };
            self.seat.leave();
            self.tell_down(&fault);
            self.judged.send_replace(Some(Judged::Away(fault.clone())));
            for job in self.early.drain(..) {
                job.fail(&fault);
            }
            self.fault = Some(fault);
            pause = (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        }
    }

    /// Tells the observer that the node can't be used.
    pub(super) fn tell_down(&self, fault: &Fault) {
        let node = &self.id;
        let event = Event::NodeDown { node, fault };
        self.seat.observer.event(&event);
    }

    /// Makes a connection, and answers meanwhile. `None` once the node was dropped.
    async fn dial(&mut self, pause: Duration) -> Option<Result<Link, Fault>> {
        let dialling = async {
            tokio::time::sleep(pause).await;
            self.dialer.dial().await
        };
        tokio::pin!(dialling);
        loop {
            tokio::select! {
                biased;
                dialled = &mut dialling => return Some(dialled),
                job = self.jobs.recv() => match (job?, &self.fault) {
                    (job, Some(fault)) => {
                        let detail = std::sync::Arc::clone(&fault.detail);
                        job.fail(&Fault::unsent(fault.kind, detail));
                    }
                    (job, None) if self.early.len() < super::MAX_WAITING => {
                        self.early.push_back(job);
                    }
                    (job, None) => job.fail(&Fault::unsent(FaultKind::Backlog, "")),
                },
            }
        }
    }
}
