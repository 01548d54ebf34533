//! `everlock lock KEY -- COMMAND`: a command that runs only while its lock is held.
//!
//! Processes: this one holds the lock and looks after the command; `stage` is the command before
//! it begins; the `warden` ends it should this process be killed or stopped.

mod child;
mod keeping;
mod progress;
mod run;
mod signals;
mod stage;
mod terminal;
mod warden;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{ArgMatches, Args, ValueEnum};
use everlock::OwnerId;
use everlock::clock::{Clock as _, SystemClock};
use everlock::protocol::MAX_MAX_LEASE;
use rustix::process::{Pid, Signal};

use self::child::{Child, Ending};
use self::keeping::Keeping;
use self::progress::Progress;
use self::run::{Over, Run};
use self::signals::{News, Signals};
pub(super) use self::stage::{StageArgs, run as stage};
use self::terminal::Terminal;
use self::warden::Warden;
pub(super) use self::warden::{WardenArgs, run as warden};
use super::hold_args::{self, RetryArgs};
use super::way::{Chosen, Failure, Hold, Lock, NOT_HELD, Wanted, Way, WayArgs, Won};
use super::{complain, failed, misconfigured, parsed};
use crate::config::{self, shown};

/// Renewed every five seconds, given up at ten, over at fifteen; and so long the lock stays when
/// the machine dies.
const DEFAULT_LEASE: &str = "15s";
/// Below this, no process can be told, and end, in time.
const LEAST_LEASE: Duration = Duration::from_secs(1);
/// As long as supervisors commonly give, or a third of the lease: the rest is for renewals.
const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(5);
/// A longer grace than half of the lease would leave no time to renew in.
const MOST_OF_LEASE: u32 = 2;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IfHeld {
    /// Exit with 0, without running the command
    Skip,
    /// Exit with 75
    Fail,
}

#[derive(Args)]
pub(super) struct LockArgs {
    /// What to lock: any text of 1 to 512 bytes
    #[arg(value_parser = hold_args::key)]
    key: String,
    /// The command, with its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    command: Vec<OsString>,
    /// How long the lock is held unless it is renewed, which is done while the command runs
    #[arg(long, value_name = "TIME", default_value = DEFAULT_LEASE, value_parser = lease)]
    lease: Duration,
    /// How long to wait while others hold it; 0s tries once. Without end unless it is given, or 0s
    /// with --if-held
    #[arg(long, value_name = "TIME", value_parser = hold_args::wait)]
    wait: Option<Duration>,
    /// What to do when others hold it until the wait is over [default: fail]
    #[arg(long, value_name = "WHAT")]
    if_held: Option<IfHeld>,
    /// The time from TERM to KILL when the lock is about to be lost: up to half of the lease
    /// [default: 5s, or a third of the lease]
    #[arg(long, value_name = "TIME", value_parser = grace)]
    kill_after: Option<Duration>,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    way: WayArgs,
}

fn lease(text: &str) -> Result<Duration, String> {
    config::duration(text, LEAST_LEASE, MAX_MAX_LEASE)
}

fn grace(text: &str) -> Result<Duration, String> {
    config::duration(text, Duration::ZERO, MAX_MAX_LEASE / MOST_OF_LEASE)
}

/// What is to be done, within its bounds.
struct Session {
    lock: Lock,
    wanted: Wanted,
    command: Vec<OsString>,
    kill_after: Duration,
    if_held: IfHeld,
    underway: Underway,
}

/// What a panic must not leave behind.
#[derive(Clone, Default)]
struct Underway {
    held: Arc<Mutex<Option<Held>>>,
    group: Arc<Mutex<Option<Pid>>>,
}

