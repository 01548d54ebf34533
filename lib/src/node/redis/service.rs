//! One connection's service: commands out, replies back, and a watch on both.
//!
//! Invariant: every command that is taken is answered: with its reply, or, when
//! the service ends, by the drop of its slot.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use redis::{Pipeline, Value};
use tokio::sync::oneshot;

use super::connection::Link;
use super::driver::{Driver, End, Job};
use super::looking::{Looked, look};
use super::parcels::{Parcel, pack};
use super::{calls, faults, replies};
use crate::clock::Moment;
use crate::core::command::Command;
use crate::core::marker::MarkerState;
use crate::core::quorum::{Fault, FaultKind};
use crate::node::{Ballot, Judged, ReplySlot};
use crate::observer::Event;

/// Commands that may be on their way to the server at once.
const MAX_IN_FLIGHT: usize = 1_024;
/// Commands that travel together at most.
const MAX_BATCH: usize = 128;
/// Commands wait this long for what is under way, to travel together after it.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// How often a quiet connection is looked after.
const TICK: Duration = Duration::from_millis(250);
/// Servers are looked at this often: their settings may change while they run, their
/// persistence above all.
const REJUDGE_TICKS: u32 = 20;
/// Quiet connections are used this often, so that a dead one is noticed, and a
/// server's idle timeout never strikes.
const HEARTBEAT_TICKS: u32 = 4;

/// A command that was sent.
struct Sent {
    command: Command,
    slot: ReplySlot,
    reloaded: bool,
}

/// What came back of commands that travelled together.
struct Returned {
    parcels: Vec<Parcel<Sent>>,
    result: redis::RedisResult<Vec<Value>>,
    number: u64,
}

/// One connection's service.
pub(super) struct Service<'a> {
    driver: &'a mut Driver,
    link: Link,
    in_flight: FuturesUnordered<BoxFuture<'static, Returned>>,
    /// When each batch that is under way was sent, oldest first.
    sent_at: VecDeque<(u64, Moment)>,
    commands_in_flight: usize,
    next_number: u64,
    quiet_ticks: u32,
    ticks: u32,
    /// What was told of the server last, so that only news are told.
    announced: Option<Vec<String>>,
    /// Why commands can't be served although the server answers.
    refused: Option<Fault>,
    /// Whether the server must be judged (again).
    judge: bool,
    /// The look that is under way.
    looking: Option<BoxFuture<'static, Result<Looked, Fault>>>,
    /// Who asked before it began, and is told what it gives.
    hearers: Vec<oneshot::Sender<Judged>>,
    /// Who asked since, and is told what the next one gives.
    asked: Vec<oneshot::Sender<Judged>>,
}

