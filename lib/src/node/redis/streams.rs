//! Connections over streams that a test makes: a simulated network in place of TCP.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::faults;
use crate::core::quorum::Fault;

/// What a connection can run over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// A stream that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes a stream to one server, each time anew.
pub type Connector = Arc<dyn Fn() -> Connecting + Send + Sync>;

/// A fresh connection to the server at the other end of a fresh stream.
pub(super) async fn connect(connector: &Connector) -> Result<MultiplexedConnection, Fault> {
    let stream = connector()
        .await
        .map_err(|error| faults::of_connect(&error.into()))?;
    let (info, config) = (
        RedisConnectionInfo::default(),
        AsyncConnectionConfig::default(),
    );
    let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
    let (connection, driving) = made.map_err(|error| faults::of_connect(&error))?;
    // Ends with the connection's last clone.
    tokio::spawn(driving);
    Ok(connection)
}
