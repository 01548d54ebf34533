//! One physical connection: dialled, asked who it is, and given the scripts.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, Pipeline, RedisError,
    TlsCertificates, Value,
};

use super::faults;
use super::membership::Seat;
use super::{calls, replies, scripts};
use crate::config::NodeTls;
use crate::core::admission::ServerFacts;
use crate::core::marker::{MarkerCommand, MarkerState};
use crate::core::quorum::{Fault, FaultKind};
use crate::core::types::NodeId;
use crate::error::ConfigError;

/// A connection, its TLS session and the first questions take no longer.
const SHORTEST_DIAL_TIME: Duration = Duration::from_secs(1);
/// A connection on which the oldest command has waited this long is given up.
const SHORTEST_SILENCE: Duration = Duration::from_secs(2);
/// Only what is being dialled is ever in a pool of ours.
const POOL_SIZE: usize = 2;

/// Where connections come from.
enum Source {
    Pool(Pool),
    #[cfg(feature = "test-util")]
    Streams(super::streams::Connector),
}

/// Makes connections to one server.
pub(super) struct Dialer {
    source: Source,
    dial_time: Duration,
    silence: Duration,
}

impl Dialer {
    /// Dials the server at this URL. The URL itself, which may hold a password,
    /// is in no error.
    pub(super) fn from_url(
        url: &str,
        tls: &NodeTls,
        seat: &Seat,
    ) -> Result<(NodeId, Client, Self), ConfigError> {
        let bad = |problem: String| ConfigError::BadUrl {
            index: seat.index + 1,
            problem,
        };
        let client = open(url, tls).map_err(|error| bad(not_a_url(&error)))?;
        let info = client.get_connection_info().clone();
        let id = name(info.addr(), info.redis_settings().db());
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let (dial_time, silence) = times(seat);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(dial_time))
            .set_response_timeout(Some(silence));
        let manager = Manager::new_with_config(info, config)
            .map_err(|error| bad(error.category().to_owned()))?;
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| bad(error.to_string()))?;
        Ok((
            id,
            client,
            Self {
                source: Source::Pool(pool),
                dial_time,
                silence,
            },
        ))
    }

    /// Dials through an application's own pool.
    pub(super) fn from_pool(pool: Pool, seat: &Seat) -> Self {
        let (dial_time, silence) = times(seat);
        Self {
            source: Source::Pool(pool),
            dial_time,
            silence,
        }
    }

    /// Dials over streams that a test makes.
    #[cfg(feature = "test-util")]
    pub(super) fn over(connector: super::streams::Connector, seat: &Seat) -> Self {
        let (dial_time, silence) = times(seat);
        Self {
            source: Source::Streams(connector),
            dial_time,
            silence,
        }
    }

    /// How long a connection may be silent while commands wait.
    pub(super) const fn silence(&self) -> Duration {
        self.silence
    }

    /// A fresh connection to a server that has told who it is and has the scripts.
    pub(super) async fn dial(&self) -> Result<Link, Fault> {
        match tokio::time::timeout(self.dial_time, self.dial_unbounded()).await {
            Ok(link) => link,
            Err(_) => Err(Fault::unsent(FaultKind::Timeout, "no connection in time")),
        }
    }

    async fn dial_unbounded(&self) -> Result<Link, Fault> {
        let mut connection = match &self.source {
            Source::Pool(pool) => take(pool).await?,
            #[cfg(feature = "test-util")]
            Source::Streams(connector) => super::streams::connect(connector).await?,
        };
        connection.set_response_timeout(self.silence);
        let facts = facts(&mut connection).await?;
        let mut link = Link { connection, facts };
        link.load_scripts().await?;
        Ok(link)
    }
}

async fn take(pool: &Pool) -> Result<MultiplexedConnection, Fault> {
    let pooled = pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => faults::of_connect(&error),
        PoolError::Timeout(_) => Fault::unsent(FaultKind::Timeout, "the pool timed out"),
        error => Fault::unsent(FaultKind::Unreachable, error.to_string()),
    })?;
    Ok(Connection::take(pooled))
}

fn times(seat: &Seat) -> (Duration, Duration) {
    let dial = SHORTEST_DIAL_TIME.max(seat.node_timeout * 2);
    let silence = SHORTEST_SILENCE.max(seat.node_timeout * 4);
    (dial, silence)
}

fn not_a_url(error: &RedisError) -> String {
    format!(
        "not the URL of a Redis server ({}): redis://[user:password@]host:port/[db], or rediss:// \
         for TLS",
        error.category()
    )
}

/// The address at this URL, without looking it up or connecting to it.
pub(crate) fn address(url: &str) -> Result<String, String> {
    let client = Client::open(url).map_err(|error| not_a_url(&error))?;
    Ok(client.get_connection_info().addr().to_string())
}

impl NodeTls {
    /// A client of the server at this URL, for what an application keeps beside its locks on the
    /// same nodes: set up for TLS as the connections of the locks are. Nothing is dialled yet.
    ///
    /// The error holds no part of the URL.
    pub fn client(&self, url: &str) -> Result<Client, String> {
        open(url, self).map_err(|error| not_a_url(&error))
    }
}

fn open(url: &str, tls: &NodeTls) -> redis::RedisResult<Client> {
    let client = Client::open(url)?;
    let is_tls = matches!(
        client.get_connection_info().addr(),
        ConnectionAddr::TcpTls { .. }
    );
    if is_tls {
        // An application may have chosen a provider of cryptography of its own.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    if !is_tls || (tls.ca.is_none() && tls.identity.is_none()) {
        return Ok(client);
    }
    let client_tls = tls.identity.clone();
    let certificates = TlsCertificates {
        client_tls: client_tls.map(|(client_cert, client_key)| ClientTlsConfig {
            client_cert,
            client_key,
        }),
        root_cert: tls.ca.clone(),
    };
    Client::build_with_tls(url, certificates)
}

