//! A terminal with a program at its other end: keys are typed, and what it shows is read.
//!
//! The program leads a session of its own that the terminal controls, as a login shell does; so
//! keys become signals, jobs are stopped and continued, and a hang-up is one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait::eventually;

/// How often it is looked for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A terminal; dropping it hangs up and kills the program.
#[derive(Debug)]
pub struct Terminal {
    master: Option<File>,
    program: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    plugged: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts a program at a new terminal, with these variables besides the inherited ones other
    /// than `EVERLOCK_…`.
    pub fn start(program: impl AsRef<OsStr>, args: &[&str], envs: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("there are terminals");
        grantpt(&master).expect("the terminal is ours");
        unlockpt(&master).expect("the terminal is ours");
        let name = ptsname(&master, Vec::new()).expect("the terminal has a name");
        let path = OsStr::new(name.to_str().expect("a terminal's name is plain"));
        let slave = File::options().read(true).write(true).open(path);
        let slave: OwnedFd = slave.expect("the terminal opens").into();
        let end = || Stdio::from(slave.try_clone().expect("there are descriptors"));
        // It makes the terminal on its standard input the one that controls the new session.
        let mut command = Command::new("setsid");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"EVERLOCK_") {
                command.env_remove(name);
            }
        }
        let program = command
            // As a login shell does, it ignores no signal, whatever this process ignores.
            .args(["--ctty", "env", "--default-signal"])
            .arg(program)
            .args(args)
            .envs(envs.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid starts");
        // A reader that blocks could not let go of it.
        fcntl_setfl(&master, OFlags::NONBLOCK).expect("a terminal need not block");
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let mut reading = master.try_clone().expect("there are descriptors");
        let into = Arc::clone(&shown);
        let plugged = Arc::new(AtomicBool::new(true));
        let still = Arc::clone(&plugged);
        let reader = std::thread::spawn(move || {
            let mut part = [0; 4_096];
            while still.load(Ordering::Relaxed) {
                match reading.read(&mut part) {
                    Ok(read) => {
                        let mut shown = into.lock().unwrap_or_else(PoisonError::into_inner);
                        shown.extend_from_slice(&part[..read]);
                    }
                    // Nothing new; or the last program has closed the terminal.
                    Err(_) => std::thread::sleep(LOOK_EVERY),
                }
            }
        });
        Self {
            master: Some(master),
            program,
            shown,
            plugged,
            reader: Some(reader),
        }
    }

    /// Types these keys: `\r` is return, `\x03` ctrl-C, `\x1a` ctrl-Z, `\x1c` ctrl-\.
    pub fn type_keys(&mut self, keys: &str) {
        let master = self.master.as_mut().expect("the terminal is connected");
        master.write_all(keys.as_bytes()).expect("keys are taken");
    }

    /// Makes the terminal so large.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let master = self.master.as_ref().expect("the terminal is connected");
        tcsetwinsize(master, size).expect("the terminal has a size");
    }

    /// Everything that was shown, the echo of the keys included.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until this was shown. Panics, showing all, if it takes longer.
    pub async fn until_shown(&self, text: &str, timeout: Duration) {
        let came = eventually(timeout, || {
            let came = self.shown().contains(text);
            async move { came }
        });
        assert!(
            came.await,
            "{text:?} does not come; what was shown:\n{}",
            self.shown()
        );
    }

    /// Pulls the plug: the program is hung up.
    pub fn hang_up(&mut self) {
        self.plugged.store(false, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.master = None;
    }

    /// Waits for the end of the program.
    pub async fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        let mut status = None;
        let program = &mut self.program;
        eventually(timeout, || {
            status = program.try_wait().expect("our own child can be waited for");
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        status.unwrap_or_else(|| panic!("still running; what was shown:\n{}", self.shown()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.hang_up();
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
