//! The server program: Debian's `redis-server`, or the one that `TESTKIT_REDIS_SERVER` names.
//!
//! So the same tests run over every server that is to be supported (`scripts/compatibility`).

use std::env;
use std::process::Command;
use std::sync::OnceLock;

/// A Redis or Valkey server that can be started.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: String,
    /// The first number of its version.
    major: u32,
}

impl Program {
    /// Whether `DEBUG` has to be allowed, and the append-only log is in a directory of its own: as
    /// from Redis 7 on, which Valkey comes from.
    pub(super) fn is_modern(&self) -> bool {
        self.major >= 7
    }
}

/// The program of this test run.
pub(super) fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = env::var("TESTKIT_REDIS_SERVER").unwrap_or_default();
        let path = if path.is_empty() {
            "redis-server".to_owned()
        } else {
            path
        };
        let output = Command::new(&path).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_once(" v=").map_or("", |(_, version)| version);
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        let major = major.unwrap_or_else(|| panic!("{path} is no server: it says {text:?}"));
        Program { path, major }
    })
}
