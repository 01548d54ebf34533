//! Two processes that want one key: how long it lies free between them.
//!
//! The workers are this program again. Each prints what it did by the system's
//! clock since boot, which all processes share, and the history is judged before
//! it is counted.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use everlock::Redlock;
use everlock::clock::{Clock as _, SystemClock};
use everlock_benches::{Connection, Locker, Way, nothing_left, runtime};
use everlock_testkit::RedisCluster;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::process::Command;

use crate::Plan;
use crate::http_peers::Server;
use crate::table::{Figures, Row, Table, count};

const WORKER: &str = "EVERLOCK_BENCH_WORKER";
/// The lock, as clients of a proxy call it, and its name on the nodes.
const KEY: &str = "bench:two";
const RESOURCE: &str = "Evermind:anonymous:bench:two";
const HOLD: Duration = Duration::from_millis(5);
/// Clients that listen wake long before; those that poll wait for this.
const LONG_DELAY: Duration = Duration::from_millis(500);
const SHORT_DELAY: Duration = Duration::from_millis(5);

/// One section, in microseconds since boot.
#[derive(Clone, Copy, Debug)]
struct Section {
    process: usize,
    asked: u64,
    acquired: u64,
    released: u64,
    token: u64,
}

pub(crate) fn run(plan: Plan) -> Vec<Table> {
    let nodes = RedisCluster::start(5);
    let runtime = runtime(1);
    let rows = runtime.block_on(async {
        // Opens the nodes for the workers.
        Locker::everlock(&nodes).await;
        let one = Server::everlock("everlock serve", &[], &nodes).await;
        let other = Server::everlock("everlock serve", &[], &nodes).await;
        let proxies = [one.addr, other.addr];
        let loads = [
            ("everlock", ["everlock"; 2], LONG_DELAY),
            ("everlock, with_lock", ["sections"; 2], LONG_DELAY),
            ("everlock, FIFO", ["fifo"; 2], LONG_DELAY),
            ("everlock, two proxies", ["proxy"; 2], LONG_DELAY),
            (
                "everlock, library and proxy",
                ["everlock", "proxy"],
                LONG_DELAY,
            ),
            ("rslock, tuned", ["rslock"; 2], SHORT_DELAY),
        ];
        let mut rows = Vec::new();
        for tasks in [1, 8] {
            let load = format!("2 × {}", count(tasks, "task"));
            let row = |(name, ..): &(&str, _, _)| Row::of(&load, *name);
            let mut of_load: Vec<_> = loads.iter().map(row).collect();
            for _ in 0..plan.rounds {
                for ((_, kinds, delay), row) in loads.iter().zip(&mut of_load) {
                    let orders = [0, 1].map(|number| Order {
                        nodes: nodes.urls(),
                        kind: kinds[number].to_owned(),
                        proxy: proxies[number],
                        tasks,
                        delay: *delay,
                        time: plan.time * 2,
                    });
                    row.add(measure(orders).await);
                    nothing_left(&nodes).await;
                }
            }
            rows.extend(of_load);
        }
        rows
    });
    vec![Table {
        title: "One key, two processes",
        about: "Two processes want one key and hold it for 5 ms each time. A hand-over is the \
                time from a release until another task has the lock. everlock's retry delay is \
                500 ms, which wake-ups make of no account; rslock's is 5 ms. With *two proxies* \
                each process asks a proxy of its own, with *library and proxy* one does.",
        rows,
    }]
}

/// What a worker is to do.
struct Order {
    nodes: Vec<String>,
    /// A client, by name.
    kind: String,
    /// Which of the proxies it talks to, if it is a client of one.
    proxy: SocketAddr,
    tasks: usize,
    delay: Duration,
    time: Duration,
}

impl Order {
    fn to_text(&self) -> String {
        let (nodes, delay, time) = (&self.nodes, self.delay.as_millis(), self.time.as_millis());
        let Self {
            kind, proxy, tasks, ..
        } = self;
        format!("{};{kind};{proxy};{tasks};{delay};{time}", nodes.join(","))
    }

    fn of(text: &str) -> Self {
        let parts: Vec<_> = text.split(';').collect();
        let [nodes, kind, proxy, tasks, delay, time] = parts[..] else {
            panic!("not an order: {text}")
        };
        let millis = |text: &str| Duration::from_millis(text.parse().expect("a number"));
        Self {
            nodes: nodes.split(',').map(str::to_owned).collect(),
            kind: kind.to_owned(),
            proxy: proxy.parse().expect("an address"),
            tasks: tasks.parse().expect("some tasks"),
            delay: millis(delay),
            time: millis(time),
        }
    }
}

async fn measure(orders: [Order; 2]) -> Figures {
    let program = std::env::current_exe().expect("this program has a path");
    let spawn = |order: Order| {
        let mut worker = Command::new(&program);
        worker.env(WORKER, order.to_text()).stdout(Stdio::piped());
        worker
            .kill_on_drop(true)
            .spawn()
            .expect("this program can be started")
    };
    let workers = orders.map(spawn);
    let mut sections = Vec::new();
    for (process, worker) in workers.into_iter().enumerate() {
        let output = worker.wait_with_output().await;
        let output = output.expect("a worker ends");
        assert!(output.status.success(), "a worker failed");
        let text = String::from_utf8_lossy(&output.stdout);
        sections.extend(text.lines().filter_map(|line| parse(process, line)));
    }
    judged(sections)
}

