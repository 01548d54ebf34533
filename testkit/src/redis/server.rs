//! One `redis-server` process, with a port and a directory of its own.
//!
//! It ends with the value, and with the test process however that ends (see `watchdog`). Its port
//! stays reserved while it is down, so killing and restarting it is free of races.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, io, process};

use rustix::process::Signal;

use super::builder::RedisBuilder;
use super::program::program;
use super::resp::{self, Reply};
use super::shim;
use crate::port::ReservedPort;
use crate::temp_dir::TempDir;
use crate::wait::poll;
use crate::watchdog::Watched;

/// A server starts in some 20 ms; a busy machine with an append-only file to load takes longer.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How many ports are tried: a second attempt is only needed if a stranger took the first port by
/// force.
const ATTEMPTS: usize = 5;
/// Tells the file of a clock that stands from that of one that is thrown, as in `shim/clock.c`.
const STOPPED: i64 = 0x5555_5555_5555_5555;

/// A real Redis server for one test.
#[derive(Debug)]
pub struct RedisServer {
    builder: RedisBuilder,
    port: ReservedPort,
    dir: TempDir,
    process: Mutex<Option<Watched>>,
}

impl RedisServer {
    /// Starts a server that keeps nothing on the disk.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Starts a server that loses nothing it has acknowledged.
    pub fn start_durable() -> Self {
        Self::builder().durable().start()
    }