/// A lock, and the way to release it.
type Held = (Arc<Way>, Hold);

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let args: LockArgs = parsed(matches);
    let most = args.lease / MOST_OF_LEASE;
    let kill_after = args
        .kill_after
        .unwrap_or_else(|| DEFAULT_KILL_AFTER.min(args.lease / 3));
    if kill_after > most {
        return misconfigured(&[format!(
            "--kill-after is {}: it takes 0s to half of --lease, {}",
            shown(kill_after),
            shown(most)
        )]);
    }
    let chosen = match args.way.chosen(matches) {
        Ok(chosen) => chosen,
        Err(problems) => return misconfigured(&problems),
    };
    let session = Session {
        lock: Lock {
            key: args.key,
            uuid: OwnerId::fresh(),
        },
        wanted: Wanted {
            lease: args.lease,
            wait: args.wait.or(args.if_held.map(|_| Duration::ZERO)),
            delay: args.retry.retry_delay,
            jitter: args.retry.retry_jitter,
            fifo: args.retry.fifo,
            patience: args.retry.patience,
        },
        command: args.command,
        kill_after,
        if_held: args.if_held.unwrap_or(IfHeld::Fail),
        underway: Underway::default(),
    };
    // Before any thread: all of them inherit which signals are blocked.
    let terminal = Terminal::find();
    session.supervised(chosen, terminal.as_ref())
}

impl Session {
    /// Runs to the end, and cleans up after a panic.
    fn supervised(self, chosen: Chosen, terminal: Option<&Terminal>) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return failed(&format!("the runtime can't be started: {error}")),
        };
        let underway = self.underway.clone();
        let grace = self.kill_after;
        let work = self.work(chosen, terminal);
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        let end = ended.unwrap_or_else(|_| {
            runtime.block_on(underway.clean_up(grace));
            End::Code(super::way::FAILED)
        });
        runtime.shutdown_background();
        match end {
            End::Code(code) => ExitCode::from(code),
            End::Signal(signal) => die_of(signal),
        }
    }

    async fn work(self, chosen: Chosen, terminal: Option<&Terminal>) -> End {
        let Ok(mut signals) = Signals::listen() else {
            complain(&"signals can't be handled");
            return End::Code(super::way::FAILED);
        };
        let way = match chosen.open(self.wanted.patience).await {
            Ok(way) => Arc::new(way),
            Err(failure) => return self.refused(&failure),
        };
        let won = match self.acquire(&way, &mut signals).await {
            Ok(won) => won,
            Err(end) => return end,
        };
        let hold = won.hold.clone();
        self.underway.hold(Some((Arc::clone(&way), hold.clone())));
        let over = self.keep_and_run(&way, won, &mut signals, terminal).await;
        let released = way.release(&hold).await;
        self.underway.hold(None);
        self.end(over, released)
    }

    /// Waits for the lock, or for a signal that ends the wait.
    async fn acquire(&self, way: &Way, signals: &mut Signals) -> Result<Won, End> {
        let mut progress = Progress::new();
        let ended = {
            let acquiring = way.acquire(&self.lock, &self.wanted);
            let (key, fifo) = (&self.lock.key, self.wanted.fifo);
            let showing = progress.show(way, key, fifo);
            tokio::pin!(acquiring, showing);
            loop {
                tokio::select! {
                    biased;
                    news = signals.next() => match news {
                        News::Stop => stop_here(),
                        news => if let Some(signal) = news.ending() { break Err(signal) },
                    },
                    acquired = &mut acquiring => break Ok(acquired),
                    () = &mut showing => {}
                }
            }
        };
        // The line is cleared before anything else is written.
        drop(progress);
        match ended {
            Ok(acquired) => acquired.map_err(|failure| self.refused(&failure)),
            Err(signal) => {
                way.abandon(&self.lock).await;
                Err(End::Signal(signal))
            }
        }
    }

    /// The command under the lock that was won. Called by the process's first thread.
    async fn keep_and_run(
        &self,
        way: &Arc<Way>,
        won: Won,
        signals: &mut Signals,
        terminal: Option<&Terminal>,
    ) -> Result<Over, String> {
        let keeping = Keeping::start(
            Arc::clone(way),
            won.hold,
            won.valid_until,
            self.wanted.lease,
        );
        let environment = self.environment(won.token);
        let mut warden = Warden::start(self.kill_after)
            .map_err(|error| format!("no process can be started: {error}"))?;
        warden.until(won.valid_until);
        let foreground = terminal.is_some_and(Terminal::is_for_the_command);
        let until = keeping.valid_until() - self.kill_after;
        if SystemClock.now() >= until {
            return Ok(Over::Lost {
                why: "it was won too late to be of use",
                left: false,
            });
        }
        let child = Child::spawn(&self.command, &environment, until, foreground)
            .map_err(|error| format!("the command can't be started: {error}"))?;
        warden.group(child.group());
        let tools = (signals, terminal);
        let group = &self.underway.group;
        let mut run = Run::new(child, keeping, warden, tools, self.kill_after, group);
        Ok(run.until_over().await)
    }

    fn environment(&self, token: Option<u64>) -> [(&'static str, String); 3] {
        [
            ("EVERLOCK_KEY", self.lock.key.clone()),
            ("EVERLOCK_UUID", self.lock.uuid.as_str().to_owned()),
            (
                "EVERLOCK_TOKEN",
                token.map(|token| token.to_string()).unwrap_or_default(),
            ),
        ]
    }

    fn refused(&self, failure: &Failure) -> End {
        if self.if_held == IfHeld::Skip && matches!(failure, Failure::Held { .. }) {
            return End::Code(super::way::DONE);
        }
        complain(failure);
        End::Code(failure.code())
    }

    fn end(&self, over: Result<Over, String>, released: Result<(), Failure>) -> End {
        match over {
            Err(problem) => {
                complain(&problem);
                End::Code(super::way::FAILED)
            }
            Ok(Over::Lost { why, left }) => {
                complain(&format!("the lock is lost: {why}; the command was ended"));
                if left {
                    complain(
                        &"something of the command could not be ended: it runs without a lock",
                    );
                }
                End::Code(NOT_HELD)
            }
            Ok(Over::Ended(ending)) => {
                match released {
                    // It ended with its lease, which the command did not outlive.
                    Ok(()) | Err(Failure::NotHeld(_)) => {}
                    Err(failure) => complain(&format!(
                        "the lock could not be released, and ends within {}: {failure}",
                        shown(self.wanted.lease)
                    )),
                }
                of(ending)
            }
        }
    }
}

