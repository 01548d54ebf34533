//! The pure decisions: what an operation costs before any IO.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use everlock::clock::{Moment, WallTime};
use everlock::protocol::{Attempt, Counts, Drift, Step, Terms};
use everlock::{FencingToken, Reply, Vote, majority};

fn attempt(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    let started = Moment::from_origin(Duration::from_secs(1));
    for nodes in [1, 3, 5, 7] {
        group.bench_function(format!("attempt won by {nodes} nodes"), |bencher| {
            bencher.iter(|| {
                let mut attempt = Attempt::new(Terms {
                    nodes,
                    lease: Duration::from_secs(10),
                    started,
                    token: FencingToken::new(7),
                    drift: Drift::default(),
                    max_lease: Duration::from_mins(5),
                    min_validity: Duration::ZERO,
                });
                let reply = Reply::at(WallTime::from_micros(7), Vote::Granted);
                let mut step = Step::Wait;
                for node in 0..majority(nodes) {
                    step = attempt.reply(node, reply.clone(), started);
                }
                assert!(matches!(step, Step::Won(_)));
                black_box(step)
            });
        });
    }
    group.bench_function("release settled by 3 of 5", |bencher| {
        let votes = [
            Some(Vote::Released { token: None }),
            None,
            Some(Vote::Released { token: None }),
            None,
            Some(Vote::Released { token: None }),
        ];
        bencher.iter(|| black_box(Counts::of(votes.iter().map(Option::as_ref)).release()));
    });
    group.finish();
}

criterion_group!(benches, attempt);
criterion_main!(benches);
