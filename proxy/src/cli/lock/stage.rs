//! What stands between everlock and the command for a moment: the same process, before it becomes
//! the command.
//!
//! It says what only a process can say of itself, in safe code: that it wants to be ended with its
//! parent, and that its group is in the foreground. And it looks at the clock a last time.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{ArgMatches, Args};
use everlock::clock::{Clock as _, Moment, SystemClock};
use rustix::process::getppid;

use super::terminal;
use crate::cli::way::NOT_HELD;
use crate::cli::{complain, parsed};

/// As shells and `env` have it: there is no such command.
const NO_SUCH_COMMAND: u8 = 127;
/// And: there is one that can't be executed.
const NOT_EXECUTABLE: u8 = 126;

#[derive(Args)]
pub(in crate::cli) struct StageArgs {
    /// The process that must be there
    #[arg(long)]
    parent: i32,
    /// Until when the lock may be relied on, in nanoseconds of the clock
    #[arg(long)]
    until: u64,
    /// Take the terminal
    #[arg(long)]
    foreground: bool,
    #[arg(trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
}

pub(in crate::cli) fn run(matches: &ArgMatches) -> ExitCode {
    let args: StageArgs = parsed(matches);
    // TERM, not KILL: the warden sees to the rest, in its time.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let parent = getppid().map_or(0, rustix::process::Pid::as_raw_pid);
    if parent != args.parent {
        return ExitCode::from(NOT_HELD);
    }
    if args.foreground {
        terminal::step_forward();
    }
    let until = Moment::from_origin(Duration::from_nanos(args.until));
    if SystemClock.now() >= until {
        return ExitCode::from(NOT_HELD);
    }
    let (program, rest) = args.command.split_first().expect("clap demands one");
    let error = Command::new(program).args(rest).exec();
    complain(&format!("{}: {error}", program.display()));
    ExitCode::from(match error.kind() {
        io::ErrorKind::NotFound => NO_SUCH_COMMAND,
        _ => NOT_EXECUTABLE,
    })
}