/// An address without credentials.
fn name(addr: &ConnectionAddr, db: i64) -> NodeId {
    match db {
        0 => NodeId::new(addr.to_string()),
        db => NodeId::new(format!("{addr}/{db}")),
    }
}

/// One connection to one run of one server.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) facts: ServerFacts,
}

impl Link {
    /// Sends calls together; one value for each, server errors among them.
    pub(super) async fn send(&mut self, pipeline: &Pipeline) -> redis::RedisResult<Vec<Value>> {
        let count = pipeline.cmd_iter().count();
        self.connection
            .send_packed_commands(pipeline, 0, count)
            .await
    }

    /// Teaches the server the scripts.
    pub(super) async fn load_scripts(&mut self) -> Result<(), Fault> {
        let mut pipeline = Pipeline::new();
        for load in scripts::load_all() {
            pipeline.add_command(load);
        }
        let values = self
            .send(&pipeline)
            .await
            .map_err(|error| faults::of_reply(&error))?;
        for value in values {
            if let Value::ServerError(error) = value {
                return Err(faults::of_reply(&error.into()));
            }
        }
        Ok(())
    }

    /// Reads or changes the marker.
    pub(super) async fn mark(&mut self, command: &MarkerCommand) -> Result<MarkerState, Fault> {
        let call = calls::mark(command, &self.facts.run_id);
        let mut value = one(&mut self.connection, &call).await?;
        if calls::wants_script(&value) {
            self.load_scripts().await?;
            value = one(&mut self.connection, &call).await?;
        }
        if let Value::ServerError(error) = value {
            return Err(faults::of_reply(&error.into()));
        }
        replies::marker_state(&value, &self.facts.run_id)
    }

    /// Asks the server anew what it is.
    pub(super) async fn refresh(&mut self) -> Result<&ServerFacts, Fault> {
        self.facts = facts(&mut self.connection).await?;
        Ok(&self.facts)
    }
}

async fn one(connection: &mut MultiplexedConnection, call: &Cmd) -> Result<Value, Fault> {
    connection
        .send_packed_command(call)
        .await
        .map_err(|error| faults::of_reply(&error))
}

/// What the server says of itself. Only INFO must be permitted.
async fn facts(connection: &mut MultiplexedConnection) -> Result<ServerFacts, Fault> {
    let mut pipeline = Pipeline::new();
    pipeline.cmd("INFO");
    for directive in ["appendonly", "appendfsync", "no-appendfsync-on-rewrite"] {
        pipeline.cmd("CONFIG").arg("GET").arg(directive);
    }
    let count = pipeline.cmd_iter().count();
    let values = connection
        .send_packed_commands(&pipeline, 0, count)
        .await
        .map_err(|error| faults::of_reply(&error))?;
    let mut values = values.into_iter();
    let info = match values.next() {
        Some(Value::ServerError(error)) => return Err(faults::of_reply(&error.into())),
        Some(info) => redis::from_redis_value::<String>(info)
            .map_err(|_| Fault::unknown(FaultKind::Unexpected, "INFO can't be read"))?,
        None => {
            return Err(Fault::unknown(
                FaultKind::Unexpected,
                "INFO was not answered",
            ));
        }
    };
    let mut directive = || {
        let pair: Vec<String> = redis::from_redis_value(values.next()?).ok()?;
        pair.get(1).cloned()
    };
    let (aof, fsync, skip) = (directive(), directive(), directive());
    let durable = match (aof, fsync, skip) {
        (Some(aof), Some(fsync), Some(skip)) => {
            Some(aof == "yes" && fsync == "always" && skip == "no")
        }
        _ => None,
    };
    Ok(read_info(&info, durable))
}

fn read_info(info: &str, durable: Option<bool>) -> ServerFacts {
    let fields: HashMap<&str, &str> = info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .collect();
    let field = |name: &str| fields.get(name).copied();
    let number = |name: &str| {
        field(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    };
    let valkey = field("valkey_version");
    ServerFacts {
        run_id: field("run_id").unwrap_or_default().to_owned(),
        version: valkey
            .or(field("redis_version"))
            .unwrap_or("unknown")
            .to_owned(),
        product: if valkey.is_some() { "valkey" } else { "redis" }.to_owned(),
        replica: field("role").is_some_and(|role| role != "master"),
        cluster_mode: field("cluster_enabled") == Some("1"),
        uptime_secs: number("uptime_in_seconds"),
        eviction: field("maxmemory_policy").map(ToOwned::to_owned),
        durable,
        replicas: number("connected_slaves"),
        // A server that was promoted remembers the replication id of its former master.
        promoted: field("master_replid2").is_some_and(|id| id.contains(|digit| digit != '0'))
            && field("second_repl_offset").is_some_and(|offset| offset != "-1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_info() {
        let info = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\nuptime_in_seconds:17\r\n\
                    # Replication\r\nrole:slave\r\nconnected_slaves:2\r\n\
                    master_replid2:0000000000000000000000000000000000000000\r\n\
                    second_repl_offset:-1\r\ncluster_enabled:0\r\nmaxmemory_policy:allkeys-lru\r\n";
        let facts = read_info(info, None);
        assert_eq!(
            (facts.run_id.as_str(), facts.uptime_secs, facts.replicas),
            ("abc", 17, 2)
        );
        assert!(facts.replica && !facts.cluster_mode && !facts.promoted);
        assert_eq!(facts.eviction.as_deref(), Some("allkeys-lru"));
    }
}
