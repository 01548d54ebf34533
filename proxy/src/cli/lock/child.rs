//! The command: a process group of its own, whose leader is our child.
//!
//! Invariant: no signal is sent to the group after its leader was collected, unless the group was
//! seen to have members still.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;

use everlock::clock::Moment;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process_group, test_kill_process_group, wait,
};

use super::itself;
use super::warden::nanos;
use crate::cli::way::FAILED;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Code(u8),
    Signal(Signal),
    /// Of a signal without a name, or in a way that nobody could see.
    Unknown(u8),
}

/// What the command did.
pub(super) enum Change {
    Ended(Ending),
    Stopped(Signal),
}

pub(super) struct Child {
    group: Pid,
    ended: Option<Ending>,
}

impl Child {
    /// Starts the command. To be called by the thread that lives as long as the process, since the
    /// kernel takes the end of that thread for the parent's end.
    pub(super) fn spawn(
        command: &[OsString],
        environment: &[(&str, String)],
        until: Moment,
        foreground: bool,
    ) -> io::Result<Self> {
        // What the command leaves behind becomes our child when its own parent has gone, and is
        // collected; else, without an init in a container, the group would never be seen to end.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::set_child_subreaper(Some(getpid()));
        let mut stage = itself()?;
        stage
            .arg("lock-stage")
            .arg("--parent")
            .arg(getpid().as_raw_nonzero().to_string())
            .arg("--until")
            .arg(nanos(until).to_string());
        if foreground {
            stage.arg("--foreground");
        }
        let child = stage
            .arg("--")
            .args(command)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .process_group(0)
            .spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self {
            group: pid.expect("a process id is a positive number"),
            ended: None,
        })
    }

    pub(super) const fn group(&self) -> Pid {
        self.group
    }

    pub(super) const fn ended(&self) -> Option<Ending> {
        self.ended
    }

    /// Tells the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        if self.ended.is_none() || self.has_members() {
            // Somebody else's rights (a command that became root) can't be mended here.
            let _ = kill_process_group(self.group, signal);
        }
    }

    /// Whether anybody of the group is there still.
    pub(super) fn has_members(&self) -> bool {
        !matches!(test_kill_process_group(self.group), Err(Errno::SRCH))
    }

    /// What happened since it was asked last. Others who became our children are collected, too.
    pub(super) fn change(&mut self) -> Option<Change> {
        loop {
            let status = match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) if pid == self.group => status,
                Ok(Some(_)) | Err(Errno::INTR) => continue,
                // Somebody collected it for us.
                Err(_) if self.ended.is_none() => return Some(self.end(Ending::Unknown(FAILED))),
                Ok(None) | Err(_) => return None,
            };
            if let Some(signal) = status.stopping_signal() {
                let signal = Signal::from_named_raw(signal).unwrap_or(Signal::STOP);
                return Some(Change::Stopped(signal));
            }
            if let Some(code) = status.exit_status() {
                let code = u8::try_from(code).unwrap_or(u8::MAX);
                return Some(self.end(Ending::Code(code)));
            }
            let raw = status.terminating_signal()?;
            let ending = Signal::from_named_raw(raw).map_or_else(
                || Ending::Unknown(u8::try_from(128 + raw).unwrap_or(u8::MAX)),
                Ending::Signal,
            );
            return Some(self.end(ending));
        }
    }

    fn end(&mut self, ending: Ending) -> Change {
        self.ended = Some(ending);
        Change::Ended(ending)
    }
}
