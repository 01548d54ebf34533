//! Many tasks for one key over five nodes, first come first served and in strict
//! turn, with sections of no length and of 5 ms.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use everlock_benches::{Contention, Locker, Way, contended, nothing_left, runtime};
use everlock_testkit::RedisCluster;

fn one_key(criterion: &mut Criterion) {
    let runtime = runtime(1);
    let nodes = RedisCluster::start(5);
    let everlock = runtime.block_on(Locker::everlock(&nodes));
    let lockers = [
        everlock.clone(),
        everlock.clone().by(Way::InTurn),
        everlock.by(Way::Sections),
        Locker::rslock(&nodes, Some(Duration::from_millis(5))),
    ];
    for hold in [Duration::ZERO, Duration::from_millis(5)] {
        let mut group = criterion.benchmark_group(format!("one key, held for {hold:?}"));
        group.throughput(Throughput::Elements(1)).sample_size(10);
        for tasks in [16, 64] {
            for locker in &lockers {
                let id = BenchmarkId::new(locker.name(), format!("{tasks} tasks"));
                group.bench_function(id, |bencher| {
                    bencher.to_async(&runtime).iter_custom(|cycles| {
                        let locker = locker.clone();
                        let terms = Contention {
                            tasks,
                            hold,
                            delay: Duration::from_millis(5),
                            time: Duration::from_hours(1),
                            cycles,
                        };
                        async move { contended(&locker, terms).await.took }
                    });
                });
            }
        }
        group.finish();
    }
    runtime.block_on(nothing_left(&nodes));
}

criterion_group!(benches, one_key);
criterion_main!(benches);
