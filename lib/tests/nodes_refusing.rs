//! Hazard: nodes that answer, but with an error of any class.
//!
//! An error is a fault of the node: it says neither that the lock is held nor
//! that it is free. Real servers, brought into every such state there is; what
//! they can't be brought to say is in `error_answers.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use everlock::{Error, FaultKind};
use everlock_testkit::{RedisCluster, RedisServer, SETTLED, eventually};
use support::redis::{client, locks_on};
use support::turns::{MAX_LEASE, SECOND, attempt, faults, full_turn, nothing_left, well};
use tokio::time::Instant;

/// Which operations a node in this state can't do.
#[derive(Clone, Copy, PartialEq)]
enum Fails {
    Everything,
    NewKeys,
}

/// One of three nodes in a bad state changes nothing; with two, the report
/// names the kind, on each operation that they can't do.
async fn a_fault_of(
    kind: FaultKind,
    fails: Fails,
    worsen: impl AsyncFn(&RedisServer),
    cure: impl AsyncFn(&RedisServer),
) {
    let cluster = RedisCluster::start(3);
    let client = client(&cluster, MAX_LEASE).await;
    let held = client.acquire("held", attempt()).await.unwrap();
    let everywhere = || async { cluster.count("held", held.owner().as_str()) == 3 };
    assert!(eventually(SETTLED, everywhere).await);
    worsen(&cluster[0]).await;
    for round in 0..3 {
        full_turn(&client, &format!("r{round}")).await;
    }
    worsen(&cluster[1]).await;
    let started = Instant::now();
    let acquired = client.acquire("another", attempt()).await;
    let extended = client.extend(&held, SECOND).await;
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
    let mut errors = vec![acquired.unwrap_err()];
    if fails == Fails::Everything {
        errors.push(extended.unwrap_err());
        errors.push(client.release(&held).await.unwrap_err());
    } else {
        extended.unwrap();
        client.release(&held).await.unwrap();
        let gone = || async { cluster.count("held", held.owner().as_str()) == 0 };
        assert!(eventually(SETTLED, gone).await, "full nodes release");
    }
    for error in errors {
        assert_eq!(faults(&error).map(|fault| fault.kind), [kind; 2], "{error}");
    }
    // Whoever tries again waits for the nodes and is not told that it is held.
    let patient = attempt().retries(3).delay(SECOND);
    let error = client.acquire("another", patient).await.unwrap_err();
    assert_eq!(faults(&error).map(|fault| fault.kind), [kind; 2], "{error}");
    for server in &cluster.servers()[..2] {
        cure(server).await;
    }
    assert!(well(&client).await, "{:?}", client.readiness().await);
    nothing_left(&cluster).await;
    full_turn(&client, "another").await;
    nothing_left(&cluster).await;
}

#[track_caller]
fn set(server: &RedisServer, directive: &str, value: &str) {
    let done = server.command(&["CONFIG", "SET", directive, value]);
    assert_eq!(done, "OK", "{directive}");
}

/// An address at which no server is.
const NOWHERE: [&str; 3] = ["REPLICAOF", "127.0.0.1", "1"];

#[tokio::test]
async fn a_node_that_became_a_replica_is_read_only_and_not_held() {
    let worsen = async |server: &RedisServer| assert_eq!(server.command(&NOWHERE), "OK");
    let cure = async |server: &RedisServer| {
        server.command(&["REPLICAOF", "NO", "ONE"]);
    };
    a_fault_of(FaultKind::ReadOnly, Fails::Everything, worsen, cure).await;
}

#[tokio::test]
async fn a_node_that_cannot_save_is_misconfigured_and_not_held() {
    let worsen = async |server: &RedisServer| {
        // A folder in the place of the dump can't be replaced by it.
        std::fs::create_dir(server.dir().join("dump.rdb")).unwrap();
        set(server, "save", "3600 1000");
        set(server, "stop-writes-on-bgsave-error", "yes");
        server.command(&["BGSAVE"]);
        let failed = || async {
            let info = server.command(&["INFO", "persistence"]);
            info.contains("rdb_last_bgsave_status:err")
        };
        assert!(eventually(5 * SECOND, failed).await);
    };
    let cure = async |server: &RedisServer| {
        set(server, "stop-writes-on-bgsave-error", "no");
    };
    a_fault_of(FaultKind::Misconf, Fails::Everything, worsen, cure).await;
}

#[tokio::test]
async fn a_full_node_grants_nothing_but_extends_and_releases() {
    let worsen = async |server: &RedisServer| {
        let filler = "x".repeat(2 << 20);
        server.command(&["SET", "filler~", &filler]);
        set(server, "maxmemory-policy", "noeviction");
        set(server, "maxmemory", "1mb");
    };
    let cure = async |server: &RedisServer| set(server, "maxmemory", "0");
    a_fault_of(FaultKind::OutOfMemory, Fails::NewKeys, worsen, cure).await;
}

