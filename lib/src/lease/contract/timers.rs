//! What a lease leaves behind: nothing.

use super::acquiring::bench;
use super::{Bench, SOON, Subject};

/// How many tasks this runtime runs. Each timer of a lease is a task's.
fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

pub async fn a_lease_that_is_dropped_is_free_soon(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (dropped, other) = (bench.contender("dropped"), bench.contender("other"));
    assert!(dropped.acquire().await);
    assert!(!other.acquire().await);
    let losses = std::sync::Arc::clone(&dropped.losses);
    drop(dropped);
    let took = bench.acquires_within(&other, bench.ttl.max(SOON)).await;
    assert!(took < bench.ttl.max(SOON), "{took:?}");
    assert!(losses.lock().unwrap().is_empty(), "that is no loss");
}

pub async fn nothing_runs_after_a_lease_was_dropped(subject: &dyn Subject) {
    let bench = bench!(subject);
    // What the subject itself runs, it runs by now.
    for owner in ["holder", "other"] {
        let warm = bench.contender(owner);
        assert!(warm.acquire().await);
        warm.release().await.unwrap();
    }
    tokio::time::sleep(SOON).await;
    let before = tasks();
    let held = bench.contender("holder");
    assert!(held.acquire().await);
    assert!(tasks() > before, "what renews is seen here");
    drop(held);
    let idle = bench.contender("other");
    drop(idle);
    super::until(SOON, || tasks() <= before).await;
}

pub async fn acquiring_again_and_releasing_leave_no_timers(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(holder.acquire().await);
    tokio::time::sleep(bench.ttl / 2).await;
    holder.release().await.unwrap();
    tokio::time::sleep(SOON).await;
    let before = tasks();
    for _ in 0..5 {
        for _ in 0..20 {
            assert!(holder.acquire().await);
        }
        super::until(SOON, || tasks() <= before + 1).await;
        holder.release().await.unwrap();
        super::until(SOON, || tasks() <= before).await;
    }
    tokio::time::sleep(2 * bench.ttl).await;
    assert!(tasks() <= before);
}
