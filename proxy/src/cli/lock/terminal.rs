//! Whose turn it is at the terminal.
//!
//! The command has a process group of its own, so that all of it can be ended. Where a shell started
//! everlock alone, the command gets the terminal from the beginning, as a shell gives it to a job.
//! In a pipeline or a script it stays with the others there until the command asks for it: by
//! reading, for which the kernel stops it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::fs::{FileType, fstat};
use rustix::process::{Pid, getpgid, getpgrp, getpid, getppid, getsid};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

/// The terminal that controls this session.
pub(super) struct Terminal {
    tty: File,
    /// Whether no other process shares everlock's own group.
    alone: bool,
}

impl Terminal {
    /// The terminal, if there is one.
    pub(super) fn find() -> Option<Self> {
        let tty = open().ok()?;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let piped = is_pipe(stdin.as_fd()) || is_pipe(stdout.as_fd()) || is_pipe(stderr.as_fd());
        Some(Self {
            tty,
            alone: getpid() == getpgrp() && !piped,
        })
    }

    /// Whether the command gets the terminal when it starts.
    pub(super) fn is_for_the_command(&self) -> bool {
        self.alone && self.is_ours()
    }

    pub(super) const fn is_shared(&self) -> bool {
        !self.alone
    }

    /// Whether everlock's own group is in the foreground.
    pub(super) fn is_ours(&self) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|group| group == getpgrp())
    }

    /// Whether this group is in the foreground.
    pub(super) fn is_of(&self, group: Pid) -> bool {
        tcgetpgrp(&self.tty).is_ok_and(|front| front == group)
    }

    /// Puts a group in the foreground.
    pub(super) fn give(&self, group: Pid) {
        put_in_front(&self.tty, group);
    }

    /// Puts everlock's own group in the foreground, if the command's is.
    pub(super) fn take_from(&self, group: Pid) {
        if self.is_of(group) {
            self.give(getpgrp());
        }
    }

    /// Whether a shell is there that can let a stopped job go on.
    pub(super) fn has_job_control() -> bool {
        let Some(parent) = getppid() else {
            return false;
        };
        let same_session = match (getsid(None), getsid(Some(parent))) {
            (Ok(ours), Ok(theirs)) => ours == theirs,
            _ => false,
        };
        let leads = getsid(None).is_ok_and(|leader| leader == getpgrp());
        same_session && !leads && getpgid(Some(parent)).is_ok()
    }
}

/// Puts the caller's group in the foreground: for a command before it begins.
pub(super) fn step_forward() {
    if let Ok(tty) = open() {
        put_in_front(&tty, getpgrp());
    }
}

fn open() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/tty")
}

/// Who does this from the background is stopped, unless the signal is blocked. It is for this moment
/// only: the command would inherit that. What fails here shows in what the terminal does next.
fn put_in_front(tty: &File, group: Pid) {
    let mut stops = SigSet::empty();
    stops.add(Signal::SIGTTOU);
    let before = stops.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let _ = tcsetpgrp(tty, group);
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
}

fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        matches!(kind, FileType::Fifo | FileType::Socket)
    })
}
