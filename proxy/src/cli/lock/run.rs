//! The command under its lock, from start to end: `Running => (Ending =>) Over`.
//!
//! Invariant: whatever is waited for, the clock is looked at first. The group gets TERM in time for
//! its grace to end with the lock's validity, and KILL when the validity ends at the latest.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everlock::LossReason;
use everlock::clock::{Clock as _, Moment, SystemClock};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_current_process_group, kill_process, kill_process_group,
    test_kill_process_group, waitpid,
};

use super::child::{Change, Child, Ending};
use super::keeping::Keeping;
use super::signals::{News, Signals};
use super::terminal::Terminal;
use super::warden::Warden;

/// How often the clock is looked at: timers stand still while the machine is suspended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A group that is not gone so long after KILL hangs in the kernel: nothing more can be done.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How it went.
pub(super) enum Over {
    /// The command ended under its lock.
    Ended(Ending),
    /// The lock was lost, or was about to be, and the command was ended.
    Lost {
        why: &'static str,
        /// Whether somebody of the group may be there still.
        left: bool,
    },
}

/// Why the command is being ended.
struct Stopping {
    why: &'static str,
    kill_at: Moment,
    killed_at: Option<Moment>,
}

pub(super) struct Run<'a> {
    child: Child,
    keeping: Keeping,
    warden: Warden,
    signals: &'a mut Signals,
    terminal: Option<&'a Terminal>,
    kill_after: Duration,
    lost: Option<LossReason>,
    stopping: Option<Stopping>,
    /// The group that a panic has to end.
    guarded: Arc<Mutex<Option<Pid>>>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        child: Child,
        keeping: Keeping,
        warden: Warden,
        (signals, terminal): (&'a mut Signals, Option<&'a Terminal>),
        kill_after: Duration,
        guarded: &Arc<Mutex<Option<Pid>>>,
    ) -> Self {
        *guarded.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.group());
        Self {
            child,
            keeping,
            warden,
            signals,
            terminal,
            kill_after,
            lost: None,
            stopping: None,
            guarded: Arc::clone(guarded),
        }
    }

    /// Waits for the end of the command, and sees to it if the lock is lost.
    pub(super) async fn until_over(&mut self) -> Over {
        loop {
            #[cfg(feature = "test-util")]
            panic_if_asked();
            self.look();
            if let Some(over) = self.over() {
                if let Some(terminal) = self.terminal {
                    terminal.take_from(self.child.group());
                }
                *self.guarded.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return over;
            }
            let pause = self.pause();
            tokio::select! {
                biased;
                reason = self.keeping.lost(), if self.lost.is_none() => self.lost = Some(reason),
                news = self.signals.next() => self.hear(news),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What became of the command, and what the clock says.
    fn look(&mut self) {
        // Before the clock is read: everlock may stop in here, and what it finds when it goes on is
        // in time only if the validity has not ended by then.
        self.collect();
        let now = SystemClock.now();
        let valid_until = self.keeping.valid_until();
        if self.lost.is_none() {
            self.warden.until(valid_until);
        }
        if self.stopping.is_none() {
            let why = match self.lost {
                Some(LossReason::Gone) => Some("it is not held any more"),
                Some(_) => Some("its validity ended"),
                None if now >= valid_until => Some("its validity ended"),
                None if now + self.kill_after >= valid_until => Some("it can't be renewed"),
                None => None,
            };
            if let Some(why) = why {
                self.stop(why, now, valid_until);
            }
        }
        if let Some(stopping) = &mut self.stopping
            && stopping.killed_at.is_none()
            && now >= stopping.kill_at
        {
            stopping.killed_at = Some(now);
            self.child.signal(Signal::KILL);
        }
    }

    /// Running => Ending.
    fn stop(&mut self, why: &'static str, now: Moment, valid_until: Moment) {
        // It ended in time.
        if now < valid_until && self.child.ended().is_some() {
            return;
        }
        self.stopping = Some(Stopping {
            why,
            kill_at: (now + self.kill_after).min(valid_until),
            killed_at: None,
        });
        if now < valid_until {
            self.child.signal(Signal::TERM);
            // One that is stopped would not hear it.
            self.child.signal(Signal::CONT);
        }
    }

    fn over(&self) -> Option<Over> {
        let ending = self.child.ended();
        let Some(stopping) = &self.stopping else {
            return ending.map(Over::Ended);
        };
        let left = ending.is_none() || self.child.has_members();
        let hangs = stopping
            .killed_at
            .is_some_and(|at| SystemClock.now() >= at + GONE_WITHIN);
        (!left || hangs).then_some(Over::Lost {
            why: stopping.why,
            left,
        })
    }

    /// For how long nothing needs to be looked at.
    fn pause(&self) -> Duration {
        let next = match &self.stopping {
            None => self.keeping.valid_until() - self.kill_after,
            Some(stopping) if stopping.killed_at.is_none() => stopping.kill_at,
            Some(_) => return Duration::from_millis(5),
        };
        let pause = next.saturating_since(SystemClock.now()).min(LOOK_EVERY);
        // Who waits for the rest of a group is told by nobody.
        if self.child.ended().is_some() {
            pause.min(Duration::from_millis(20))
        } else {
            pause
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Pass(signal) => self.child.signal(signal),
            News::Stop => self.child.signal(Signal::TSTP),
            News::Continued => self.go_on(),
            News::Child => self.collect(),
        }
    }

    fn collect(&mut self) {
        while let Some(change) = self.child.change() {
            match change {
                Change::Stopped(signal) => self.stopped(signal),
                Change::Ended(Ending::Signal(Signal::INT)) => self.interrupt_the_rest(),
                Change::Ended(_) => {}
            }
        }
    }

    /// The command stopped, and everlock with it, if it was the terminal's doing.
    fn stopped(&mut self, signal: Signal) {
        let group = self.child.group();
        let Some(terminal) = self.terminal else {
            return;
        };
        let wants = matches!(signal, Signal::TTIN | Signal::TTOU);
        if wants && terminal.is_ours() {
            terminal.give(group);
            self.child.signal(Signal::CONT);
            return;
        }
        if signal == Signal::STOP || self.stopping.is_some() {
            return;
        }
        if wants && terminal.is_of(group) {
            // It was given the terminal meanwhile.
            self.child.signal(Signal::CONT);
            return;
        }
        if !Terminal::has_job_control() {
            // Nobody could ever let it go on.
            self.child.signal(Signal::CONT);
            return;
        }
        let held = terminal.is_of(group);
        terminal.take_from(group);
        // Others of a pipeline or a script did not see the key if the command had the terminal.
        let stopped = if held && terminal.is_shared() {
            kill_current_process_group(Signal::STOP)
        } else {
            kill_process(getpid(), Signal::STOP)
        };
        if stopped.is_err() {
            self.child.signal(Signal::CONT);
        }
    }

    /// everlock goes on after a stop. The command does if it has its lock still.
    fn go_on(&mut self) {
        self.look();
        if self.stopping.is_some() {
            return;
        }
        let group = self.child.group();
        if let Some(terminal) = self
            .terminal
            .filter(|terminal| terminal.is_for_the_command())
        {
            terminal.give(group);
        }
        self.child.signal(Signal::CONT);
    }

    /// A script whose command had the terminal is interrupted with it, as if there had been no
    /// group in between.
    fn interrupt_the_rest(&self) {
        let group = self.child.group();
        if let Some(terminal) = self.terminal
            && terminal.is_shared()
            && terminal.is_of(group)
        {
            terminal.take_from(group);
            let _ = kill_current_process_group(Signal::INT);
        }
    }
}

/// What a fault of ours would do, for a test of what is left behind.
#[cfg(feature = "test-util")]
fn panic_if_asked() {
    let file = std::env::var_os("EVERLOCK_TEST_PANIC");
    let asked = file.is_some_and(|file| std::path::Path::new(&file).exists());
    assert!(!asked, "a test asked for it");
}

/// Waits for the warden to end a group, and does it itself if that takes too long.
pub(super) async fn until_gone(group: Pid, grace: Duration) {
    let until = SystemClock.now() + grace + LOOK_EVERY * 5;
    while test_kill_process_group(group).is_ok() && SystemClock.now() < until {
        // The leader is ours to collect.
        let _ = waitpid(Some(group), WaitOptions::NOHANG);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let _ = kill_process_group(group, Signal::KILL);
}
