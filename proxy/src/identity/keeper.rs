//! One node as the keeper of what identities need: a connection of its own and its run.
//!
//! Invariant: nothing reconnects underneath. A [`Link`] is one physical connection to one run of
//! the server, so what was read over it was read from the same memory. Every wait has a deadline,
//! and a link that failed is never used again. A node that can't be reached is tried by one caller
//! at a time, and nobody waits behind that one: what is asked of it does not pile up.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everlock::{ConfigError, NodeTls};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, ScriptInvocation};
use tokio::time::timeout;

/// A connection is made within this, and a call answered. A slower node counts as away, as locks
/// have given it up by then, too.
const CALL_TIME: Duration = Duration::from_secs(1);

/// The node could not be asked, or did not answer in time. What it was asked may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away;

/// A connection to one run of the server.
#[derive(Clone)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    /// The server's run, which changes with each start.
    pub(super) run: String,
    /// Tells this connection from every other of this process.
    pub(super) number: u64,
}

/// One node.
pub(crate) struct Keeper {
    client: Client,
    link: Mutex<Option<Link>>,
    /// Held by the one who dials.
    dialling: tokio::sync::Mutex<()>,
    /// The last dial failed. Written while `dialling` is held.
    unreachable: AtomicBool,
}

impl Keeper {
    /// The nodes at these URLs, or the first that is none.
    pub(crate) fn all(urls: &[String], tls: &NodeTls) -> Result<Vec<Arc<Self>>, ConfigError> {
        let open = |(index, url): (usize, &String)| {
            let index = index + 1;
            let client = tls.client(url);
            let client = client.map_err(|problem| ConfigError::BadUrl { index, problem })?;
            Ok(Arc::new(Self {
                client,
                link: Mutex::default(),
                dialling: tokio::sync::Mutex::default(),
                unreachable: AtomicBool::new(false),
            }))
        };
        urls.iter().enumerate().map(open).collect()
    }

    /// The present connection, or a fresh one, within twice [`CALL_TIME`]. Cancelling leaves none
    /// half made.
    pub(super) async fn link(&self) -> Result<Link, Away> {
        let present = self.present().clone();
        if let Some(link) = present {
            return Ok(link);
        }
        let unreachable = self.is_unreachable();
        let _alone = match self.dialling.try_lock() {
            Ok(alone) => alone,
            Err(_) if unreachable => return Err(Away),
            Err(_) => {
                let turn = timeout(CALL_TIME, self.dialling.lock()).await;
                turn.map_err(|_| Away)?
            }
        };
        // Whoever dialled meanwhile did it for all that waited.
        let present = self.present().clone();
        if let Some(link) = present {
            return Ok(link);
        }
        if !unreachable && self.is_unreachable() {
            return Err(Away);
        }
        let dialled = timeout(CALL_TIME, self.dial()).await;
        let dialled = dialled.unwrap_or(Err(Away));
        self.unreachable.store(dialled.is_err(), Ordering::Relaxed);
        let link = dialled?;
        *self.present() = Some(link.clone());
        Ok(link)
    }

    /// Calls a script over this link. One that was not answered is not used again.
    pub(super) async fn call<T: FromRedisValue>(
        &self,
        link: &Link,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Away> {
        let mut connection = link.connection.clone();
        let called = timeout(CALL_TIME, script.invoke_async(&mut connection)).await;
        if let Ok(Ok(value)) = called {
            return Ok(value);
        }
        self.present()
            .take_if(|present| present.number == link.number);
        Err(Away)
    }

    fn present(&self) -> MutexGuard<'_, Option<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed)
    }

    async fn dial(&self) -> Result<Link, Away> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CALL_TIME))
            .set_response_timeout(Some(CALL_TIME));
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut connection = connection.await.map_err(|_| Away)?;
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await
            .map_err(|_| Away)?;
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        Ok(Link {
            run: run.ok_or(Away)?.trim_end().to_owned(),
            connection,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        })
    }
}

/// The URL, which may hold a password, is not shown.
impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}