    /// A server with other wishes.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    pub(super) fn start_with(builder: &RedisBuilder) -> Self {
        let mut log = String::new();
        for _ in 0..ATTEMPTS {
            let port = ReservedPort::take();
            let server = Self {
                builder: builder.clone(),
                port,
                dir: TempDir::new("redis"),
                process: Mutex::default(),
            };
            match server.launch() {
                Ok(()) => return server,
                Err(why) => log = why,
            }
        }
        panic!("redis-server does not start: {log}");
    }

    /// The URL that a client connects to, with the default user's password if there is one.
    pub fn url(&self) -> String {
        match &self.builder.password {
            Some(password) => self.url_with(&format!(":{password}@")),
            None => self.url_with(""),
        }
    }

    /// The URL for a user of [`RedisBuilder::acl_user`].
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.url_with(&format!("{user}:{password}@"))
    }

    fn url_with(&self, credentials: &str) -> String {
        let scheme = if self.builder.tls { "rediss" } else { "redis" };
        format!("{scheme}://{credentials}127.0.0.1:{}/", self.port())
    }

    /// The server's port on 127.0.0.1; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// The same with its address.
    pub fn addr(&self) -> std::net::SocketAddr {
        self.port.addr()
    }

    /// The directory with its data, its configuration and its log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the server has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("output.log")).unwrap_or_default()
    }

    /// The process id; none while the server is killed.
    pub fn pid(&self) -> Option<u32> {
        let process = self.lock();
        process
            .as_ref()
            .map(|running| running.pid().as_raw_nonzero().get().unsigned_abs())
    }

    /// Stops the process (SIGSTOP): the kernel still accepts connections and takes in requests,
    /// which the server works through after [`RedisServer::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused process go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills the process (SIGKILL) and returns when it is gone; connecting is refused from then
    /// on. Does nothing if it is killed already.
    pub fn kill(&self) {
        if let Some(running) = self.lock().take() {
            running.kill();
        }
    }

    /// Starts the server again on the same port and directory, after killing it if it runs. What
    /// was not on the disk is lost, and so is what was set by `CONFIG SET`.
    pub fn restart(&self) {
        self.kill();
        if let Err(log) = self.launch() {
            panic!("redis-server does not restart: {log}");
        }
    }

    /// Throws the server's wall clock this many milliseconds ahead of the true time, or behind it
    /// if that is negative. It is in effect at once and stays over restarts, as on a machine whose
    /// clock was set. Needs [`RedisBuilder::with_clock`](super::RedisBuilder::with_clock).
    pub fn set_clock_offset(&self, ms: i64) {
        let micros = ms * 1_000;
        self.tell_clock(micros, !micros);
    }

    /// Stops the server's wall clock at this time, in microseconds since the epoch, until it is
    /// told another one: then what depends on time comes out alike in every run. Needs
    /// [`RedisBuilder::with_clock`](super::RedisBuilder::with_clock).
    pub fn stop_clock_at(&self, micros: u64) {
        let micros = i64::try_from(micros).expect("a time of this age");
        self.tell_clock(micros, micros ^ STOPPED);
    }

    fn tell_clock(&self, word: i64, check: i64) {
        assert!(self.builder.clock, "the server has no clock of its own");
        let mut halves = [0; 16];
        halves[..8].copy_from_slice(&word.to_ne_bytes());
        halves[8..].copy_from_slice(&check.to_ne_bytes());
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.clock_file())
            .and_then(|file| file.write_all_at(&halves, 0))
            .expect("a temporary file can be written");
    }

    fn clock_file(&self) -> PathBuf {
        self.dir().join("clock")
    }

    /// Cuts the power: the process is killed, and what it had written but not synced is lost.
    /// Returns how many bytes of the append-only file that were. [`RedisServer::restart`] brings
    /// the server back. Needs [`RedisBuilder::with_power`](super::RedisBuilder::with_power).
    pub fn cut_power(&self) -> u64 {
        assert!(self.builder.power, "nobody follows what the server syncs");
        self.kill();
        let mut lost = 0;
        // There is no such directory without an append-only file: then all is lost anyway.
        let folder = if program().is_modern() {
            self.dir().join("appendonlydir")
        } else {
            self.dir().to_owned()
        };
        for file in fs::read_dir(folder).into_iter().flatten() {
            let path = file.expect("the server's directory can be read").path();
            if !is_log(&path) {
                continue;
            }
            let name = path.file_name().unwrap_or_default();
            let noted = fs::read(self.notes().join(name)).unwrap_or_default();
            let synced = noted.try_into().map_or(0, u64::from_ne_bytes);
            let file = OpenOptions::new().write(true).open(&path);
            let file = file.expect("the log is there");
            let written = file.metadata().expect("it has a size").len();
            assert!(synced <= written, "{synced} of {written} bytes are synced");
            file.set_len(synced).expect("the log can be cut");
            lost += written - synced;
        }
        lost
    }

    /// The power fails and returns: [`RedisServer::cut_power`], then a restart.
    pub fn power_loss(&self) -> u64 {
        let lost = self.cut_power();
        self.restart();
        lost
    }

    fn notes(&self) -> PathBuf {
        self.dir().join("synced")
    }

    fn signal(&self, signal: Signal) {
        let process = self.lock();
        process
            .as_ref()
            .expect("the server runs: it was not killed")
            .signal(signal);
    }

    /// Sends a command and returns its reply, flat and readable (see [`Reply`]). Panics if the
    /// server is down or doesn't answer within seconds.
    pub fn command(&self, args: &[&str]) -> String {
        let args: Vec<_> = args.iter().map(|arg| arg.as_bytes()).collect();
        self.command_bytes(&args).to_string()
    }

    /// The same for arguments and replies of any bytes.
    pub fn command_bytes(&self, args: &[&[u8]]) -> Reply {
        self.try_command(args)
            .unwrap_or_else(|error| panic!("redis-server on port {}: {error}", self.port()))
    }

    /// The same for a server that may be down.
    pub fn try_command(&self, args: &[&[u8]]) -> io::Result<Reply> {
        resp::command(&self.socket(), args)
    }

    /// The value of a string key; none if the key does not exist.
    pub fn get(&self, key: &str) -> Option<String> {
        match self.command_bytes(&[b"GET", key.as_bytes()]) {
            Reply::Nil => None,
            Reply::Bytes(value) => Some(String::from_utf8_lossy(&value).into_owned()),
            other => panic!("GET {key}: {other}"),
        }
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        let keys = self.command_bytes(&[b"KEYS", b"*"]).into_array();
        let mut keys: Vec<_> = keys.iter().map(Reply::to_string).collect();
        keys.sort();
        keys
    }

    /// The number of keys, counting expired ones which the server hasn't removed yet.
    pub fn dbsize(&self) -> usize {
        self.integer(&["DBSIZE"])
            .try_into()
            .expect("a count is not negative")
    }

    /// The key's remaining life in milliseconds as PTTL tells it: −1 without an expiry, −2 if
    /// there is no such key.
    pub fn ttl_ms(&self, key: &str) -> i64 {
        self.integer(&["PTTL", key])
    }

    fn integer(&self, args: &[&str]) -> i64 {
        let reply = self.command(args);
        reply
            .parse()
            .unwrap_or_else(|_| panic!("{args:?}: {reply}"))
    }

    fn socket(&self) -> PathBuf {
        self.dir().join("side.sock")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Watched>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the process finds in its environment: the shims and where they look.
    fn environment(&self) -> Vec<String> {
        let mut shims = Vec::new();
        let mut environment = Vec::new();
        if self.builder.clock {
            if !self.clock_file().exists() {
                self.set_clock_offset(0);
            }
            shims.push(&shim::CLOCK);
            environment.push(format!("TESTKIT_CLOCK={}", self.clock_file().display()));
        }
        if self.builder.power {
            fs::create_dir_all(self.notes()).expect("the server's directory is ours");
            shims.push(&shim::DISK);
            environment.push(format!("TESTKIT_SYNCED={}", self.notes().display()));
        }
        if !shims.is_empty() {
            let libraries = shims
                .iter()
                .map(|shim| shim.library().display().to_string());
            let libraries = libraries.collect::<Vec<_>>().join(":");
            environment.push(format!("LD_PRELOAD={libraries}"));
        }
        environment
    }

    /// Starts the process and waits until it answers; the error is what it printed.
    fn launch(&self) -> Result<(), String> {
        let conf = self.dir().join("redis.conf");
        let text = self
            .builder
            .render(self.dir(), &self.socket(), self.port(), &title_tag());
        fs::write(&conf, text).expect("a temporary file can be written");
        let conf = conf.to_str().expect("the paths of tests are UTF-8");
        // Only the server itself is to load the shims, not the shell that watches it.
        let environment = self.environment();
        let mut args: Vec<_> = environment.iter().map(String::as_str).collect();
        args.extend([program().path.as_str(), conf]);
        let running = Watched::spawn(self.dir(), "env", &args);
        let pid = format!("process_id:{}\r\n", running.pid().as_raw_nonzero());

        // `Some(true)`: it answers and it is ours. `Some(false)`: it ended.
        let outcome = poll(READY_WITHIN, || match self.try_command(&[b"INFO"]) {
            Ok(Reply::Bytes(info)) => {
                let info = String::from_utf8_lossy(&info);
                (info.contains(&pid) && info.contains("\r\nloading:0\r\n")).then_some(true)
            }
            _ => running.has_ended().then_some(false),
        });
        if outcome == Some(true) {
            *self.lock() = Some(running);
            return Ok(());
        }
        running.kill();
        Err(self.log())
    }
}

/// The name of a file of the append-only log; those it begins with are written once, and synced.
fn is_log(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    // The second one before Redis 7.
    name.as_encoded_bytes().ends_with(b".incr.aof") || name == "appendonly.aof"
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the title of every server of this test run ends with, so that `ps` shows where it comes
/// from and `scripts/test` can make sure that none is left.
fn title_tag() -> String {
    let run = env::var("TESTKIT_RUN").unwrap_or_else(|_| process::id().to_string());
    format!("everlock-test-{run}")
}
