//! What authentication, metrics and traces cost the proxy: its CPU time for an acquire and a release
//! over five real nodes, without API keys, with them, and with a licence whose attempts are counted;
//! with an admin listener that is scraped every second; and with every request traced.
//!
//! The proxies take turns, so that whatever else the machine does falls on all of them; the
//! figures are medians over the rounds. `cargo bench -p everlock-proxy --bench authentication`

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that can't do its work stops"
)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use everlock_testkit::{ProcessUnderTest, RedisCluster, eventually};
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
    base: String,
    authorization: String,
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
    let file = std::env::temp_dir().join(format!("everlock-bench-{}.toml", std::process::id()));
    let hash = Command::new("sh")
        .args(["-c", "printf %s \"$0\" | sha256sum", LICENCE])
        .output();
    let hash = String::from_utf8(hash.unwrap().stdout).unwrap()[..64].to_owned();
    let text = format!(
        "[[licence]]\nkey-sha256 = \"{hash}\"\nidentity = \"bench\"\nallowance = 1000000000\n"
    );
    std::fs::write(&file, text).unwrap();

    let issued = output(&["keys", "issue", "--identity", "bench"], &[SECRETS]).await;
    let open = start("without", &[], &env[..1], "none").await;
    let keys = start("API keys", &["--auth", "keys"], &env, &issued).await;
    let flags = [
        "--auth",
        "licence",
        "--licence-file",
        file.to_str().unwrap(),
    ];
    let mut licence = start("licence, counted", &flags, &env, "").await;
    let made = output(
        &["keys", "create", "-l", LICENCE, "--base-url", &licence.base],
        &[],
    )
    .await;
    licence.authorization = format!("Bearer {made}");
    let flags = ["--admin-listen", "127.0.0.1:0"];
    let mut metrics = start("metrics, scraped", &flags, &env[..1], "none").await;
    scrape(&mut metrics).await;
    let endpoint = collector().await;
    let traced = [env[0], ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let all = start("traces of all", &[], &traced, "none").await;
    let mut proxies = [open, keys, licence, metrics, all];
    for round in 0..=ROUNDS {
        for proxy in &mut proxies {
            let took = measure(proxy).await;
            // The first round warms up.
            if round > 0 {
                proxy.rounds.push(took);
            }
        }
    }
    let median = |mut figures: Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    for proxy in &proxies {
        // Against the round of the same moment: the machine differs more from round to round.
        let pairs = proxy.rounds.iter().zip(&proxies[0].rounds);
        let more = median(
            pairs
                .map(|(own, open)| (own / open - 1.0) * 100.0)
                .collect(),
        );
        let micros = median(proxy.rounds.clone());
        println!(
            "{:<18} {micros:>7.1} µs of CPU a cycle   {more:>+5.1} %",
            proxy.name
        );
    }
    let _ = std::fs::remove_file(file);
}

async fn start(name: &'static str, flags: &[&str], env: &[(&str, &str)], key: &str) -> Proxy {
    let fixed = ["serve", "--listen", "127.0.0.1:0"];
    let args: Vec<_> = fixed.iter().chain(flags).copied().collect();
    let mut process = ProcessUnderTest::spawn(BINARY, &args, env);
    let line = process
        .wait_for_line(|line| line.contains("listening"), SOON)
        .await;
    let addr = line
        .split_once("listen=")
        .unwrap()
        .1
        .split(' ')
        .next()
        .unwrap();
    let base = format!("http://{addr}");
    let ready = eventually(SOON, || async {
        get(&format!("{base}/readyz")).await == 200
    });
    assert!(ready.await, "{}", process.output());
    Proxy {
        name,
        process,
        base,
        authorization: format!("Bearer {key}"),
        rounds: Vec::new(),
    }
}

/// Has its metrics read every second from now on.
async fn scrape(proxy: &mut Proxy) {
    let served = |line: &str| line.contains("operators are served");
    let line = proxy.process.wait_for_line(served, SOON).await;
    let addr = line.split_once("admin=").unwrap().1;
    let url = format!("http://{}/metrics", addr.split(' ').next().unwrap());
    assert_eq!(get(&url).await, 200);
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

async fn get(url: &str) -> u16 {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::get(url).body(Full::default()).unwrap();
    let answered = client.request(request).await;
    answered.map_or(0, |answer| answer.status().as_u16())
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
