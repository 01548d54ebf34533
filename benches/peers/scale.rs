//! Many keys that are held, and many that wait for one.

use std::time::Duration;

use everlock::{AcquireOptions, Redlock};
use everlock_benches::{Locker, Meter, Seen, nothing_left, runtime, uncontended};
use everlock_testkit::RedisCluster;
use tokio::task::JoinSet;

use crate::Plan;
use crate::table::{Figures, Row, Table};

const TASKS: usize = 64;
const HELD: [u64; 3] = [0, 10_000, 100_000];
const WAITING: usize = 10_000;
const LONG: Duration = Duration::from_mins(4);
const WATCHED: Duration = Duration::from_secs(5);

pub(crate) fn run(plan: Plan) -> Vec<Table> {
    let runtime = runtime(1);
    let held = runtime.block_on(held(plan));
    let waiting = runtime.block_on(waiting());
    vec![
        Table {
            title: "Many keys held",
            about: "Cycles on 64 keys while so many others are held on the five nodes.",
            rows: held,
        },
        Table {
            title: "Many that wait",
            about: "10,000 tasks of one process wait for one key that is held, with a retry \
                    delay of 500 ms. Memory is what the process grew by; commands are what the \
                    five nodes are sent meanwhile.",
            rows: vec![waiting],
        },
    ]
}

async fn held(plan: Plan) -> Vec<Row> {
    let nodes = RedisCluster::start(5);
    let redlock = connect(&nodes).await;
    let locker = Locker::Everlock {
        redlock: redlock.clone(),
        way: everlock_benches::Way::Grants,
    };
    let (mut rows, mut present) = (Vec::new(), 0);
    for wanted in HELD {
        hold(&redlock, present..wanted).await;
        present = wanted;
        let mut row = Row::of(format!("{wanted} held"), "everlock");
        for _ in 0..plan.rounds {
            uncontended(&locker, TASKS, 2_000).await;
            let meter = Meter::start(&nodes, &[]);
            let seen = uncontended(&locker, TASKS, 20_000).await;
            row.add(figures(&seen, &meter, &nodes));
        }
        rows.push(row);
    }
    rows
}

fn figures(seen: &Seen, meter: &Meter, nodes: &RedisCluster) -> Figures {
    let cycles = seen.cycles as f64;
    vec![
        ("cycles/s", cycles / seen.took.as_secs_f64()),
        ("client CPU, µs", meter.own_micros() as f64 / cycles),
        ("nodes' CPU, µs", meter.nodes_micros(nodes) as f64 / cycles),
    ]
}

/// Takes these locks and keeps them, many at a time.
async fn hold(redlock: &Redlock, which: std::ops::Range<u64>) {
    let mut running = JoinSet::new();
    for number in which {
        if running.len() >= 256 {
            running.join_next().await;
        }
        let redlock = redlock.clone();
        running.spawn(async move {
            let options = AcquireOptions::new().lease(LONG).retries(10);
            let grant = redlock.acquire(format!("held:{number}"), options).await;
            assert!(grant.is_ok(), "a key of its own");
        });
    }
    while let Some(done) = running.join_next().await {
        done.expect("a lock is to be had");
    }
}

async fn waiting() -> Row {
    let nodes = RedisCluster::start(5);
    let redlock = connect(&nodes).await;
    let lease = AcquireOptions::new().lease(LONG);
    let grant = redlock.acquire("bench:one", lease).await;
    let grant = grant.expect("the key is free");
    let before = resident();
    let mut waiting = JoinSet::new();
    for _ in 0..WAITING {
        let redlock = redlock.clone();
        waiting.spawn(async move {
            let options = AcquireOptions::new().lease(LONG).retries(400);
            redlock.acquire("bench:one", options).await.map(drop)
        });
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let grown = resident().saturating_sub(before);
    let meter = Meter::start(&nodes, &["evalsha"]);
    tokio::time::sleep(WATCHED).await;
    let commands = meter.commands(&nodes) as f64 / WATCHED.as_secs_f64();
    let cpu = meter.own_micros() as f64 / WATCHED.as_micros() as f64;
    waiting.shutdown().await;
    redlock.release(&grant).await.expect("it is held");
    nothing_left(&nodes).await;
    let mut row = Row::of("10,000 waiting", "everlock");
    row.add(vec![
        (
            "memory a waiter, KiB",
            grown as f64 / 1_024.0 / WAITING as f64,
        ),
        ("commands/s", commands),
        ("client CPU, % of a core", cpu * 100.0),
    ]);
    row
}

async fn connect(nodes: &RedisCluster) -> Redlock {
    let builder = Redlock::builder().node_urls(nodes.urls());
    let redlock = builder.initialise(None).connect().await;
    redlock.expect("fresh nodes can be opened")
}

/// Bytes of memory that this process has now.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024
}
