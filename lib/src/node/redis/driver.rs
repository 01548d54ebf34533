//! The task that owns a node's connection.
//!
//! Labelled states: `Dialling => Serving => Dialling …`, until the node is
//! dropped. While dialling after a failure, commands are answered with that
//! failure at once; a quorum must not wait for a node that is known to be away.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, Value};
use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{Dialer, Link};
use super::membership::Seat;
use super::{faults, scripts};
use crate::clock::Moment;
use crate::core::admission::{Admission, ServerFacts, judge};
use crate::core::command::Command;
use crate::core::marker::{MarkerCommand, MarkerState};
use crate::core::quorum::{Fault, FaultKind, Reply};
use crate::core::types::NodeId;
use crate::node::{Ballot, Judged, ReplySlot};
use crate::observer::Event;

/// Commands that may be on their way to the server at once.
const MAX_IN_FLIGHT: usize = 1_024;
/// Commands that travel together at most.
const MAX_BATCH: usize = 128;
/// Pauses between two tries to connect; short, so that a node that is back is used at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How often a quiet connection is looked after.
const TICK: Duration = Duration::from_millis(250);
/// Quiet connections are used this often, so that a dead one is noticed, and a
/// server's idle timeout never strikes.
const HEARTBEAT_TICKS: u32 = 4;

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

/// A command that was sent.
struct Sent {
    command: Command,
    slot: ReplySlot,
    reloaded: bool,
}

/// What came back of commands that travelled together.
struct Returned {
    sent: Vec<Sent>,
    result: redis::RedisResult<Vec<Value>>,
    number: u64,
}

/// What ends a connection's service.
enum End {
    /// The node was dropped.
    Dropped,
    /// The connection is no good any more.
    Broken(Fault),
}

pub(super) struct Driver {
    id: NodeId,
    dialer: Dialer,
    seat: Seat,
    jobs: mpsc::Receiver<Job>,
    judged: watch::Sender<Option<Judged>>,
    /// Why the last connection failed, until there is another.
    fault: Option<Fault>,
    /// Jobs that came while the first connection was being made.
    early: VecDeque<Job>,
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
            self.seat.observer.event(&Event::NodeDown {
                node: &self.id,
                fault: &fault,
            });
            self.judged.send_replace(Some(Judged::Away(fault.clone())));
            for job in self.early.drain(..) {
                job.fail(&fault);
            }
            self.fault = Some(fault);
            pause = (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        }
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

/// One connection's service.
struct Service<'a> {
    driver: &'a mut Driver,
    link: Link,
    in_flight: FuturesUnordered<BoxFuture<'static, Returned>>,
    /// When each batch that is under way was sent, oldest first.
    sent_at: VecDeque<(u64, Moment)>,
    commands_in_flight: usize,
    next_number: u64,
    quiet_ticks: u32,
    /// Why commands can't be served although the server answers.
    refused: Option<Fault>,
    /// Whether the marker must be judged (again).
    judge: bool,
    /// Who wants to hear the next judgement.
    asked: Vec<oneshot::Sender<Judged>>,
}

impl<'a> Service<'a> {
    fn new(driver: &'a mut Driver, link: Link) -> Self {
        Self {
            driver,
            link,
            in_flight: FuturesUnordered::new(),
            sent_at: VecDeque::new(),
            commands_in_flight: 0,
            next_number: 0,
            quiet_ticks: 0,
            refused: None,
            judge: true,
            asked: Vec::new(),
        }
    }

    async fn run(mut self) -> End {
        match self.serve().await {
            Ok(()) => End::Dropped,
            Err(fault) => End::Broken(fault),
        }
    }

