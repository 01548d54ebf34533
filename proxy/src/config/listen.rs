//! Where the API is listened for: addresses, and sockets in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::parse;
use super::shown::Shown;
use super::sources::Reader;

/// How a socket in the file system is written.
const UNIX: &str = "unix:";
/// What the kernel takes as the path of a socket, its end included.
const MAX_SOCKET_PATH: usize = 108;
/// More is a mistake.
const MAX_LISTENERS: usize = 16;

/// One place to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address, reached by TCP.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Listen {
    /// Reads `127.0.0.1:8080`, `localhost:8080`, `[::1]:8080` or `unix:/run/everlock.sock`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return socket(Path::new(path)).map(Self::Unix);
        }
        let address = parse::address(text);
        address
            .map(Self::Tcp)
            .map_err(|problem| format!("{problem}, or unix:/path/to.sock"))
    }

    /// Whether no other machine reaches it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

fn socket(path: &Path) -> Result<PathBuf, String> {
    let shown = path.display();
    // A relative path would depend on who starts the process from where.
    if !path.is_absolute() {
        return Err(format!(
            "unix:{shown} is no absolute path: write unix:/path/to.sock"
        ));
    }
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= MAX_SOCKET_PATH || bytes.contains(&0) {
        let most = MAX_SOCKET_PATH - 1;
        return Err(format!(
            "unix:{shown} is no path of a socket: it takes up to {most} bytes"
        ));
    }
    Ok(path.to_owned())
}

impl Shown for Listen {
    fn shown(&self) -> Value {
        self.to_string().into()
    }
}

/// Permissions of a socket.
pub(super) struct Mode(pub(super) u32);

impl Shown for Mode {
    fn shown(&self) -> Value {
        format!("{:o}", self.0).into()
    }
}

/// Reads them, without the bits that mean nothing for a socket.
pub(super) fn mode(text: &str) -> Result<Mode, String> {
    let octal = text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = u32::from_str_radix(text, 8).ok();
    parsed
        .filter(|mode| octal && *mode <= 0o777)
        .map(Mode)
        .ok_or_else(|| format!("{text:?} is no mode: it takes octal digits, up to 777"))
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// Reads all of them; a problem is noted already.
pub(super) fn read(reader: &mut Reader<'_>) -> Vec<Listen> {
    let listen = reader.read_all("listen", Listen::parse);
    let source = reader.source("listen");
    for (index, one) in listen.iter().enumerate() {
        // Port 0 is another port each time.
        let fixed = !matches!(one, Listen::Tcp(address) if address.port() == 0);
        if fixed && listen[..index].contains(one) {
            reader.problem(&source, &format!("{one} is given twice"));
        }
    }
    if listen.len() > MAX_LISTENERS {
        reader.problem(&source, &format!("takes 1 to {MAX_LISTENERS} addresses"));
    }
    listen
}
