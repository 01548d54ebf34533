//! Cycles a second beside rslock in one run, interleaved, with processor time.
//!
//! `cargo bench -p everlock-benches --bench throughput [-- ROUNDS [SECONDS]]`
//! prints medians over the rounds. Absolute figures are of the machine; compare
//! the ratios of one run.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::sync::Arc;
use std::time::Duration;

use everlock_benches::{
    Locker, Witness, five_nodes, nodes_cpu_micros, nothing_left, own_cpu_micros, uncontended,
};
use everlock_testkit::RedisCluster;
use tokio::time::Instant;

const TASKS: [usize; 3] = [1, 8, 64];

/// One measurement: cycles a second, our and the nodes' microseconds a cycle.
#[derive(Clone, Copy)]
struct Figure {
    rate: f64,
    own_cpu: f64,
    nodes_cpu: f64,
}

fn main() {
    let numbers: Vec<u64> = std::env::args()
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let rounds = numbers.first().copied().unwrap_or(5).max(1);
    let time = Duration::from_secs(numbers.get(1).copied().unwrap_or(1).max(1));
    for threads in [1, 2] {
        let runtime = if threads == 1 {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
        } else {
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .worker_threads(threads)
                .build()
        }
        .expect("a runtime can be built");
        println!("\n{threads} worker thread(s), five nodes, medians of {rounds} rounds");
        println!(
            "{:<24} {:>10} {:>10} {:>12} {:>12}",
            "", "tasks", "cycles/s", "own us/cycle", "nodes us/c."
        );
        runtime.block_on(compare(rounds, time));
    }
}

async fn compare(rounds: u64, time: Duration) {
    let nodes = five_nodes();
    let lockers = [Locker::everlock(&nodes).await, Locker::rslock(&nodes, None)];
    for tasks in TASKS {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (locker, figures) in lockers.iter().zip(&mut figures) {
                figures.push(measure(locker, &nodes, tasks, time).await);
            }
        }
        let medians = figures.map(median);
        for (locker, figure) in lockers.iter().zip(medians) {
            print(&format!("own keys, {}", locker.name()), tasks, figure);
        }
        println!(
            "{:<24} {:>10} {:>9.2}x",
            "  ratio",
            "",
            medians[0].rate / medians[1].rate
        );
    }
    let peers = [
        Locker::everlock(&nodes).await,
        Locker::rslock(&nodes, Some(Duration::from_millis(5))),
    ];
    for locker in &peers {
        print(
            &format!("one key, {}", locker.name()),
            16,
            contended(locker, &nodes, 16, time).await,
        );
    }
}

async fn measure(locker: &Locker, nodes: &RedisCluster, tasks: usize, time: Duration) -> Figure {
    const CHUNK: u64 = 256;
    uncontended(locker, tasks, CHUNK).await;
    let (own, theirs) = (own_cpu_micros(), nodes_cpu_micros(nodes));
    let started = Instant::now();
    let mut cycles = 0;
    while started.elapsed() < time {
        uncontended(locker, tasks, CHUNK * tasks.min(16) as u64).await;
        cycles += CHUNK * tasks.min(16) as u64;
    }
    let figure = figure(cycles, started, nodes, own, theirs);
    nothing_left(nodes).await;
    figure
}

/// One key, sections of no length, a retry delay of 5 ms.
async fn contended(locker: &Locker, nodes: &RedisCluster, tasks: usize, time: Duration) -> Figure {
    let witness = Arc::new(Witness::default());
    let (own, theirs) = (own_cpu_micros(), nodes_cpu_micros(nodes));
    let started = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (locker, witness) = (locker.clone(), Arc::clone(&witness));
        running.spawn(async move {
            let mut cycles = 0u64;
            while started.elapsed() < time {
                let section = async |token| witness.section(token, Duration::ZERO).await;
                cycles += u64::from(
                    locker
                        .cycle("bench:one", Duration::from_millis(5), section)
                        .await,
                );
            }
            cycles
        });
    }
    let mut cycles = 0;
    while let Some(done) = running.join_next().await {
        cycles += done.expect("a task does not fail");
    }
    let figure = figure(cycles, started, nodes, own, theirs);
    nothing_left(nodes).await;
    figure
}

fn figure(cycles: u64, started: Instant, nodes: &RedisCluster, own: u64, theirs: u64) -> Figure {
    let cycles = cycles as f64;
    Figure {
        rate: cycles / started.elapsed().as_secs_f64(),
        own_cpu: (own_cpu_micros() - own) as f64 / cycles,
        nodes_cpu: (nodes_cpu_micros(nodes) - theirs) as f64 / cycles,
    }
}

fn median(mut figures: Vec<Figure>) -> Figure {
    figures.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    figures[figures.len() / 2]
}

fn print(name: &str, tasks: usize, figure: Figure) {
    let Figure {
        rate,
        own_cpu,
        nodes_cpu,
    } = figure;
    println!("{name:<24} {tasks:>10} {rate:>10.0} {own_cpu:>12.1} {nodes_cpu:>12.1}");
}
