//! Acquire and release over in-memory nodes and over five real ones, beside rslock.
//!
//! Each sample runs verified cycles: all succeed, tokens rise, nothing is left.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use everlock::Redlock;
use everlock_benches::{Locker, five_nodes, nothing_left, uncontended};
use tokio::time::Instant;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
}

fn memory(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("quorum in memory");
    group.throughput(Throughput::Elements(1));
    for nodes in [1, 3, 5, 7] {
        let redlock = runtime.block_on(Redlock::builder().memory_nodes(nodes).connect());
        let locker = Locker::Everlock(redlock.expect("memory nodes can be opened"));
        group.bench_with_input(BenchmarkId::new("nodes", nodes), &nodes, |bencher, _| {
            bencher.to_async(&runtime).iter_custom(|cycles| {
                let locker = locker.clone();
                async move {
                    let started = Instant::now();
                    uncontended(&locker, 1, cycles).await;
                    started.elapsed()
                }
            });
        });
    }
    group.finish();
}

fn redis(criterion: &mut Criterion) {
    let runtime = runtime();
    let nodes = five_nodes();
    let lockers = [
        runtime.block_on(Locker::everlock(&nodes)),
        Locker::rslock(&nodes, None),
    ];
    let mut group = criterion.benchmark_group("five redis nodes");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for tasks in [1, 8, 64] {
        for locker in &lockers {
            let id = BenchmarkId::new(locker.name(), format!("{tasks} tasks"));
            group.bench_function(id, |bencher| {
                bencher.to_async(&runtime).iter_custom(|cycles| {
                    let locker = locker.clone();
                    async move {
                        let started = Instant::now();
                        uncontended(&locker, tasks, cycles).await;
                        started.elapsed()
                    }
                });
            });
        }
    }
    group.finish();
    runtime.block_on(nothing_left(&nodes));
}

criterion_group!(benches, memory, redis);
criterion_main!(benches);
