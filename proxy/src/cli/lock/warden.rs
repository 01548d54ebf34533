//! A small process beside everlock that ends the command when everlock itself can't.
//!
//! It is told, over a pipe, which group to end and until when the lock may be relied on. When the
//! pipe closes without a word, everlock was killed: the group gets TERM, and KILL when its grace or
//! the validity is over. When the validity ends and everlock did nothing, it was stopped: KILL.
//! Invariant: it ends no group before it was told of it, and none after it was told `done`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use clap::{ArgMatches, Args};
use everlock::clock::{Clock as _, Moment, SystemClock};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

use super::itself;
use crate::cli::parsed;

/// How often the clock is looked at: timers stand still while the machine is suspended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines that nobody has looked at yet.
const UNREAD: usize = 16;
/// How long its end is waited for.
const END_WITHIN: Duration = Duration::from_secs(1);
const END_LOOK: Duration = Duration::from_millis(5);

#[derive(Args)]
pub(in crate::cli) struct WardenArgs {
    /// The time from TERM to KILL, in milliseconds
    #[arg(long)]
    grace: u64,
}

/// everlock's end of the pipe.
pub(super) struct Warden {
    process: Child,
    told_until: Option<Moment>,
}

impl Warden {
    pub(super) fn start(grace: Duration) -> std::io::Result<Self> {
        let process = itself()?
            .arg("lock-warden")
            .arg("--grace")
            .arg(grace.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(pipe) = &process.stdin {
            // One that does not read must not hold up everlock.
            fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        Ok(Self {
            process,
            told_until: None,
        })
    }

    /// Until when the lock may be relied on.
    pub(super) fn until(&mut self, until: Moment) {
        if self.told_until != Some(until) {
            self.told_until = Some(until);
            self.tell(&format!("until {}", nanos(until)));
        }
    }

    /// What to end.
    pub(super) fn group(&mut self, group: Pid) {
        self.tell(&format!("group {}", group.as_raw_nonzero()));
    }

    fn tell(&mut self, line: &str) {
        // One that was killed can't be told; everlock goes on without it.
        if let Some(pipe) = &mut self.process.stdin {
            let _ = writeln!(pipe, "{line}");
        }
    }
}

/// There is nothing to end any more; unless everlock panics, which is left to the warden then.
impl Drop for Warden {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.tell("done");
        drop(self.process.stdin.take());
        let until = SystemClock.now() + END_WITHIN;
        while matches!(self.process.try_wait(), Ok(None)) && SystemClock.now() < until {
            std::thread::sleep(END_LOOK);
        }
    }
}

pub(super) fn nanos(moment: Moment) -> u64 {
    u64::try_from(moment.since_origin().as_nanos()).unwrap_or(u64::MAX)
}

enum Word {
    Until(Moment),
    Group(Pid),
    Done,
}

impl Word {
    fn read(line: &str) -> Option<Self> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "until" => {
                let until = Duration::from_nanos(rest.parse().ok()?);
                Some(Self::Until(Moment::from_origin(until)))
            }
            "group" => Some(Self::Group(Pid::from_raw(rest.parse().ok()?)?)),
            "done" => Some(Self::Done),
            _ => None,
        }
    }
}

/// The warden's own life.
pub(in crate::cli) fn run(matches: &ArgMatches) -> ExitCode {
    let WardenArgs { grace } = parsed(matches);
    // Out of the terminal's reach, and of whoever signals everlock's group.
    let _ = rustix::process::setsid();
    // Whoever wants to unmount this directory has nothing to fear from us.
    let _ = std::env::set_current_dir("/");
    let (sender, words) = sync_channel(UNREAD);
    std::thread::spawn(move || {
        let lines = BufReader::new(std::io::stdin()).lines();
        for word in lines
            .map_while(Result::ok)
            .filter_map(|line| Word::read(&line))
        {
            if sender.send(word).is_err() {
                return;
            }
        }
    });
    watch(&words, Duration::from_millis(grace));
    ExitCode::SUCCESS
}

fn watch(words: &Receiver<Word>, grace: Duration) {
    let (mut until, mut group) = (None, None);
    loop {
        match words.recv_timeout(LOOK_EVERY) {
            Ok(Word::Until(later)) => until = Some(later),
            Ok(Word::Group(told)) => group = Some(told),
            Ok(Word::Done) => return,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if let (Some(over), Some(group)) = (until.filter(|until| is_over(*until)), group) {
            let _ = kill_process_group(group, Signal::KILL);
            // Again only if it is told of a later end.
            until = until.filter(|until| *until > over);
        }
    }
    let Some(group) = group else { return };
    let ends = SystemClock.now() + grace;
    let ends = until.map_or(ends, |until| ends.min(until));
    let _ = kill_process_group(group, Signal::TERM);
    let _ = kill_process_group(group, Signal::CONT);
    while !is_over(ends) {
        // The group is gone.
        if rustix::process::test_kill_process_group(group).is_err() {
            return;
        }
        std::thread::sleep(END_LOOK.max(ends.saturating_since(SystemClock.now()).min(LOOK_EVERY)));
    }
    let _ = kill_process_group(group, Signal::KILL);
}

fn is_over(moment: Moment) -> bool {
    SystemClock.now() >= moment
}
