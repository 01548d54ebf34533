//! Acquire and release over nodes in memory and over real ones, beside rslock.
//!
//! Each sample runs verified cycles: all succeed, tokens rise, nothing is left.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use everlock::Redlock;
use everlock_benches::{Locker, nothing_left, runtime, uncontended};
use everlock_testkit::RedisCluster;

fn memory(criterion: &mut Criterion) {
    let runtime = runtime(1);
    let mut group = criterion.benchmark_group("quorum in memory");
    group.throughput(Throughput::Elements(1));
    for nodes in [1, 3, 5, 7] {
        let redlock = runtime.block_on(Redlock::builder().memory_nodes(nodes).connect());
        let locker = Locker::Everlock {
            redlock: redlock.expect("memory nodes can be opened"),
            way: everlock_benches::Way::Grants,
        };
        group.bench_with_input(BenchmarkId::new("nodes", nodes), &nodes, |bencher, _| {
            bencher.to_async(&runtime).iter_custom(|cycles| {
                let locker = locker.clone();
                async move { uncontended(&locker, 1, cycles).await.took }
            });
        });
    }
    group.finish();
}

fn redis(criterion: &mut Criterion) {
    let runtime = runtime(1);
    for count in [1, 3, 5, 7] {
        let nodes = RedisCluster::start(count);
        let lockers = [
            runtime.block_on(Locker::everlock(&nodes)),
            Locker::rslock(&nodes, None),
        ];
        let mut group = criterion.benchmark_group(format!("redis nodes: {count}"));
        group.throughput(Throughput::Elements(1)).sample_size(10);
        for tasks in [1, 8, 64] {
            for locker in &lockers {
                let id = BenchmarkId::new(locker.name(), format!("{tasks} tasks"));
                group.bench_function(id, |bencher| {
                    bencher.to_async(&runtime).iter_custom(|cycles| {
                        let locker = locker.clone();
                        async move { uncontended(&locker, tasks, cycles).await.took }
                    });
                });
            }
        }
        group.finish();
        runtime.block_on(nothing_left(&nodes));
    }
}

criterion_group!(benches, memory, redis);
criterion_main!(benches);
