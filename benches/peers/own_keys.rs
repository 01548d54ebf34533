//! Each task on a key of its own: what a lock costs where nobody is in the way.

use std::time::Duration;

use everlock_benches::{Locker, Meter, Naive, Raw, Seen, nothing_left, runtime, uncontended};
use everlock_testkit::RedisCluster;

use crate::Plan;
use crate::table::{Figures, Row, Table, count};

const TASKS: [usize; 3] = [1, 8, 64];

/// On nodes without persistence, and on nodes that sync every write.
pub(crate) fn run(plan: Plan) -> Vec<Table> {
    let volatile = Table {
        title: "Keys of their own",
        about: "Acquire and release, each task on a key of its own, five nodes without \
                persistence, one client thread. *pipelined by hand* is no lock client but the \
                limit of one: it has no timeouts, no undo, no guards; *fenced* counts a token \
                up in a script. *pool checkout* takes a connection of deadpool-redis for each \
                command. CPU is of the client and of all five nodes together.",
        rows: compare(plan, &RedisCluster::start(5), &TASKS),
    };
    let durable = Table {
        title: "Every write synced",
        about: "The same with `appendonly yes` and `appendfsync always` on all nodes, which \
                share one disk here.",
        rows: compare(plan, &RedisCluster::start_durable(5), &[64]),
    };
    vec![volatile, durable]
}

fn compare(plan: Plan, nodes: &RedisCluster, tasks: &[usize]) -> Vec<Row> {
    let runtime = runtime(1);
    runtime.block_on(async {
        let lockers = [
            Locker::everlock(nodes).await,
            Locker::rslock(nodes, None),
            Locker::Naive(Naive::over(nodes, 64)),
            Locker::Raw(Raw::connect(nodes, false).await),
            Locker::Raw(Raw::connect(nodes, true).await),
        ];
        let mut rows = Vec::new();
        for tasks in tasks {
            let row = |locker: &Locker| Row::of(count(*tasks, "task"), locker.name());
            let mut of_load: Vec<_> = lockers.iter().map(row).collect();
            for _ in 0..plan.rounds {
                for (locker, row) in lockers.iter().zip(&mut of_load) {
                    row.add(measure(locker, nodes, *tasks, plan.time).await);
                }
            }
            rows.extend(of_load);
        }
        rows
    })
}

async fn measure(locker: &Locker, nodes: &RedisCluster, tasks: usize, time: Duration) -> Figures {
    let figures = under_way(locker, nodes, tasks, time).await;
    nothing_left(nodes).await;
    figures
}

/// Figures of about so long a time; what is left on the nodes is not looked at.
pub(crate) async fn under_way(
    locker: &Locker,
    nodes: &RedisCluster,
    tasks: usize,
    time: Duration,
) -> Figures {
    const TRIAL: u64 = 4;
    let trial = TRIAL * tasks as u64;
    let took = uncontended(locker, tasks, trial).await.took;
    let one = took.as_secs_f64() / trial as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of cycles"
    )]
    let cycles = (time.as_secs_f64() / one).max(1.0) as u64;
    let meter = Meter::start(nodes, &[]);
    let seen = uncontended(locker, tasks, cycles).await;
    figures(&seen, &meter, nodes)
}

fn figures(seen: &Seen, meter: &Meter, nodes: &RedisCluster) -> Figures {
    let cycles = seen.cycles as f64;
    vec![
        ("cycles/s", cycles / seen.took.as_secs_f64()),
        ("acquire p50, µs", seen.waits.value_at_quantile(0.5) as f64),
        ("p99, µs", seen.waits.value_at_quantile(0.99) as f64),
        ("client CPU, µs", meter.own_micros() as f64 / cycles),
        ("nodes' CPU, µs", meter.nodes_micros(nodes) as f64 / cycles),
    ]
}
