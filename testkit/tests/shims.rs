//! What is put between a server and the kernel: clocks that can be thrown, disks that
//! keep only what was synced.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "what a test can't go on without fails it; the time is that of real processes"
)]

use std::thread::sleep;
use std::time::{Duration, Instant};

use everlock_testkit::{RedisCluster, RedisServer};

const SECOND: Duration = Duration::from_secs(1);

/// What the server says that the time is, in milliseconds: `TIME`, and the same from a script.
fn times(server: &RedisServer) -> [i64; 2] {
    let script = "local t = redis.call('TIME'); return t[1] .. '\\n' .. t[2]";
    [&["TIME"][..], &["EVAL", script, "0"]].map(|command| {
        let reply = server.command(command);
        let (seconds, micros) = reply.split_once('\n').unwrap();
        seconds.parse::<i64>().unwrap() * 1000 + micros.parse::<i64>().unwrap() / 1000
    })
}

/// Waits until the key is gone, and says how long that took.
fn gone_after(server: &RedisServer, key: &str, within: Duration) -> Duration {
    let started = Instant::now();
    while server.get(key).is_some() {
        assert!(started.elapsed() < within, "{key} is still there");
        sleep(Duration::from_millis(5));
    }
    started.elapsed()
}

#[test]
fn a_thrown_clock_shows_in_time_and_in_scripts_and_on_that_node_alone() {
    let cluster = RedisCluster::start_with_clocks(2);
    for offset in [3_600_000, -3_600_000, 0] {
        cluster.set_clock_offset(1, offset);
        for (thrown, true_time) in times(&cluster[1]).into_iter().zip(times(&cluster[0])) {
            let off_by = (thrown - true_time - offset).abs();
            assert!(off_by < 10_000, "off by {off_by} ms at {offset} ms");
        }
    }
}

#[test]
fn a_clock_thrown_ahead_ends_keys_early_and_one_thrown_back_keeps_them() {
    let server = RedisServer::builder().with_clock().start();
    server.command(&["SET", "long", "1", "PX", "40000"]);
    assert!(server.get("long").is_some());
    server.set_clock_offset(60_000);
    assert!(gone_after(&server, "long", 10 * SECOND) < 10 * SECOND);

    let set_at = Instant::now();
    server.command(&["SET", "short", "1", "PX", "2000"]);
    server.set_clock_offset(60_000 - 3_000);
    let left = server.ttl_ms("short");
    assert!((2_001..=5_000).contains(&left), "{left}");
    gone_after(&server, "short", 20 * SECOND);
    assert!(set_at.elapsed() >= 5 * SECOND, "{:?}", set_at.elapsed());
}

#[test]
fn a_stopped_clock_stands_until_it_is_told_another_time() {
    const SHOWN: i64 = 1_900_000_000_000;
    let server = RedisServer::builder().with_clock().start();
    let stop_at = |ms: i64| server.stop_clock_at(u64::try_from(ms).unwrap() * 1_000);
    stop_at(SHOWN);
    server.command(&["SET", "short", "1", "PX", "20"]);
    sleep(Duration::from_millis(50));
    assert_eq!(times(&server), times(&server));
    assert_eq!(times(&server)[0], SHOWN);
    assert_eq!(server.ttl_ms("short"), 20);
    stop_at(SHOWN + 21);
    assert_eq!(server.get("short"), None);
}

#[test]
fn a_thrown_clock_stays_over_a_restart() {
    let server = RedisServer::builder().with_clock().start();
    server.set_clock_offset(-3_600_000);
    let before = times(&server)[0];
    server.restart();
    let passed = times(&server)[0] - before;
    assert!((0..60_000).contains(&passed), "{passed}");
}

/// Writes keys and loses the power; says how many came back, and how many bytes did not.
fn survivors(server: &RedisServer, keys: usize) -> (usize, u64) {
    for key in 0..keys {
        assert_eq!(server.command(&["SET", &key.to_string(), "1"]), "OK");
    }
    let lost = server.power_loss();
    (server.dbsize(), lost)
}

#[test]
fn a_power_loss_takes_what_was_not_synced_and_nothing_else() {
    let always = RedisServer::builder().durable().with_power().start();
    assert_eq!(survivors(&always, 50), (50, 0));
    assert_eq!(survivors(&always, 60), (60, 0), "and again after a restart");

    // With `no` the server leaves it to the kernel; nothing is ever synced on purpose.
    let never = RedisServer::builder().with_power();
    let never = never.config("appendonly", "yes");
    let never = never.config("appendfsync", "no").start();
    let (kept, lost) = survivors(&never, 50);
    assert!(kept == 0 && lost > 0, "{kept} kept, {lost} bytes lost");

    let nothing = RedisServer::builder().with_power().with_clock().start();
    assert_eq!(survivors(&nothing, 50), (0, 0));
}

#[test]
fn with_a_sync_each_second_a_power_loss_takes_the_last_second_at_most() {
    let server = RedisServer::builder().with_power();
    let server = server.config("appendonly", "yes");
    let server = server.config("appendfsync", "everysec").start();
    server.command(&["SET", "old", "1"]);
    // Whoever syncs each second has done so by then.
    sleep(4 * SECOND);
    let lossy = (0..5).any(|_| survivors(&server, 50).1 > 0);
    assert!(lossy, "five times all was synced in the very last moment");
    assert!(server.get("old").is_some());
}