#[tokio::test]
async fn a_node_that_wants_a_password_is_not_authenticated_and_not_held() {
    let worsen = async |server: &RedisServer| {
        set(server, "requirepass", "changed");
        // Who is in stays in; who comes anew is asked.
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        // A connection that was closed shows when it is used, by a heartbeat for one.
        tokio::time::sleep(2 * SECOND).await;
    };
    let cure = async |server: &RedisServer| set(server, "requirepass", "");
    a_fault_of(FaultKind::NotAuthenticated, Fails::Everything, worsen, cure).await;
}

#[tokio::test]
async fn a_node_whose_user_may_run_no_script_has_no_permission_and_is_not_held() {
    let acl = |server: &RedisServer, rule: &str| {
        let done = server.command(&["ACL", "SETUSER", "default", rule]);
        assert_eq!(done, "OK");
    };
    let worsen = async |server: &RedisServer| acl(server, "-evalsha");
    let cure = async |server: &RedisServer| acl(server, "+evalsha");
    a_fault_of(FaultKind::NoPermission, Fails::Everything, worsen, cure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_busy_with_a_script_is_a_fault_and_not_held() {
    // Both of these answer BUSY, at once, until the script is killed. Every version takes this name
    // of the setting; Redis 6 has no other.
    let cluster = RedisCluster::start_with(3, |_, server| server.config("lua-time-limit", "1"));
    let client = client(&cluster, MAX_LEASE).await;
    std::thread::scope(|scope| {
        let endless: &[&[u8]] = &[b"EVAL", b"while true do end", b"0"];
        for server in &cluster.servers()[..2] {
            // Its reply comes when it was killed, or too late.
            scope.spawn(move || drop(server.try_command(endless)));
        }
        let busy = async {
            for server in &cluster.servers()[..2] {
                let says_so = || async { server.command(&["PING"]).starts_with("-BUSY") };
                assert!(eventually(2 * SECOND, says_so).await);
            }
            let result = client.acquire("r", attempt()).await;
            for server in &cluster.servers()[..2] {
                server.command(&["SCRIPT", "KILL"]);
            }
            result.unwrap_err()
        };
        let error =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(busy));
        for fault in faults(&error) {
            assert_eq!(fault.kind, FaultKind::Unexpected);
            assert!(fault.detail.contains("BUSY"), "{fault}");
        }
    });
    assert!(well(&client).await);
    full_turn(&client, "r").await;
    nothing_left(&cluster).await;
}

#[tokio::test]
async fn scripts_that_a_server_forgot_are_taught_within_the_call() {
    let cluster = RedisCluster::start(5);
    let client = client(&cluster, MAX_LEASE).await;
    let forget = || {
        for server in cluster.servers() {
            assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "OK");
        }
    };
    for round in 0..3 {
        forget();
        let grant = client.acquire("r", attempt()).await.unwrap();
        assert_eq!(grant.attempts(), 1);
        let everywhere = || async { cluster.count("r", grant.owner().as_str()) == 5 };
        assert!(eventually(SETTLED, everywhere).await, "round {round}");
        forget();
        client.extend(&grant, SECOND).await.unwrap();
        forget();
        assert!(client.readiness().await.is_ready());
        forget();
        client.release(&grant).await.unwrap();
        nothing_left(&cluster).await;
    }
}

#[tokio::test]
async fn a_foreign_value_at_the_locks_key_is_a_fault_and_survives() {
    let cluster = RedisCluster::start(3);
    let client = client(&cluster, MAX_LEASE).await;
    let foreign: [&[&str]; 4] = [
        &["RPUSH", "r", "a", "b"],
        &["HSET", "r", "field", "value"],
        &["SADD", "r", "member"],
        &["ZADD", "r", "1", "member"],
    ];
    for command in foreign {
        cluster[0].command(command);
        let before = cluster[0].command(&["DUMP", "r"]);
        full_turn(&client, "r").await;
        cluster[1].command(command);
        let error = client.acquire("r", attempt()).await.unwrap_err();
        for fault in faults(&error) {
            assert_eq!(fault.kind, FaultKind::Unexpected);
            assert!(fault.detail.contains("WRONGTYPE"), "{fault}");
        }
        // Neither the undo nor a release or an extension touches it.
        let owner = everlock::OwnerId::new("somebody").unwrap();
        let resource = everlock::Resource::new("r").unwrap();
        let released = client.release((&resource, &owner)).await;
        assert!(
            matches!(released, Err(Error::NotHeld { .. })),
            "{released:?}"
        );
        let extended = client.extend((&resource, &owner), SECOND).await;
        assert!(
            matches!(extended, Err(Error::NotHeld { .. })),
            "{extended:?}"
        );
        assert!(client.drained(SECOND).await);
        for server in &cluster.servers()[..2] {
            assert_eq!(server.command(&["DUMP", "r"]), before);
            assert_eq!(server.ttl_ms("r"), -1);
            server.command(&["DEL", "r"]);
        }
        assert_eq!(locks_on(&cluster[2]), Vec::<String>::new());
    }
}
