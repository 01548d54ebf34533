//! A loopback port that nobody else gets while it is held.
//!
//! A socket that is bound but not listening keeps the port: the kernel gives it to no other
//! process that asks for a free one, and to no outgoing connection as its source. A server that
//! sets `SO_REUSEADDR` (Redis and tokio do) can still bind and listen on it. Connecting while no
//! such server listens is refused. So a killed server finds its port free when it returns, and a
//! client that reconnects in the meantime can never reach somebody else, nor itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// The port where developers keep their own Redis: never ours.
const DEFAULT_REDIS_PORT: u16 = 6379;

/// A free loopback port, kept until this is dropped.
#[derive(Debug)]
pub struct ReservedPort {
    _socket: TcpSocket,
    port: u16,
}

impl ReservedPort {
    /// Takes a free port of 127.0.0.1.
    pub fn take() -> Self {
        loop {
            let reserved = Self::try_take().expect("loopback has a free port");
            if reserved.port != DEFAULT_REDIS_PORT {
                return reserved;
            }
        }
    }

    /// The number of the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port with its loopback address.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn try_take() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Bound without SO_REUSEADDR, so that a port which somebody holds is not given to us;
        // the option comes afterwards, to let our own server in.
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        socket.set_reuseaddr(true)?;
        let port = socket.local_addr()?.port();
        Ok(Self {
            _socket: socket,
            port,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn reserved_ports_are_distinct_and_refuse_connections() {
        let held: Vec<_> = (0..50).map(|_| ReservedPort::take()).collect();
        let distinct: HashSet<_> = held.iter().map(ReservedPort::port).collect();
        assert_eq!(distinct.len(), held.len());
        let error = TcpStream::connect(held[0].addr()).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_server_can_listen_on_a_reserved_port_again_and_again() {
        let reserved = ReservedPort::take();
        for _ in 0..3 {
            let listener = std::net::TcpListener::bind(reserved.addr()).expect("the port is ours");
            let _client = TcpStream::connect(reserved.addr()).expect("the server listens");
            drop(listener);
        }
    }
}
