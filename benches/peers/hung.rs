//! One of five nodes stands still.

use everlock_benches::{Locker, runtime};
use everlock_testkit::RedisCluster;

use crate::table::{Row, Table};
use crate::{Plan, own_keys};

const TASKS: usize = 16;

pub(crate) fn run(plan: Plan) -> Vec<Table> {
    let nodes = RedisCluster::start(5);
    let runtime = runtime(1);
    let rows = runtime.block_on(async {
        let lockers = [Locker::everlock(&nodes).await, Locker::rslock(&nodes, None)];
        let mut rows = Vec::new();
        for hung in [false, true] {
            let load = if hung { "one node hung" } else { "all well" };
            let row = |locker: &Locker| Row::of(load, locker.name());
            let mut of_load: Vec<_> = lockers.iter().map(row).collect();
            for _ in 0..plan.rounds {
                for (locker, row) in lockers.iter().zip(&mut of_load) {
                    if hung {
                        nodes.pause(4);
                    }
                    row.add(own_keys::under_way(locker, &nodes, TASKS, plan.time).await);
                    nodes.resume(4);
                    everlock_benches::nothing_left(&nodes).await;
                }
            }
            rows.extend(of_load);
        }
        rows
    });
    vec![Table {
        title: "A hung node",
        about: "16 tasks on keys of their own; one of five servers is stopped (SIGSTOP) with \
                its connections open.",
        rows,
    }]
}
