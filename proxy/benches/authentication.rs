//! What authentication, the log, metrics and traces cost the proxy: its CPU time for an acquire and a
//! release over five real nodes, without API keys, with them, and with a licence whose attempts are
//! counted; with a log of errors alone; with an admin listener that is scraped every second; with
//! every request traced; and with API keys, metrics and traces together.
//!
//! The proxies take turns, so that whatever else the machine does falls on all of them; the
//! figures are medians over the rounds, and what the middle half of the rounds was between.
//! `cargo bench -p everlock-proxy --bench authentication`

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that can't do its work stops"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use everlock_testkit::{ProcessUnderTest, RedisCluster, ReservedPort, TempDir, eventually};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};

const BINARY: &str = env!("CARGO_BIN_EXE_everlock");
const SECRETS: (&str, &str) = (
    "EVERLOCK_API_KEY_SECRETS",
    "the signing secret of a benchmark",
);
const SOON: Duration = Duration::from_secs(20);
const ROUNDS: usize = 60;
const CYCLES: usize = 1_000;
const TASKS: usize = 8;

const LICENCE: &str = "a licence";

struct Proxy {
    name: &'static str,
    process: ProcessUnderTest,
    _port: ReservedPort,
    base: String,
    authorization: String,
    /// Where they are read, if they are.
    metrics: Option<String>,
    rounds: Vec<f64>,
}

#[tokio::main]
async fn main() {
    // Other arguments come from cargo; a test run builds this and measures nothing.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let nodes = RedisCluster::start(5);
    let urls = nodes.urls().join(",");
    let env = [("EVERLOCK_NODES", urls.as_str()), SECRETS];
    let status = ProcessUnderTest::spawn(BINARY, &["cluster", "init"], &env)
        .wait_exit(SOON)
        .await;
    assert!(status.success());
    let folder = TempDir::new("bench");
    let issued = output(&["keys", "issue", "--identity", "bench"], &[SECRETS]).await;
    let mut proxies = vec![
        start("without", &[], &env[..1], "none").await,
        start("API keys", &["--auth", "keys"], &env, &issued).await,
        licensed(&env, folder.path()).await,
    ];
    proxies.extend(watched(&env, &issued).await);
    for round in 0..=ROUNDS {
        for proxy in &mut proxies {
            let took = measure(proxy).await;
            // The first round warms up.
            if round > 0 {
                proxy.rounds.push(took);
            }
        }
    }
    for proxy in &proxies {
        // Against the round of the same moment: the machine differs more from round to round.
        let pairs = proxy.rounds.iter().zip(&proxies[0].rounds);
        let more = pairs.map(|(own, open)| (own / open - 1.0) * 100.0);
        let [low, more, high] = quartiles(more.collect());
        let [_, micros, _] = quartiles(proxy.rounds.clone());
        println!(
            "{:<18} {micros:>7.1} µs of CPU a cycle   {more:>+5.1} % ({low:+.1} to {high:+.1})",
            proxy.name
        );
    }
    let metrics = proxies.last().and_then(|all| all.metrics.as_deref());
    let (_, metrics) = get(metrics.expect("it is scraped")).await;
    for line in metrics.lines() {
        if line.starts_with("everlock_trace_spans_total") {
            println!("{line}");
        }
    }
}

/// With a licence from a file.
async fn licensed(env: &[(&str, &str)], folder: &Path) -> Proxy {
    let file = folder.join("licences.toml");
    let hash = Command::new("sh")
        .args(["-c", "printf %s \"$0\" | sha256sum", LICENCE])
        .output();
    let hash = String::from_utf8(hash.unwrap().stdout).unwrap()[..64].to_owned();
    let text = format!(
        "[[licence]]\nkey-sha256 = \"{hash}\"\nidentity = \"bench\"\nallowance = 1000000000\n"
    );
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let flags = ["--auth", "licence", "--licence-file", path];
    let mut proxy = start("licence, counted", &flags, env, "").await;
    let create = ["keys", "create", "-l", LICENCE, "--base-url", &proxy.base];
    proxy.authorization = format!("Bearer {}", output(&create, &[]).await);
    proxy
}

