//! The servers that are compared through HTTP.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everlock_benches::{LEASE, proxy_program, runtime};
use everlock_testkit::{RedisCluster, eventually};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SERVER: &str = "EVERLOCK_BENCH_SERVER";

/// How a server is talked to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect {
    Evermind,
    Etcd,
}

/// A server in a process of its own, gone with the value.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) dialect: Dialect,
    pub(crate) addr: SocketAddr,
    /// The API key that it demands.
    pub(crate) key: Option<String>,
    process: Child,
    data: Option<std::path::PathBuf>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(data) = &self.data {
            let _ = std::fs::remove_dir_all(data);
        }
    }
}

impl Server {
    /// All that are installed, over these nodes.
    pub(crate) async fn all(nodes: &RedisCluster) -> Vec<Self> {
        let mut all = vec![
            Self::everlock("everlock serve", &[], nodes).await,
            Self::everlock("everlock serve, one thread", &["--threads", "1"], nodes).await,
            Self::everlock_with_all(nodes).await,
            Self::own("rslock behind hyper", "rslock", &nodes.urls()).await,
            Self::own("hyper alone", "bare", &[]).await,
        ];
        match Self::etcd().await {
            Some(etcd) => all.push(etcd),
            None => println!("etcd is not installed, and not compared"),
        }
        all
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// With API keys demanded, and metrics that are asked for each second.
    async fn everlock_with_all(nodes: &RedisCluster) -> Self {
        const SECRETS: &str = "EVERLOCK_API_KEY_SECRETS";
        let secret = "0123456789abcdef".repeat(4);
        let admin = free_addr().await;
        let mut command = Command::new(proxy_program());
        let issued = command
            .args(["keys", "issue", "--identity", "bench"])
            .env(SECRETS, &secret)
            .output()
            .expect("the proxy's program can be started");
        let key = String::from_utf8_lossy(&issued.stdout).trim().to_owned();
        let name = "everlock serve, keys, metrics";
        let options = ["--auth", "keys", "--admin-listen", &admin.to_string()];
        let mut server = Self::everlock_in(name, &options, nodes, |command| {
            command.env(SECRETS, &secret);
        })
        .await;
        server.key = Some(key);
        tokio::spawn(async move {
            // It answers to its own name only.
            let get =
                format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
            // Until the server is gone.
            while let Ok(mut stream) = TcpStream::connect(admin).await {
                let mut answer = Vec::new();
                let asked = stream.write_all(get.as_bytes()).await;
                if asked.is_ok() && stream.read_to_end(&mut answer).await.is_ok() {
                    assert!(answer.starts_with(b"HTTP/1.1 200"), "metrics are there");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        server
    }

    pub(crate) async fn everlock(
        name: &'static str,
        options: &[&str],
        nodes: &RedisCluster,
    ) -> Self {
        Self::everlock_in(name, options, nodes, |_| ()).await
    }

    async fn everlock_in(
        name: &'static str,
        options: &[&str],
        nodes: &RedisCluster,
        surroundings: impl FnOnce(&mut Command),
    ) -> Self {
        let addr = free_addr().await;
        let mut command = Command::new(proxy_program());
        surroundings(&mut command);
        command
            .args(["serve", "--listen", &addr.to_string()])
            .args(options);
        for url in nodes.urls() {
            command.args(["--node", &url]);
        }
        Self::start(name, Dialect::Evermind, addr, &mut command).await
    }

    /// This program again, as a server.
    async fn own(name: &'static str, kind: &str, urls: &[String]) -> Self {
        let addr = free_addr().await;
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.env(SERVER, format!("{kind};{addr};{}", urls.join(",")));
        Self::start(name, Dialect::Evermind, addr, &mut command).await
    }

    async fn etcd() -> Option<Self> {
        Command::new("etcd").arg("--version").output().ok()?;
        let (addr, peer) = (free_addr().await, free_addr().await);
        let (client, peer) = (format!("http://{addr}"), format!("http://{peer}"));
        let data = std::path::PathBuf::from(format!("/dev/shm/bench-etcd-{}", std::process::id()));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(&data).args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("default={peer}"),
        ]);
        let mut etcd = Self::start("etcd", Dialect::Etcd, addr, &mut command).await;
        etcd.data = Some(data);
        Some(etcd)
    }

    async fn start(
        name: &'static str,
        dialect: Dialect,
        addr: SocketAddr,
        command: &mut Command,
    ) -> Self {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self {
            name,
            dialect,
            addr,
            key: None,
            process: command.spawn().expect("a server can be started"),
            data: None,
        };
        let listens = || async { TcpStream::connect(addr).await.is_ok() };
        let started = eventually(Duration::from_secs(20), listens).await;
        assert!(started, "{name} does not listen");
        tokio::time::sleep(Duration::from_millis(500)).await;
        server
    }
}

async fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// Whether this process was started as a server; it ends by being killed.
pub(crate) fn serve_if_asked() -> bool {
    let Ok(order) = std::env::var(SERVER) else {
        return false;
    };
    let parts: Vec<_> = order.split(';').collect();
    let [kind, addr, urls] = parts[..] else {
        panic!("not an order: {order}")
    };
    let rslock = (kind == "rslock").then(|| {
        let urls: Vec<_> = urls.split(',').map(str::to_owned).collect();
        rslock::LockManager::new(urls)
    });
    runtime(2).block_on(serve(addr, rslock));
    true
}

/// The locks that are held, by their keys.
type Held = Arc<Mutex<HashMap<String, rslock::Lock>>>;

async fn serve(addr: &str, rslock: Option<rslock::LockManager>) {
    let listener = TcpListener::bind(addr).await.expect("the port is free");
    let held = Held::default();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (rslock, held) = (rslock.clone(), Arc::clone(&held));
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (rslock, held) = (rslock.clone(), Arc::clone(&held));
                async move { Ok::<_, Infallible>(answer(request, rslock, held).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    rslock: Option<rslock::LockManager>,
    held: Held,
) -> Response<Full<Bytes>> {
    let acquires = request.uri().path() == "/lock/acquire";
    let body = request.into_body().collect().await;
    let body = body.map(http_body_util::Collected::to_bytes);
    let body: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let key = body["key"].as_str().unwrap_or_default().to_owned();
    let held = || held.lock().unwrap_or_else(PoisonError::into_inner);
    let done = match rslock {
        None => true,
        Some(rslock) if acquires => match rslock.acquire_no_guard(key.as_bytes(), LEASE).await {
            Ok(lock) => {
                held().insert(key, lock);
                true
            }
            Err(_) => false,
        },
        Some(rslock) => {
            let lock = held().remove(&key);
            if let Some(lock) = &lock {
                rslock.unlock(lock).await;
            }
            lock.is_some()
        }
    };
    let answer = if acquires {
        json!({"acquired": done, "lockAcquisitionAttempts": 1, "message": null})
    } else {
        json!({"released": done, "message": null})
    };
    Response::new(Full::new(answer.to_string().into()))
}