    async fn serve(&mut self) -> Result<(), Fault> {
        self.judge().await?;
        let early = std::mem::take(&mut self.driver.early);
        self.accept(early.into());
        if !self.asked.is_empty() {
            self.judge().await?;
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let may_send = self.commands_in_flight < MAX_IN_FLIGHT;
            tokio::select! {
                biased;
                Some(returned) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.take_back(returned).await?;
                }
                job = self.driver.jobs.recv(), if may_send => match job {
                    Some(job) => {
                        let batch = self.gather(job);
                        self.accept(batch);
                        if !self.asked.is_empty() {
                            self.judge().await?;
                        }
                    }
                    None => return Ok(()),
                },
                _ = ticks.tick() => self.tick().await?,
            }
        }
    }

    /// The jobs that wait already, so that they travel together.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut jobs = vec![first];
        while jobs.len() < MAX_BATCH
            && let Ok(job) = self.driver.jobs.try_recv()
        {
            jobs.push(job);
        }
        jobs
    }

    fn accept(&mut self, jobs: Vec<Job>) {
        let now = self.driver.seat.clock.now();
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Command {
                    not_after, slot, ..
                } if now >= not_after => {
                    slot.fail(Fault::unsent(
                        FaultKind::Timeout,
                        "waited too long to be sent",
                    ));
                }
                Job::Command { slot, .. } if self.refused.is_some() => {
                    slot.fail(self.refused.clone().unwrap_or_else(not_refused));
                }
                Job::Command { command, slot, .. } => {
                    batch.push(Sent {
                        command,
                        slot,
                        reloaded: false,
                    });
                }
                Job::Mark { command, answer } => {
                    let mut link = self.link.clone();
                    // Bounded by the connection's response timeout, and by its owner's.
                    tokio::spawn(async move {
                        let _ = answer.send(link.mark(&command).await);
                    });
                }
                Job::Judge { answer } => self.asked.push(answer),
                Job::Facts { answer } => {
                    let mut link = self.link.clone();
                    tokio::spawn(async move {
                        let _ = answer.send(link.refresh().await.cloned());
                    });
                }
            }
        }
        self.send(batch);
    }

    fn send(&mut self, sent: Vec<Sent>) {
        if sent.is_empty() {
            return;
        }
        let mut pipeline = Pipeline::with_capacity(sent.len());
        for Sent { command, .. } in &sent {
            pipeline.add_command(scripts::call(command, &self.link.facts.run_id));
        }
        self.commands_in_flight += sent.len();
        let number = self.next_number;
        self.next_number += 1;
        self.sent_at
            .push_back((number, self.driver.seat.clock.now()));
        let mut link = self.link.clone();
        self.in_flight.push(Box::pin(async move {
            let result = link.send(&pipeline).await;
            Returned {
                sent,
                result,
                number,
            }
        }));
    }

    async fn take_back(&mut self, returned: Returned) -> Result<(), Fault> {
        let Returned {
            sent,
            result,
            number,
        } = returned;
        self.commands_in_flight -= sent.len();
        self.sent_at.retain(|(other, _)| *other != number);
        self.quiet_ticks = 0;
        let values = match result {
            Ok(values) => values,
            Err(error) => {
                let fault = faults::of_reply(&error);
                for Sent { slot, .. } in sent {
                    slot.fail(fault.clone());
                }
                return if faults::breaks_connection(&error) {
                    Err(fault)
                } else {
                    Ok(())
                };
            }
        };
        let mut unknown = Vec::new();
        for (sent, value) in sent.into_iter().zip(values) {
            if scripts::wants_script(&value) && !sent.reloaded {
                unknown.push(Sent {
                    reloaded: true,
                    ..sent
                });
                continue;
            }
            let (reply, judge) = match value {
                Value::ServerError(error) => {
                    let fault = faults::of_reply(&error.into());
                    (Reply::failed(fault), false)
                }
                value => scripts::vote(&value),
            };
            self.judge |= judge;
            sent.slot.reply(reply);
        }
        if !unknown.is_empty() {
            self.link.load_scripts().await?;
            self.send(unknown);
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Fault> {
        let now = self.driver.seat.clock.now();
        if let Some((_, sent)) = self.sent_at.front()
            && now.saturating_since(*sent) >= self.driver.dialer.silence()
        {
            return Err(Fault::unknown(
                FaultKind::Timeout,
                "the server has fallen silent",
            ));
        }
        let waiting = !self.in_flight.is_empty();
        if self.judge && !waiting {
            self.judge().await?;
        }
        self.quiet_ticks += 1;
        if self.quiet_ticks >= HEARTBEAT_TICKS && !waiting {
            self.quiet_ticks = 0;
            // Nobody waits for this one: it shows a dead connection, and a lost marker.
            let slot = Ballot::open().slot(0);
            self.send(vec![Sent {
                command: Command::Ping,
                slot,
                reloaded: false,
            }]);
        }
        Ok(())
    }

    /// Judges the server: at the start, and whenever a script says that its marker is wrong.
    async fn judge(&mut self) -> Result<(), Fault> {
        let state = self.link.mark(&MarkerCommand::Read).await?;
        self.link.refresh().await?;
        let seat = &self.driver.seat;
        let facts = &self.link.facts;
        let admission = match seat.claim(&facts.run_id) {
            Ok(()) => judge(
                facts,
                &state,
                seat.cluster().as_ref(),
                seat.configured_nodes(),
            ),
            Err(other) => Admission::Refuse(format!("it is the same server as node {}", other + 1)),
        };
        self.judge = false;
        self.refused = None;
        let judged = match admission {
            Admission::Serve(info) => {
                seat.learn(&info);
                self.announce(&state);
                Judged::Serving(info)
            }
            Admission::Guard(info) => {
                let started = Some(facts.started(state.time));
                let durable = facts.survives_restart();
                let command = MarkerCommand::Guard {
                    cluster: info.clone(),
                    started,
                    durable,
                };
                let state = self.link.mark(&command).await?;
                self.driver.seat.learn(&info);
                self.announce(&state);
                Judged::Serving(info)
            }
            Admission::Uninitialised => {
                // Another node may name the cluster soon, or an init be on its way.
                self.judge = true;
                Judged::Uninitialised
            }
            Admission::Refuse(problem) => {
                self.judge = true;
                self.refused = Some(Fault::unsent(FaultKind::Misconfigured, problem.as_str()));
                Judged::Refused(problem)
            }
        };
        for answer in self.asked.drain(..) {
            let _ = answer.send(judged.clone());
        }
        self.driver.judged.send_replace(Some(judged));
        Ok(())
    }

    fn announce(&self, state: &MarkerState) {
        let (node, observer) = (&self.driver.id, &self.driver.seat.observer);
        let facts = &self.link.facts;
        let warnings = facts.warnings();
        observer.event(&Event::NodeUp {
            node,
            version: &facts.version,
            warnings: &warnings,
        });
        let from = state.marker.as_ref().map(|marker| marker.voting_from);
        if let Some(from) = from.filter(|from| *from > state.time) {
            let remaining = Some(from.saturating_since(state.time));
            observer.event(&Event::NodeGuarded { node, remaining });
        }
    }
}

fn not_refused() -> Fault {
    Fault::unsent(FaultKind::Misconfigured, "")
}