fn parse(process: usize, line: &str) -> Option<Section> {
    let mut numbers = line.split(' ').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    Some(Section {
        process,
        asked: next()?,
        acquired: next()?,
        released: next()?,
        token: next()?,
    })
}

fn judged(mut sections: Vec<Section>) -> Figures {
    sections.sort_by_key(|section| section.acquired);
    // While only one of them runs there is nobody to hand over to.
    let of = |process: usize| sections.iter().filter(move |of| of.process == process);
    let both_from = (0..2).filter_map(|process| of(process).map(|of| of.asked).min());
    let both_from = both_from.max().unwrap_or_default();
    let both_until = (0..2).filter_map(|process| of(process).map(|of| of.released).max());
    let both_until = both_until.min().unwrap_or_default();
    let (mut hand_overs, mut across) = (histogram(), histogram());
    let mut waits = histogram();
    let mut counts = [0u64; 2];
    for pair in sections.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        assert!(after.acquired >= before.released, "two holders at once");
        assert!(
            after.token == 0 || after.token > before.token,
            "tokens rise"
        );
        if after.acquired < both_from || after.acquired > both_until {
            continue;
        }
        counts[after.process] += 1;
        waits += after.acquired - after.asked;
        if after.asked <= before.released {
            hand_overs += after.acquired - before.released;
            if after.process != before.process {
                across += after.acquired - before.released;
            }
        }
    }
    let [fewer, more] = [counts[0].min(counts[1]), counts[0].max(counts[1])];
    let seconds = both_until.saturating_sub(both_from).max(1) as f64 / 1e6;
    let ms = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1_000.0;
    vec![
        ("sections/s", (fewer + more) as f64 / seconds),
        ("hand-over p50, ms", ms(&hand_overs, 0.5)),
        ("p99, ms", ms(&hand_overs, 0.99)),
        ("to the other process p50, ms", ms(&across, 0.5)),
        ("wait p99, ms", ms(&waits, 0.99)),
        ("fewer / more", fewer as f64 / more.max(1) as f64),
    ]
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

/// Whether this process was started as a worker; it has done its work then.
pub(crate) fn work_if_asked() -> bool {
    let Ok(order) = std::env::var(WORKER) else {
        return false;
    };
    runtime(1).block_on(work(Order::of(&order)));
    true
}

/// Who takes the lock.
#[derive(Clone)]
enum Client {
    Own(Locker),
    /// Through a proxy there.
    Proxy(SocketAddr),
}

impl Client {
    async fn of(order: &Order) -> Self {
        let urls = order.nodes.clone();
        let way = match order.kind.as_str() {
            "proxy" => return Self::Proxy(order.proxy),
            "rslock" => {
                let mut manager = rslock::LockManager::new(urls);
                manager.set_retry(1_000_000, order.delay);
                let name = "rslock";
                return Self::Own(Locker::Rslock { manager, name });
            }
            "fifo" => Way::InTurn,
            "sections" => Way::Sections,
            _ => Way::Grants,
        };
        let redlock = Redlock::builder().node_urls(urls).connect().await;
        let redlock = redlock.expect("the nodes are open");
        Self::Own(Locker::Everlock { redlock, way })
    }

    /// Runs sections until then. What was done, a line each.
    async fn work(self, delay: Duration, until: u64) -> Vec<String> {
        let mut connection = match &self {
            Self::Own(_) => None,
            Self::Proxy(addr) => Some(Connection::open(*addr).await),
        };
        let mut lines = Vec::new();
        while now() < until {
            let asked = now();
            let (mut held, mut token) = ((0, 0), 0);
            let section = async |under: Option<u64>| {
                token = under.unwrap_or_default();
                held.0 = now();
                tokio::time::sleep(HOLD).await;
                held.1 = now();
            };
            match (&self, &mut connection) {
                (Self::Own(locker), _) => {
                    locker.cycle(RESOURCE, delay, section).await;
                }
                (Self::Proxy(_), Some(connection)) => through(connection, delay, section).await,
                (Self::Proxy(_), None) => {}
            }
            lines.push(format!("{asked} {} {} {token}", held.0, held.1));
        }
        lines
    }
}

/// A section under the same lock through a proxy.
async fn through(
    connection: &mut Connection,
    delay: Duration,
    section: impl AsyncFnOnce(Option<u64>),
) {
    let uuid = uuid::Uuid::new_v4().to_string();
    let delay = u64::try_from(delay.as_millis()).expect("a short time");
    let acquire = json!({
        "key": KEY, "uuid": uuid, "lease": 10_000,
        "retryAttempts": 50, "retryDelay": delay, "retryJitter": delay,
    });
    let acquire = acquire.to_string();
    let answer = connection.post("/lock/acquire", &acquire).await;
    assert_eq!(answer["acquired"], true, "{answer}");
    section(answer["fencingToken"].as_u64()).await;
    let release = json!({"key": KEY, "uuid": uuid});
    let release = release.to_string();
    let answer = connection.post("/lock/release", &release).await;
    assert_eq!(answer["released"], true, "{answer}");
}

async fn work(order: Order) {
    let client = Client::of(&order).await;
    let until = now() + u64::try_from(order.time.as_micros()).expect("a short time");
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..order.tasks {
        running.spawn(client.clone().work(order.delay, until));
    }
    while let Some(lines) = running.join_next().await {
        for line in lines.expect("a task does not fail") {
            println!("{line}");
        }
    }
}

/// Microseconds since the machine was started.
fn now() -> u64 {
    u64::try_from(SystemClock.now().since_origin().as_micros()).expect("not for that long")
}
