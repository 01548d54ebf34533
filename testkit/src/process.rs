//! A program under test: its output line by line, its signals, its exit status.
//!
//! Output is read by threads of its own, so a chatty program never blocks on a full pipe, and
//! waiting is asynchronous, so that a test can meanwhile play the program's peers in the same
//! runtime.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::wait::eventually;

/// A program that prints more than this is not read by a test any more, only drained.
const MAX_LINES: usize = 100_000;

/// The last lines reach us right after the exit, unless a grandchild holds the pipe.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Stdout,
    Stderr,
}

type Lines = Arc<Mutex<Vec<(Source, String)>>>;

/// A running program; dropping it kills it.
#[derive(Debug)]
pub struct ProcessUnderTest {
    child: Child,
    lines: Lines,
    readers: [JoinHandle<()>; 2],
}

impl ProcessUnderTest {
    /// Starts a program with an empty standard input. It inherits the environment except for
    /// `EVERLOCK_…`, so that nobody's shell changes the outcome; then `envs` are added. Nor does
    /// it ignore the signals that this process does: what runs in the background often ignores INT.
    pub fn spawn(program: impl AsRef<OsStr>, args: &[&str], envs: &[(&str, &str)]) -> Self {
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(&program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"EVERLOCK_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(args)
            .envs(envs.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.as_ref().display()));
        let lines = Lines::default();
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let readers = [
            collect(stdout, Source::Stdout, &lines),
            collect(stderr, Source::Stderr, &lines),
        ];
        Self {
            child,
            lines,
            readers,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far on its standard output.
    pub fn stdout(&self) -> String {
        self.printed(|source| source == Source::Stdout)
    }

    /// What it printed so far on its standard error.
    pub fn stderr(&self) -> String {
        self.printed(|source| source == Source::Stderr)
    }

    /// Both, in the order in which the lines arrived.
    pub fn output(&self) -> String {
        self.printed(|_| true)
    }

    /// Waits for a line of either stream that satisfies the predicate, also among those printed
    /// already, and returns it. Panics, showing the output, if none came in time or the program
    /// ended without it.
    pub async fn wait_for_line(
        &mut self,
        predicate: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> String {
        let mut found = None;
        eventually(timeout, || {
            // Whether it ended is asked first: then no line can come after the search.
            let ended = self.readers.iter().all(JoinHandle::is_finished);
            found = self
                .lock()
                .iter()
                .map(|(_, line)| line)
                .find(|line| predicate(line))
                .cloned();
            let over = ended || found.is_some();
            async move { over }
        })
        .await;
        found.unwrap_or_else(|| panic!("the line did not come; the output:\n{}", self.output()))
    }

    /// Sends a signal, for example [`Signal::TERM`]; does nothing after the exit was seen.
    pub fn signal(&mut self, signal: Signal) {
        if let Ok(None) = self.child.try_wait() {
            let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
            let pid = pid.expect("a process id is a positive number");
            kill_process(pid, signal).expect("our own child can be signalled");
        }
    }

    /// Waits for the exit; the output is then complete. Panics, showing it, if it takes longer.
    pub async fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        let mut status = None;
        eventually(timeout, || {
            status = self
                .child
                .try_wait()
                .expect("our own child can be waited for");
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        let Some(status) = status else {
            panic!(
                "still running after {timeout:?}; the output:\n{}",
                self.output()
            );
        };
        let drained = || {
            let finished = self.readers.iter().all(JoinHandle::is_finished);
            async move { finished }
        };
        eventually(DRAIN_WITHIN, drained).await;
        status
    }

    fn printed(&self, wanted: impl Fn(Source) -> bool) -> String {
        let mut text = String::new();
        for (_, line) in self.lock().iter().filter(|(source, _)| wanted(*source)) {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Source, String)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ProcessUnderTest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl Read + Send + 'static, source: Source, into: &Lines) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            let mut lines = into.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() < MAX_LINES {
                lines.push((source, text.trim_end_matches(['\n', '\r']).to_owned()));
            }
            drop(lines);
            line.clear();
        }
    })
}