/// How everlock itself ends.
#[derive(Clone, Copy)]
enum End {
    Code(u8),
    /// Of this signal, or with 128 and its number.
    Signal(Signal),
}

fn of(ending: Ending) -> End {
    match ending {
        Ending::Code(code) | Ending::Unknown(code) => End::Code(code),
        Ending::Signal(signal) => End::Signal(signal),
    }
}

/// Shells stop their script, and supervisors call it an orderly end, only if a signal was the end.
/// Of others, which write core files or can't be, the number is told.
fn die_of(signal: Signal) -> ExitCode {
    let dies = [Signal::INT, Signal::TERM, Signal::HUP].contains(&signal);
    // A container's first process can't die of a signal of its own.
    if dies && !rustix::process::getpid().is_init() {
        // It comes back only if the signal has no such effect.
        let _ = signal_hook::low_level::emulate_default_handler(signal.as_raw());
    }
    ExitCode::from(u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX))
}

/// Nothing runs yet: everlock alone stops, until it is told to go on.
fn stop_here() {
    if Terminal::has_job_control() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
    }
}

/// This program, whatever became of its file meanwhile.
fn itself() -> io::Result<Command> {
    let linux = std::path::Path::new("/proc/self/exe");
    let mut command = if linux.exists() {
        Command::new(linux)
    } else {
        Command::new(std::env::current_exe()?)
    };
    command.arg0("everlock");
    Ok(command)
}

impl Underway {
    fn hold(&self, held: Option<Held>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// After a panic: the warden, which was not told that all is well, ends the command, and then
    /// the lock is released.
    async fn clean_up(&self, grace: Duration) {
        let group = self
            .group
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let held = self
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(group) = group {
            run::until_gone(group, grace).await;
        }
        if let Some((way, hold)) = held {
            // It panics already: there is nothing more to say.
            let _ = way.release(&hold).await;
        }
    }
}
