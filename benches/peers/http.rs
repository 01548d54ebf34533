//! Through HTTP: the proxy beside what would do in its place.
//!
//! The load is a client of a few lines for keep-alive connections, so that the
//! servers are what is measured; each answer is looked at.

use std::time::Duration;

use everlock_benches::{Connection, Locker, Meter, nothing_left, runtime};
use everlock_testkit::RedisCluster;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Plan;
use crate::http_peers::{Dialect, Server};
use crate::table::{Figures, Row, Table, count};

const CONNECTIONS: [usize; 2] = [1, 64];

pub(crate) fn run(plan: Plan) -> Vec<Table> {
    let nodes = RedisCluster::start(5);
    let runtime = runtime(1);
    let rows = runtime.block_on(async {
        // Opens the nodes for the proxy.
        Locker::everlock(&nodes).await;
        let servers = Server::all(&nodes).await;
        let mut rows = Vec::new();
        for connections in CONNECTIONS {
            let row = |server: &Server| Row::of(count(connections, "connection"), server.name);
            let mut of_load: Vec<_> = servers.iter().map(row).collect();
            for _ in 0..plan.rounds {
                for (server, row) in servers.iter().zip(&mut of_load) {
                    row.add(measure(server, &nodes, connections, plan.time).await);
                    nothing_left(&nodes).await;
                }
            }
            rows.extend(of_load);
        }
        rows
    });
    vec![Table {
        title: "Through HTTP",
        about: "Acquire and release over keep-alive connections, each for a key of its own, \
                over the same five nodes. *everlock serve* logs every request, to nowhere; \
                with *keys, metrics* it also demands an API key, and its metrics are \
                asked for each second. \
                *rslock behind hyper* and *hyper alone*, which answers without asking anybody, \
                are servers of a screenful. etcd's lock service is asked through its JSON \
                gateway: one member on a disk in memory, a lease for each connection.",
        rows,
    }]
}

async fn measure(
    server: &Server,
    nodes: &RedisCluster,
    connections: usize,
    time: Duration,
) -> Figures {
    load(server, connections, time / 4).await;
    let meter = Meter::start(nodes, &[]);
    let before = Meter::process_nanos(server.pid());
    let started = Instant::now();
    let waits = load(server, connections, time).await;
    let took = started.elapsed().as_secs_f64();
    let cycles = waits.len().max(1) as f64;
    let cpu = (Meter::process_nanos(server.pid()) - before) as f64 / 1_000.0;
    vec![
        ("cycles/s", cycles / took),
        ("acquire p50, µs", waits.value_at_quantile(0.5) as f64),
        ("p99, µs", waits.value_at_quantile(0.99) as f64),
        ("server's CPU, µs", cpu / cycles),
        ("nodes' CPU, µs", meter.nodes_micros(nodes) as f64 / cycles),
    ]
}

async fn load(server: &Server, connections: usize, time: Duration) -> Histogram<u64> {
    let until = Instant::now() + time;
    let mut running = JoinSet::new();
    for number in 0..connections {
        let (addr, dialect, key) = (server.addr, server.dialect, server.key.clone());
        running.spawn(async move {
            let mut waits = Histogram::<u64>::new(3).expect("three digits are possible");
            let connection = Connection::open(addr).await;
            let mut connection = connection.with_key(key.as_deref());
            let mut talk = Talk::begin(dialect, number, &mut connection).await;
            while Instant::now() < until {
                let asked = Instant::now();
                talk.acquire(&mut connection).await;
                waits += u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
                talk.release(&mut connection).await;
            }
            waits
        });
    }
    let mut all = Histogram::new(3).expect("three digits are possible");
    while let Some(waits) = running.join_next().await {
        all += waits.expect("a connection does not fail");
    }
    all
}

/// What is said on one connection.
struct Talk {
    dialect: Dialect,
    /// The requests, written once; etcd's release has the key of its answer in it.
    acquire: String,
    release: String,
    token: u64,
}

impl Talk {
    async fn begin(dialect: Dialect, number: usize, on: &mut Connection) -> Self {
        let key = format!("bench:{number}");
        let (acquire, release) = match dialect {
            Dialect::Evermind => {
                let uuid = format!("owner-{number}");
                let acquire = json!({"key": key, "uuid": uuid, "lease": 10_000});
                let release = json!({"key": key, "uuid": uuid});
                (acquire.to_string(), release.to_string())
            }
            Dialect::Etcd => {
                let granted = on.post("/v3/lease/grant", r#"{"TTL":60}"#).await;
                let lease = granted["ID"].as_str().expect("a lease has an id");
                let name = base64(key.as_bytes());
                (
                    json!({"name": name, "lease": lease}).to_string(),
                    String::new(),
                )
            }
        };
        Self {
            dialect,
            acquire,
            release,
            token: 0,
        }
    }

    async fn acquire(&mut self, on: &mut Connection) {
        match self.dialect {
            Dialect::Evermind => {
                let answer = on.post("/lock/acquire", &self.acquire).await;
                assert_eq!(answer["acquired"], true, "{answer}");
                if let Some(token) = answer["fencingToken"].as_u64() {
                    assert!(token > self.token, "tokens rise");
                    self.token = token;
                }
            }
            Dialect::Etcd => {
                let answer = on.post("/v3/lock/lock", &self.acquire).await;
                self.release = json!({"key": answer["key"]}).to_string();
            }
        }
    }

    async fn release(&mut self, on: &mut Connection) {
        match self.dialect {
            Dialect::Evermind => {
                let answer = on.post("/lock/release", &self.release).await;
                assert_eq!(answer["released"], true, "{answer}");
            }
            Dialect::Etcd => {
                on.post("/v3/lock/unlock", &self.release).await;
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