impl<'a> Service<'a> {
    pub(super) fn new(driver: &'a mut Driver, link: Link) -> Self {
        Self {
            driver,
            link,
            in_flight: FuturesUnordered::new(),
            sent_at: VecDeque::new(),
            commands_in_flight: 0,
            next_number: 0,
            quiet_ticks: 0,
            ticks: 0,
            announced: None,
            refused: None,
            judge: true,
            looking: None,
            hearers: Vec::new(),
            asked: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) -> End {
        match self.serve().await {
            Ok(()) => End::Dropped,
            Err(fault) => End::Broken(fault),
        }
    }

    async fn serve(&mut self) -> Result<(), Fault> {
        // Before it was judged no command travels.
        self.begin_look();
        let looked = seen(&mut self.looking).await?;
        self.conclude(looked);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let has_room = self.commands_in_flight < MAX_IN_FLIGHT;
            let kept = !self.driver.early.is_empty();
            // A timer costs a system call: none is set while nobody waits for it.
            let pause = if kept { self.pause() } else { Duration::ZERO };
            if kept && has_room && pause.is_zero() {
                let batch = self.gather();
                self.accept(batch);
                if !self.asked.is_empty() {
                    self.begin_look();
                }
                continue;
            }
            tokio::select! {
                biased;
                Some(returned) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    self.take_back(returned).await?;
                }
                looked = seen(&mut self.looking), if self.looking.is_some() => {
                    self.conclude(looked?);
                }
                () = tokio::time::sleep(pause), if !pause.is_zero() => {}
                // Before the jobs, which may never end.
                _ = ticks.tick() => self.tick()?,
                job = self.driver.jobs.recv(), if has_room && !kept => match job {
                    // It is the driver's to answer, should the connection end.
                    Some(job) => self.driver.early.push_back(job),
                    None => return Ok(()),
                },
            }
        }
    }

    /// For how long what comes is kept back, so that it travels together: while
    /// something is under way, and no longer than a short while.
    fn pause(&self) -> Duration {
        let Some((_, last)) = self.sent_at.back() else {
            return Duration::ZERO;
        };
        let since = self.driver.seat.clock.now().saturating_since(*last);
        LONGEST_PAUSE.saturating_sub(since)
    }

    /// The jobs that wait already, so that they travel together.
    fn gather(&mut self) -> Vec<Job> {
        let mut jobs: Vec<_> = self.driver.early.drain(..).collect();
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
                Job::Command { command, slot, .. } => match &self.refused {
                    Some(fault) => slot.fail(fault.clone()),
                    None => batch.push(Sent {
                        command,
                        slot,
                        reloaded: false,
                    }),
                },
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
        self.send_parcels(pack(sent, |sent| &sent.command));
    }

    fn send_parcels(&mut self, mut parcels: Vec<Parcel<Sent>>) {
        let mut pipeline = Pipeline::with_capacity(parcels.len());
        for Parcel { items } in &mut parcels {
            let together = items.len();
            self.commands_in_flight += together;
            for sent in items.iter_mut() {
                sent.slot.sent(together);
            }
            let commands: Vec<_> = items.iter().map(|sent| &sent.command).collect();
            pipeline.add_command(calls::call(&commands, &self.link.facts.run_id));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.sent_at
            .push_back((number, self.driver.seat.clock.now()));
        let mut link = self.link.clone();
        self.in_flight.push(Box::pin(async move {
            let result = link.send(&pipeline).await;
            Returned {
                parcels,
                result,
                number,
            }
        }));
    }

    async fn take_back(&mut self, returned: Returned) -> Result<(), Fault> {
        let Returned {
            parcels,
            result,
            number,
        } = returned;
        for parcel in &parcels {
            self.commands_in_flight -= parcel.items.len();
        }
        self.sent_at.retain(|(other, _)| *other != number);
        self.quiet_ticks = 0;
        let values = match result {
            Ok(values) => values,
            Err(error) => {
                let fault = faults::of_reply(&error);
                for sent in parcels.into_iter().flat_map(|parcel| parcel.items) {
                    sent.slot.fail(fault.clone());
                }
                return if faults::breaks_connection(&error) {
                    Err(fault)
                } else {
                    Ok(())
                };
            }
        };
        let (mut unknown, mut alone) = (Vec::new(), Vec::new());
        for (Parcel { items }, value) in parcels.into_iter().zip(values) {
            if calls::wants_script(&value) && items.iter().all(|sent| !sent.reloaded) {
                let reloaded = true;
                unknown.extend(items.into_iter().map(|sent| Sent { reloaded, ..sent }));
                continue;
            }
            if items.len() > 1 && calls::was_not_permitted(&value) {
                // One of the keys, and nobody says which: the others must not pay for it.
                alone.extend(items.into_iter().map(|sent| Parcel { items: vec![sent] }));
                continue;
            }
            let answers = replies::answers(value, items.iter().map(|sent| &sent.command));
            for (sent, (reply, judge)) in items.into_iter().zip(answers) {
                self.judge |= judge;
                sent.slot.reply(reply);
            }
        }
        if !unknown.is_empty() {
            self.link.load_scripts().await?;
            self.send(unknown);
        }
        if !alone.is_empty() {
            self.send_parcels(alone);
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Fault> {
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
        self.ticks = self.ticks.wrapping_add(1);
        self.judge |= self.ticks.is_multiple_of(REJUDGE_TICKS);
        if self.judge {
            self.begin_look();
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

    /// Begins to look at the server, if nobody does: at the start, and whenever a script says
    /// that its marker is wrong. Who asks while that is under way hears of the next look.
    fn begin_look(&mut self) {
        if self.looking.is_none() {
            self.judge = false;
            self.hearers = std::mem::take(&mut self.asked);
            let look = look(self.link.clone(), self.driver.seat.clone());
            self.looking = Some(Box::pin(look));
        }
    }

    /// Takes what was seen for true.
    fn conclude(&mut self, looked: Looked) {
        let Looked {
            facts,
            judged,
            marker,
        } = looked;
        self.link.facts = facts;
        if let Some(state) = marker {
            self.announce(&state);
        }
        // What keeps it from serving may change, or another node name the cluster.
        self.judge |= !matches!(judged, Judged::Serving(_));
        self.refused = None;
        if let Judged::Refused(why) = &judged {
            let fault = Fault::unsent(FaultKind::Misconfigured, why.as_str());
            self.driver.tell_down(&fault);
            // Once it serves again, that is news.
            (self.announced, self.refused) = (None, Some(fault));
        }
        for answer in self.hearers.drain(..) {
            let _ = answer.send(judged.clone());
        }
        self.driver.judged.send_replace(Some(judged));
        if !self.asked.is_empty() {
            self.begin_look();
        }
    }

    /// Tells that the node is up, unless that is known, and that it is guarded.
    fn announce(&mut self, state: &MarkerState) {
        let (node, observer) = (&self.driver.id, &self.driver.seat.observer);
        let facts = &self.link.facts;
        let warnings = facts.warnings();
        let from = state.marker.as_ref().map(|marker| marker.voting_from);
        let guarded = from.filter(|from| *from > state.time);
        if self.announced.as_ref() != Some(&warnings) {
            observer.event(&Event::NodeUp {
                node,
                version: &facts.version,
                warnings: &warnings,
            });
            self.announced = Some(warnings);
        }
        if let Some(from) = guarded {
            observer.event(&Event::NodeGuarded {
                node,
                remaining: Some(from.saturating_since(state.time)),
                cause: state.marker.as_ref().and_then(|marker| marker.cause),
            });
        }
    }
}

/// What the look that is under way gives, which then is over. Dropping this leaves it under way.
async fn seen(
    looking: &mut Option<BoxFuture<'static, Result<Looked, Fault>>>,
) -> Result<Looked, Fault> {
    let Some(look) = looking else {
        return std::future::pending().await;
    };
    let looked = look.await;
    *looking = None;
    looked
}