/// With a log that has no line for a request, with metrics, with traces, and with all but that log.
async fn watched(env: &[(&str, &str)], issued: &str) -> [Proxy; 4] {
    let endpoint = collector().await;
    let sending = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        // More than a round has spans: what is lost would cost less than what is sent.
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100000"),
    ];
    let errors = ["--log-level", "error"];
    let quiet = start("log of errors", &errors, &env[..1], "none").await;
    let admin = ["--admin-listen", "127.0.0.1:0"];
    let mut metrics = start("metrics, scraped", &admin, &env[..1], "none").await;
    scrape(&mut metrics).await;
    let own = [&env[..1], &sending].concat();
    let traces = start("traces of all", &[], &own, "none").await;
    let flags = [&["--auth", "keys"], &admin[..]].concat();
    let mut all = start("keys and both", &flags, &[env, &sending].concat(), issued).await;
    scrape(&mut all).await;
    [quiet, metrics, traces, all]
}

async fn start(name: &'static str, flags: &[&str], env: &[(&str, &str)], key: &str) -> Proxy {
    let port = ReservedPort::take();
    let listen = port.addr().to_string();
    // That a busy machine is slow is not what this is about.
    let fixed = ["serve", "--listen", &listen, "--node-timeout", "5s"];
    let args: Vec<_> = fixed.iter().chain(flags).copied().collect();
    let process = ProcessUnderTest::spawn(BINARY, &args, env);
    let base = format!("http://{listen}");
    let ready = eventually(SOON, || async {
        get(&format!("{base}/readyz")).await.0 == 200
    });
    assert!(ready.await, "{}", process.output());
    Proxy {
        name,
        process,
        _port: port,
        base,
        authorization: format!("Bearer {key}"),
        metrics: None,
        rounds: Vec::new(),
    }
}

/// What a quarter, a half and three quarters of them are below.
fn quartiles(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| figures[figures.len() * quarter / 4])
}

/// Has its metrics read every second from now on.
async fn scrape(proxy: &mut Proxy) {
    let served = |line: &str| line.contains("operators are served");
    let line = proxy.process.wait_for_line(served, SOON).await;
    let addr = line.split_once("admin=").unwrap().1;
    let url = format!("http://{}/metrics", addr.split(' ').next().unwrap());
    assert_eq!(get(&url).await.0, 200);
    proxy.metrics = Some(url.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            get(&url).await;
        }
    });
}

/// Takes traces, and looks at none.
async fn collector() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| async move {
                request.into_body().collect().await?;
                Ok::<_, hyper::Error>(Response::new(Full::<Bytes>::default()))
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                let _ = serving.await;
            });
        }
    });
    endpoint
}

async fn output(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut process = ProcessUnderTest::spawn(BINARY, args, env);
    assert!(
        process.wait_exit(SOON).await.success(),
        "{}",
        process.output()
    );
    process.stdout().trim().to_owned()
}

/// The status and the body; no status where there was no answer.
async fn get(url: &str) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::get(url).body(Full::default()).unwrap();
    let Ok(answer) = client.request(request).await else {
        return (0, String::new());
    };
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Microseconds of the proxy's CPU for one cycle.
async fn measure(proxy: &Proxy) -> f64 {
    let before = cpu_nanos(proxy.process.pid());
    let tasks = (0..TASKS).map(|task| {
        let (base, authorization) = (proxy.base.clone(), proxy.authorization.clone());
        tokio::spawn(async move {
            let client = Client::builder(TokioExecutor::new()).build_http();
            for cycle in 0..CYCLES / TASKS {
                let body = format!(r#"{{"key":"{task}-{cycle}","uuid":"u","retryAttempts":0}}"#);
                for path in ["/lock/acquire", "/lock/release"] {
                    let request = Request::post(format!("{base}{path}"))
                        .header("authorization", &authorization)
                        .body(Full::new(Bytes::from(body.clone())))
                        .unwrap();
                    let answer = client.request(request).await;
                    let answer = answer
                        .unwrap_or_else(|error| panic!("{base}{path} in cycle {cycle}: {error:?}"));
                    assert_eq!(answer.status().as_u16(), 200);
                    answer.into_body().collect().await.unwrap();
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let nanos = cpu_nanos(proxy.process.pid()) - before;
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let micros = nanos as f64 / 1_000.0 / CYCLES as f64;
    micros
}

/// What the kernel has given to all threads of a process.
fn cpu_nanos(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).unwrap();
    let nanos = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    nanos.sum()
}
