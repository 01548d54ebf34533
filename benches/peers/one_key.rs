//! Many tasks of one process for one key: who waits how long, and at what cost.

use std::time::Duration;

use everlock_benches::{Contention, Locker, Meter, Seen, Way, contended, nothing_left, runtime};
use everlock_testkit::RedisCluster;

use crate::Plan;
use crate::table::{Figures, Row, Table};

pub(crate) fn run(plan: Plan) -> Vec<Table> {
    let nodes = RedisCluster::start(5);
    let runtime = runtime(1);
    let rows = runtime.block_on(async {
        let everlock = Locker::everlock(&nodes).await;
        let lockers = [
            everlock.clone(),
            everlock.clone().by(Way::Sections),
            everlock.by(Way::InTurn),
            Locker::rslock(&nodes, None),
            Locker::rslock(&nodes, Some(Duration::from_millis(5))),
        ];
        let mut rows = Vec::new();
        for (tasks, hold) in [(16, 0), (64, 0), (16, 5), (64, 5)] {
            let load = format!("{tasks} tasks, {hold} ms");
            let row = |locker: &Locker| Row::of(&load, locker.name());
            let mut of_load: Vec<_> = lockers.iter().map(row).collect();
            let terms = Contention {
                tasks,
                hold: Duration::from_millis(hold),
                delay: Duration::from_millis(5),
                time: plan.time * 2,
                cycles: u64::MAX,
            };
            for _ in 0..plan.rounds {
                for (locker, row) in lockers.iter().zip(&mut of_load) {
                    row.add(measure(locker, &nodes, terms).await);
                }
            }
            rows.extend(of_load);
        }
        rows
    });
    vec![Table {
        title: "One key, one process",
        about: "All tasks want one key and hold it for so long, five nodes, one client thread. \
                *rslock* has its default delay of 200 ms, *tuned* one of 5 ms, and both as many \
                retries as it takes. A fair lock shows in the fewest and the most sections that \
                a task had, and in the longest waits. *with_lock* hands the lock on inside the \
                process, without the nodes.",
        rows,
    }]
}

async fn measure(locker: &Locker, nodes: &RedisCluster, terms: Contention) -> Figures {
    let meter = Meter::start(nodes, locker.commands());
    let seen = contended(locker, terms).await;
    let figures = figures(&seen, &meter, nodes);
    nothing_left(nodes).await;
    figures
}

fn figures(seen: &Seen, meter: &Meter, nodes: &RedisCluster) -> Figures {
    let sections = seen.cycles.max(1) as f64;
    let share = |of: Option<&u64>| of.copied().unwrap_or_default() as f64;
    let wait = |quantile: f64| seen.waits.value_at_quantile(quantile) as f64 / 1_000.0;
    let cpu = (meter.own_micros() + meter.nodes_micros(nodes)) as f64;
    vec![
        ("sections/s", sections / seen.took.as_secs_f64()),
        ("wait p50, ms", wait(0.5)),
        ("p99, ms", wait(0.99)),
        ("fewest a task", share(seen.shares.iter().min())),
        ("most", share(seen.shares.iter().max())),
        (
            "commands a section",
            meter.commands(nodes) as f64 / sections,
        ),
        ("CPU a section, µs", cpu / sections),
    ]
}
