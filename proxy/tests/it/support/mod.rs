//! A running proxy, in this process or as the real program, and a client for it.

mod client;
mod tls_client;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use everlock::Redlock;
use everlock_proxy::config::{Listen, Settings, Sources};
use everlock_proxy::server::{self, Listeners};
use everlock_proxy::{App, Insights, Watchers, nodes};
use everlock_testkit::{ProcessUnderTest, RedisCluster};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use client::{Answer, Client, Wire};
pub(crate) use tls_client::{TlsClient, post_h2};

/// Generous on a busy machine; only a test that fails waits this long.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_everlock");

/// A proxy over nodes in memory, in this process.
pub(crate) struct Local {
    pub(crate) addr: SocketAddr,
    pub(crate) redlock: Redlock,
    pub(crate) insights: Arc<Insights>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<bool>,
}

impl Local {
    /// Starts one with these flags besides `--dev`, at a port of its own.
    pub(crate) async fn start(flags: &[(&str, &str)]) -> Self {
        let flags = flags
            .iter()
            .chain(&[("dev", "true"), ("listen", "127.0.0.1:0")]);
        let mut given = BTreeMap::<_, Vec<_>>::new();
        for (flag, value) in flags {
            given
                .entry((*flag).to_owned())
                .or_default()
                .push((*value).to_owned());
        }
        let flags = given;
        let env = Vec::new();
        let settings = Settings::read(Sources { flags, env }).unwrap();
        let redlock = nodes::connect(&settings).await.unwrap();
        let listeners =
            Listeners::bind(&settings.listen, settings.socket_mode, settings.tls.clone());
        let listeners = listeners.await.unwrap();
        let addr = listeners.addresses().into_iter().find_map(|one| match one {
            Listen::Tcp(addr) => Some(addr),
            Listen::Unix(_) => None,
        });
        let gate = nodes::gate(&settings, &redlock).unwrap();
        let prefix = &settings.global_prefix;
        let insights = Insights::on();
        let recorder = Arc::clone(&insights);
        let watchers = Watchers {
            insights: recorder,
            ..Watchers::default()
        };
        let app = App::watched(redlock.clone(), prefix, settings.limits, gate, watchers);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server::run(listeners, app, async {
            let _ = stopped.await;
        }));
        Self {
            addr: addr.expect("one listener is at an address"),
            redlock,
            insights,
            stop: Some(stop),
            task,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Asks for the end, as a signal does.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Whether it ended in order.
    pub(crate) async fn ended(self) -> bool {
        let ended = tokio::time::timeout(SOON, self.task).await;
        ended.expect("it ends").expect("it does not panic")
    }
}

/// The real program.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    pub(crate) process: ProcessUnderTest,
}

impl Proxy {
    /// Starts it over these nodes, which are initialised first.
    pub(crate) async fn over(nodes: &RedisCluster, flags: &[&str]) -> Self {
        init(&nodes.urls()).await;
        Self::over_urls(&nodes.urls(), flags).await
    }

    /// Starts it over these nodes as they are.
    pub(crate) async fn over_urls(urls: &[String], flags: &[&str]) -> Self {
        Self::over_with(urls, flags, &[]).await
    }

    /// The same, with these variables.
    pub(crate) async fn over_with(urls: &[String], flags: &[&str], env: &[(&str, &str)]) -> Self {
        let nodes = node_flags(urls);
        let nodes = nodes.iter().map(String::as_str);
        let fixed = ["serve", "--listen", "127.0.0.1:0"];
        let args: Vec<_> = fixed
            .into_iter()
            .chain(nodes)
            .chain(flags.iter().copied())
            .collect();
        Self::spawn(&args, env).await
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn spawn(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut process = ProcessUnderTest::spawn(BINARY, args, env);
        let line = process
            .wait_for_line(|line| line.contains("listening"), SOON)
            .await;
        let (plain, json) = (line.split_once("listen="), line.split_once("\"listen\":\""));
        let addr = plain
            .or(json)
            .and_then(|(_, rest)| rest.split([' ', '"']).next());
        let addr = addr.and_then(|addr| addr.parse().ok());
        Self {
            addr: addr.unwrap_or_else(|| panic!("no address in {line:?}")),
            process,
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Waits until a quorum of nodes votes.
    pub(crate) async fn ready(self) -> Self {
        let client = self.client();
        client.until_ready(200).await;
        self
    }
}

/// Opens the nodes for voting.
pub(crate) async fn init(urls: &[String]) {
    let (status, output) = cluster("init", urls, &[]).await;
    assert!(status.success(), "{output}");
}

/// Runs `everlock cluster COMMAND` to its end.
pub(crate) async fn cluster(
    command: &str,
    urls: &[String],
    flags: &[&str],
) -> (ExitStatus, String) {
    let nodes = node_flags(urls);
    let nodes = nodes.iter().map(String::as_str);
    let args: Vec<_> = ["cluster", command]
        .into_iter()
        .chain(nodes)
        .chain(flags.iter().copied())
        .collect();
    run(&args, &[]).await
}

/// Runs the program to its end.
pub(crate) async fn run(args: &[&str], env: &[(&str, &str)]) -> (ExitStatus, String) {
    let mut process = ProcessUnderTest::spawn(BINARY, args, env);
    let status = process.wait_exit(SOON).await;
    (status, process.output())
}

/// `--node URL` for each.
pub(crate) fn node_flags(urls: &[String]) -> Vec<String> {
    let pairs = urls.iter().map(|url| ["--node".to_owned(), url.clone()]);
    pairs.flatten().collect()
}

/// How long something took, by a clock that tests may read.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = tokio::time::Instant::now();
    let done = work.await;
    (done, started.elapsed())
}
