//! Acquire and release through the proxy over five nodes, on one and on several threads of it.
//!
//! It measures the proxy that was built last: `cargo build --release -p everlock-proxy` first.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use everlock_benches::{Connection, Locker, nothing_left, proxy_program, runtime};
use everlock_testkit::{RedisCluster, eventually};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

struct Proxy {
    addr: SocketAddr,
    process: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Proxy {
    async fn start(nodes: &RedisCluster, threads: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await;
        let addr = free.and_then(|free| free.local_addr());
        let addr = addr.expect("a port is free");
        let mut command = Command::new(proxy_program());
        command.args(["serve", "--listen", &addr.to_string()]);
        command.args(["--threads", threads]);
        for url in nodes.urls() {
            command.args(["--node", &url]);
        }
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the proxy can be started");
        let proxy = Self { addr, process };
        let listens = || async { TcpStream::connect(addr).await.is_ok() };
        let started = eventually(Duration::from_secs(20), listens).await;
        assert!(started, "the proxy does not listen");
        proxy
    }

    /// So many cycles on so many connections, each with a key of its own.
    async fn cycles(&self, connections: u64, cycles: u64) -> Duration {
        let mut running = JoinSet::new();
        let started = Instant::now();
        for number in 0..connections {
            let addr = self.addr;
            let share = cycles / connections + u64::from(number < cycles % connections);
            running.spawn(async move {
                let mut connection = Connection::open(addr).await;
                let (key, uuid) = (format!("bench:{number}"), format!("owner-{number}"));
                let acquire = json!({"key": key, "uuid": uuid, "lease": 10_000}).to_string();
                let release = json!({"key": key, "uuid": uuid}).to_string();
                let mut last = 0;
                for _ in 0..share {
                    let answer = connection.post("/lock/acquire", &acquire).await;
                    let token = answer["fencingToken"].as_u64().expect("it is acquired");
                    assert!(token > last, "tokens rise");
                    last = token;
                    let answer = connection.post("/lock/release", &release).await;
                    assert_eq!(answer["released"], true, "{answer}");
                }
            });
        }
        while let Some(done) = running.join_next().await {
            done.expect("a connection does not fail");
        }
        started.elapsed()
    }
}

fn http(criterion: &mut Criterion) {
    let runtime = runtime(1);
    let nodes = RedisCluster::start(5);
    // Opens the nodes for the proxy.
    runtime.block_on(Locker::everlock(&nodes));
    let mut group = criterion.benchmark_group("proxy over five redis nodes");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for threads in ["1", "2"] {
        let proxy = runtime.block_on(Proxy::start(&nodes, threads));
        for connections in [1, 8, 64] {
            let id = BenchmarkId::new(
                format!("{threads} threads"),
                format!("{connections} at once"),
            );
            group.bench_function(id, |bencher| {
                bencher
                    .to_async(&runtime)
                    .iter_custom(|cycles| proxy.cycles(connections, cycles));
            });
        }
    }
    group.finish();
    runtime.block_on(nothing_left(&nodes));
}

criterion_group!(benches, http);
criterion_main!(benches);
