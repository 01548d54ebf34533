//! Servers of the kit: parallel, pausable, mortal, and never left behind.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use everlock_testkit::{
    ProcessUnderTest, RedisCluster, RedisServer, Reply, Signal, TlsFiles, eventually,
};

const LONG: Duration = Duration::from_secs(20);

/// Whether the process exists and is not a zombie that nobody has collected.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.starts_with(" Z"))
    })
}

#[test]
fn servers_side_by_side_are_distinct_and_empty() {
    let cluster = RedisCluster::start(5);
    let ports: std::collections::HashSet<_> =
        cluster.servers().iter().map(RedisServer::port).collect();
    assert_eq!(ports.len(), cluster.len());
    cluster[2].command(&["SET", "key", "value"]);
    assert_eq!(cluster.count("key", "value"), 1);
    assert_eq!(cluster.get("key")[2].as_deref(), Some("value"));
    assert_eq!(cluster[0].keys(), [""; 0]);
    assert_eq!(cluster[2].dbsize(), 1);
}

#[test]
fn the_helpers_read_keys_of_any_bytes() {
    let server = RedisServer::start();
    let value = b"\x00\xff\r\n$3\r\n";
    assert_eq!(
        server.command_bytes(&[b"SET", b"b", value, b"PX", b"60000"]),
        Reply::Status("OK".into())
    );
    assert_eq!(
        server.command_bytes(&[b"GET", b"b"]),
        Reply::Bytes(value.to_vec())
    );
    assert!((1..=60_000).contains(&server.ttl_ms("b")));
    server.command(&["SET", "a", "1"]);
    assert_eq!((server.ttl_ms("a"), server.ttl_ms("none")), (-1, -2));
    assert_eq!(server.keys(), ["a", "b"]);
    assert_eq!(server.get("none"), None);
    assert!(
        server
            .command(&["NONSENSE"])
            .starts_with("-ERR unknown command")
    );
    assert_eq!(
        server.command(&["DEBUG", "SLEEP", "0"]),
        "OK",
        "faults need DEBUG"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_takes_in_what_it_answers_once_resumed() {
    let server = RedisServer::start();
    server.pause();
    let mut client = tokio::net::TcpStream::connect(server.addr()).await.unwrap();
    let mut reply = [0; 5];
    {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        client.write_all(b"SET late 1\r\n").await.unwrap();
        let answer = client.read_exact(&mut reply);
        assert!(
            tokio::time::timeout(Duration::from_millis(100), answer)
                .await
                .is_err()
        );
        server.resume();
        client.read_exact(&mut reply).await.unwrap();
    }
    assert_eq!(&reply, b"+OK\r\n");
    assert_eq!(server.get("late").as_deref(), Some("1"));
}

#[test]
fn a_durable_server_keeps_its_keys_over_a_kill_and_others_lose_them() {
    let cluster = RedisCluster::start_with(2, |i, server| match i {
        0 => server.durable(),
        _ => server,
    });
    for server in cluster.servers() {
        server.command(&["SET", "key", "value"]);
        let (pid, port) = (server.pid(), server.port());
        server.kill();
        assert_eq!(server.pid(), None);
        let refused = std::net::TcpStream::connect(server.addr()).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        server.restart();
        assert_ne!(server.pid(), pid);
        assert_eq!(server.port(), port);
    }
    assert_eq!(cluster.get("key"), [Some("value".to_owned()), None]);
    cluster.restart(0);
    assert_eq!(
        cluster.count("key", "value"),
        1,
        "a running server can be restarted, too"
    );
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_directory() {
    for paused in [false, true] {
        let server = RedisServer::start();
        let (pid, dir) = (server.pid().unwrap(), server.dir().to_owned());
        assert!(is_alive(pid) && dir.exists());
        if paused {
            server.pause();
        }
        drop(server);
        assert!(!is_alive(pid) && !dir.exists(), "paused: {paused}");
    }
}

/// The test starts itself as another process, which only holds a server, and kills that.
#[tokio::test]
async fn a_killed_test_process_leaves_neither_process_nor_directory() {
    const NAME: &str = "a_killed_test_process_leaves_neither_process_nor_directory";
    if std::env::var_os("TESTKIT_HOLD_A_SERVER").is_some() {
        let server = RedisServer::start();
        println!(
            "\nholds {} {}",
            server.pid().unwrap(),
            server.dir().display()
        );
        std::future::pending::<()>().await;
    }
    let mut holder = ProcessUnderTest::spawn(
        std::env::current_exe().unwrap(),
        &["--exact", NAME, "--nocapture"],
        &[("TESTKIT_HOLD_A_SERVER", "1")],
    );
    let line = holder
        .wait_for_line(|line| line.starts_with("holds "), LONG)
        .await;
    let words: Vec<_> = line.split(' ').collect();
    let (pid, dir) = (words[1].parse().unwrap(), PathBuf::from(words[2]));
    assert!(is_alive(pid) && dir.exists());
    holder.signal(Signal::KILL);
    holder.wait_exit(LONG).await;
    assert!(eventually(LONG, || async { !is_alive(pid) && !dir.exists() }).await);
}

#[test]
fn passwords_and_users_are_demanded_of_everybody_but_the_kit() {
    let server = RedisServer::builder()
        .password("secret")
        .acl_user("alice", "wonder", "~app:* +@all -@dangerous")
        .start();
    assert_eq!(
        server.url(),
        format!("redis://:secret@127.0.0.1:{}/", server.port())
    );
    assert_eq!(
        server.command(&["ACL", "DRYRUN", "alice", "GET", "app:1"]),
        "OK"
    );
    assert!(
        server
            .command(&["ACL", "DRYRUN", "alice", "GET", "other"])
            .contains("permissions")
    );

    let mut stranger = std::net::TcpStream::connect(server.addr()).unwrap();
    let mut reply = [0; 7];
    std::io::Write::write_all(&mut stranger, b"PING\r\n").unwrap();
    std::io::Read::read_exact(&mut stranger, &mut reply).unwrap();
    assert_eq!(&reply, b"-NOAUTH");
}

#[test]
fn directives_override_the_defaults() {
    let server = RedisServer::builder()
        .config("maxmemory", "8mb")
        .config("maxmemory-policy", "noeviction")
        .config("appendonly", "yes")
        .start();
    let policy = server.command(&["CONFIG", "GET", "maxmemory-policy"]);
    assert_eq!(policy, "maxmemory-policy\nnoeviction");
    assert_eq!(
        server.command(&["CONFIG", "GET", "appendonly"]),
        "appendonly\nyes"
    );
}

#[test]
#[should_panic(expected = "Bad directive")]
fn a_server_that_cannot_start_says_why() {
    let _ = RedisServer::builder()
        .config("no-such-directive", "1")
        .start();
}

#[test]
fn a_tls_server_shows_a_certificate_that_its_authority_vouches_for() {
    let (files, stranger) = (TlsFiles::make(), TlsFiles::make());
    let server = RedisServer::builder()
        .tls(&files.certificate(), &files.key(), &files.ca())
        .start();
    assert!(server.url().starts_with("rediss://"));
    assert_eq!(
        server.command(&["PING"]),
        "PONG",
        "the side door needs no TLS"
    );
    for (authority, trusted) in [(files.ca(), true), (stranger.ca(), false)] {
        let client = Command::new("openssl")
            .args([
                "s_client",
                "-brief",
                "-verify_return_error",
                "-verify_ip",
                "127.0.0.1",
            ])
            .args(["-connect", &server.addr().to_string(), "-CAfile"])
            .arg(authority)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&client.stderr);
        assert_eq!(said.contains("Verification: OK"), trusted, "{said}");
    }
}

#[test]
fn a_server_starts_in_a_moment() {
    #[allow(clippy::disallowed_methods, reason = "the time of a real process")]
    let started = Instant::now();
    let _server = RedisServer::start();
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
}
