//! A child process that cannot outlive the process that started it.
//!
//! The child runs under a small shell whose standard input is a pipe from us. When that pipe
//! closes, because we closed it or because we were killed, the shell kills the child, collects it
//! and removes its directory. It has a process group of its own, so that Ctrl-C in a terminal
//! reaches us and not the shell, which then does its work.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// `$1` is the directory, the rest the command. The word `keep` on the pipe spares the directory.
const SCRIPT: &str = r#"
dir=$1
shift
"$@" </dev/null >>"$dir/output.log" 2>&1 &
child=$!
echo "$child"
read -r word
kill -KILL "$child" 2>/dev/null
wait "$child" 2>/dev/null
[ "$word" = keep ] || rm -rf "$dir"
"#;

/// A running child; dropping it kills the child and removes its directory.
#[derive(Debug)]
pub(crate) struct Watched {
    shell: Child,
    child: Pid,
}

impl Watched {
    /// Starts `program`; what it prints goes to `output.log` in `dir`.
    pub(crate) fn spawn(dir: &Path, program: &str, args: &[&str]) -> Self {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "everlock-testkit"])
            .arg(dir)
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("/bin/sh starts");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("the shell's output is a pipe"))
            .read_line(&mut line)
            .expect("the shell's output can be read");
        let child = line.trim().parse().ok().and_then(Pid::from_raw);
        Self {
            shell,
            child: child.expect("the shell prints the process id of its child"),
        }
    }

    /// The process id of the child (not of its shell).
    pub(crate) fn pid(&self) -> Pid {
        self.child
    }

    /// Sends a signal to the child. One that is dead already is left in peace: the shell has not
    /// collected it yet, so its number belongs to nobody else.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(self.child, signal);
    }

    /// Whether the child has ended by itself. Without `/proc` it is never known to have.
    pub(crate) fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.as_raw_nonzero()));
        // The state follows the name, which stands in brackets and may contain anything.
        stat.is_ok_and(|stat| {
            stat.rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
        })
    }

    /// Kills the child at once, as a crash would, and spares its directory.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        if let Some(pipe) = &mut self.shell.stdin {
            let _ = pipe.write_all(b"keep\n");
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A stopped process dies of SIGKILL too. The shell's end says that the child is gone.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
