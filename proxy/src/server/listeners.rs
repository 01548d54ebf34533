//! Where connections come from: addresses, with TLS or without, and sockets in the file system.
//!
//! Invariant: a socket's file is removed by whoever made it, and by nobody while somebody listens
//! there. Nothing is waited for between an accept and the next one: handshakes are the
//! connection's own affair.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

use super::certificates::Certificates;
use crate::config::{Listen, ServerTls};

/// Connections that the kernel keeps for us until they are accepted; it takes fewer by itself.
const BACKLOG: u32 = 1_024;

/// Everything that is listened at.
pub struct Listeners {
    all: Vec<Listener>,
    /// The one that is asked first, in turns: none is starved by another.
    first: usize,
    certificates: Option<Certificates>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A connection of which nothing was read.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Tls(TcpStream, Arc<ServerConfig>),
    Unix(UnixStream),
}

impl From<TcpListener> for Listeners {
    fn from(listener: TcpListener) -> Self {
        Self {
            all: vec![Listener::Tcp(listener)],
            first: 0,
            certificates: None,
        }
    }
}

impl Listeners {
    /// Listens at all of these, or says where that is not possible. It needs a runtime, and then
    /// watches the certificate's files.
    pub async fn bind(
        listen: &[Listen],
        socket_mode: u32,
        tls: Option<ServerTls>,
    ) -> Result<Self, String> {
        let mut all = Vec::new();
        for one in listen {
            let wrong = |error: io::Error| format!("can't listen on {one}: {error}");
            all.push(match one {
                Listen::Tcp(address) => {
                    Listener::Tcp(TcpListener::bind(address).await.map_err(wrong)?)
                }
                Listen::Unix(path) => {
                    let (listener, file) = bind_unix(path, socket_mode).map_err(wrong)?;
                    Listener::Unix(listener, file)
                }
            });
        }
        let certificates = tls.map(Certificates::watch).transpose();
        let certificates =
            certificates.map_err(|error| format!("signals can't be handled: {error}"))?;
        Ok(Self {
            all,
            first: 0,
            certificates,
        })
    }

    /// Where it really listens: with the port that the kernel chose.
    pub fn addresses(&self) -> Vec<Listen> {
        let addresses = self.all.iter().filter_map(|one| match one {
            Listener::Tcp(listener) => listener.local_addr().ok().map(Listen::Tcp),
            Listener::Unix(_, file) => Some(Listen::Unix(file.path.clone())),
        });
        addresses.collect()
    }

    /// The next connection. Dropping the future loses none.
    pub(super) async fn accept(&mut self) -> io::Result<Accepted> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let count = self.all.len();
        for index in (0..count).map(|offset| (self.first + offset) % count) {
            let polled =
                match &self.all[index] {
                    Listener::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                        match self.certificates.as_ref() {
                            None => Accepted::Tcp(stream),
                            Some(certificates) => Accepted::Tls(stream, certificates.current()),
                        }
                    }),
                    Listener::Unix(listener, _) => listener
                        .poll_accept(cx)
                        .map_ok(|(stream, _)| Accepted::Unix(stream)),
                };
            if polled.is_ready() {
                self.first = (index + 1) % count;
                return polled;
            }
        }
        Poll::Pending
    }
}

/// The file of a socket, removed with the value unless it is another's by then.
struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile::of(path)?;
    // Nobody can connect before the permissions are right, since nobody listens yet.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok((socket.listen(BACKLOG)?, file))
}

/// Removes the socket of a process that is gone. Whatever else is there stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let there = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    let taken = |what| Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    if !there.file_type().is_socket() {
        return taken("there is a file that is no socket");
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) => taken("another process listens there"),
        Err(error) => Err(error),
    }
}
