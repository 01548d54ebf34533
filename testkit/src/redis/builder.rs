//! The configuration of a test server, from which it is started.
//!
//! What is not said here is as deterministic as a test wants it: no snapshots, no append-only
//! file, warnings only in the log, `DEBUG` allowed.

use std::fmt::Write as _;
use std::path::Path;

use super::program::program;
use super::resp::ADMIN_USER;
use super::server::RedisServer;

/// A server's configuration; begins with [`RedisServer::builder`].
#[derive(Clone, Debug, Default)]
#[must_use = "a server runs once it is started"]
pub struct RedisBuilder {
    directives: Vec<(String, String)>,
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) clock: bool,
    pub(super) power: bool,
}

impl RedisBuilder {
    /// Every write is on the disk before its reply leaves: nothing acknowledged is lost.
    pub fn durable(self) -> Self {
        self.config("appendonly", "yes")
            .config("appendfsync", "always")
            .config("no-appendfsync-on-rewrite", "no")
    }

    /// Adds a line to the configuration file; `value` is written as it is, so it may hold several
    /// arguments and must bring its own quotes. A later directive overrides an earlier one.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.directives.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Demands a password of the default user. [`RedisServer::url`] then carries it, so it must
    /// need no escaping in a URL.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.config("requirepass", password)
    }

    /// Adds a user, for example `("alice", "secret", "~app:* +@all")`.
    pub fn acl_user(self, name: &str, password: &str, rules: &str) -> Self {
        self.config("user", &format!("{name} on >{password} {rules}"))
    }

    /// Speaks TLS alone, with these PEM files. Clients need no certificate, unless
    /// `.config("tls-auth-clients", "yes")` follows.
    pub fn tls(mut self, certificate: &Path, key: &Path, ca: &Path) -> Self {
        self.tls = true;
        self.config("tls-cert-file", &quoted(certificate))
            .config("tls-key-file", &quoted(key))
            .config("tls-ca-cert-file", &quoted(ca))
            .config("tls-auth-clients", "no")
    }

    /// Gives the server a wall clock of its own, for [`RedisServer::set_clock_offset`].
    pub fn with_clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// Follows what the server syncs to the disk, for [`RedisServer::power_loss`].
    pub fn with_power(mut self) -> Self {
        self.power = true;
        self
    }

    /// Starts the server and returns when it answers.
    pub fn start(self) -> RedisServer {
        RedisServer::start_with(&self)
    }

    /// The text of the configuration file for a server in `dir`, on `port`, whose processes carry
    /// `tag` in their titles.
    pub(super) fn render(&self, dir: &Path, socket: &Path, port: u16, tag: &str) -> String {
        let (plain, tls) = if self.tls { (0, port) } else { (port, 0) };
        let mut text = format!(
            "bind 127.0.0.1\n\
             port {plain}\n\
             dir {dir}\n\
             unixsocket {socket}\n\
             proc-title-template \"{{title}} {{listen-addr}} {tag}\"\n\
             loglevel warning\n\
             save \"\"\n\
             appendonly no\n\
             user {ADMIN_USER} on nopass ~* &* +@all\n",
            dir = quoted(dir),
            socket = quoted(socket),
        );
        if program().is_modern() {
            text.push_str("enable-debug-command yes\n");
        }
        if self.tls {
            writeln!(text, "tls-port {tls}").expect("a string takes any text");
        }
        for (name, value) in &self.directives {
            writeln!(text, "{name} {value}").expect("a string takes any text");
        }
        text
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().expect("the paths of tests are UTF-8"))
}
