//! Every fault of the proxy, seen from a client of a real server behind it.

use std::io::ErrorKind;
use std::time::Duration;

use everlock_testkit::{Door, FaultProxy, Flow, RedisServer, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(20);
/// Long enough for anything that is going to come over loopback to have come.
const A_WHILE: Duration = Duration::from_millis(150);

async fn set_up() -> (RedisServer, FaultProxy) {
    let server = RedisServer::start();
    let proxy = FaultProxy::in_front_of(&server).await;
    (server, proxy)
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    let connecting = timeout(LONG, TcpStream::connect(proxy.addr())).await;
    connecting
        .expect("no handshake hangs")
        .expect("the proxy listens")
}

/// A reply of five bytes such as `+OK\r\n`, `:12\r\n`.
async fn reply(client: &mut TcpStream) -> std::io::Result<String> {
    let mut reply = [0; 5];
    timeout(LONG, client.read_exact(&mut reply))
        .await
        .expect("an answer or an end")?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

async fn set(client: &mut TcpStream, key: &str) -> std::io::Result<String> {
    client
        .write_all(format!("SET {key} 1\r\n").as_bytes())
        .await?;
    reply(client).await
}

async fn is_silent(client: &mut TcpStream) -> bool {
    let mut byte = [0];
    timeout(A_WHILE, client.read(&mut byte)).await.is_err()
}

#[tokio::test]
async fn without_faults_bytes_pass_and_are_counted() {
    let (server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    assert_eq!(set(&mut client, "a").await.unwrap(), "+OK\r\n");
    assert_eq!(server.keys(), ["a"]);
    assert_eq!((proxy.connections(), proxy.open_connections()), (1, 1));
    assert_eq!((proxy.request_bytes(), proxy.reply_bytes()), (9, 5));
    drop(client);
    assert!(eventually(LONG, || async { proxy.open_connections() == 0 }).await);
}

#[tokio::test]
async fn much_data_passes_whole_and_in_order() {
    let (_server, proxy) = set_up().await;
    let client = connect(&proxy).await;
    let (mut from, mut to) = client.into_split();
    let sent = tokio::spawn(async move {
        for i in 0..200_000 {
            to.write_all(format!("ECHO {i:06}\r\n").as_bytes())
                .await
                .unwrap();
        }
        to
    });
    let mut answer = [0; 12];
    for i in 0..200_000 {
        timeout(LONG, from.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer, format!("$6\r\n{i:06}\r\n").as_bytes()[..12]);
    }
    sent.await.unwrap();
}

#[tokio::test]
async fn a_delay_holds_for_every_reply_without_adding_up() {
    let (_server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    let delay = Duration::from_millis(100);
    proxy.replies(Flow::Delay(delay));
    let started = Instant::now();
    for i in 0..5 {
        client
            .write_all(format!("SET k{i} 1\r\n").as_bytes())
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..5 {
        assert_eq!(reply(&mut client).await.unwrap(), "+OK\r\n");
    }
    let took = started.elapsed();
    assert!(took >= delay && took < 4 * delay, "{took:?}");
}

#[tokio::test]
async fn a_swallowed_request_never_reaches_the_server_and_healing_does_not_revive_it() {
    let (server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    set(&mut client, "before").await.unwrap();
    proxy.requests(Flow::Swallow);
    client.write_all(b"SET lost 1\r\n").await.unwrap();
    assert!(is_silent(&mut client).await);
    proxy.heal().await;
    client.write_all(b"SET after 1\r\n").await.unwrap();
    assert!(is_silent(&mut client).await, "the connection has a gap");
    assert_eq!(
        set(&mut connect(&proxy).await, "fresh").await.unwrap(),
        "+OK\r\n"
    );
    assert_eq!(server.keys(), ["before", "fresh"]);
}

#[tokio::test]
async fn a_swallowed_reply_was_executed() {
    let (server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    proxy.replies(Flow::Swallow);
    client.write_all(b"SET done 1\r\n").await.unwrap();
    assert!(is_silent(&mut client).await);
    assert_eq!(server.keys(), ["done"]);
    server.kill();
    assert!(
        is_silent(&mut client).await,
        "the server's end gets lost as well"
    );
}

#[tokio::test]
async fn what_stalled_arrives_in_order_even_after_its_client_has_gone() {
    let (server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    set(&mut client, "first").await.unwrap();
    proxy.requests(Flow::Stall);
    client.write_all(b"RENAME first second\r\n").await.unwrap();
    client.write_all(b"RENAME second third\r\n").await.unwrap();
    drop(client);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(server.keys(), ["first"]);
    proxy.heal().await;
    assert!(eventually(LONG, || async { server.keys() == ["third"] }).await);
}

#[tokio::test]
async fn stalled_replies_come_when_the_stall_is_over() {
    let (server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    proxy.replies(Flow::Stall);
    client.write_all(b"INCR n\r\nSET a 1\r\n").await.unwrap();
    assert!(is_silent(&mut client).await);
    assert_eq!(server.keys(), ["a", "n"]);
    proxy.heal().await;
    let mut replies = [0; 9];
    timeout(LONG, client.read_exact(&mut replies))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&replies, b":1\r\n+OK\r\n");
}

#[tokio::test]
async fn a_reset_ends_open_connections_and_lets_new_ones_in() {
    let (_server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    set(&mut client, "a").await.unwrap();
    proxy.reset_connections();
    let error = reply(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(
        set(&mut connect(&proxy).await, "b").await.unwrap(),
        "+OK\r\n"
    );
}

#[tokio::test]
async fn the_door_resets_refuses_or_hangs_and_opens_again() {
    let (_server, proxy) = set_up().await;
    let mut inside = connect(&proxy).await;

    proxy.door(Door::Reset).await;
    let error = reply(&mut connect(&proxy).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    proxy.door(Door::Closed).await;
    let error = TcpStream::connect(proxy.addr()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    proxy.door(Door::Hang).await;
    assert!(
        timeout(A_WHILE, TcpStream::connect(proxy.addr()))
            .await
            .is_err()
    );
    let waits = tokio::spawn(TcpStream::connect(proxy.addr()));
    tokio::time::sleep(A_WHILE).await;

    assert_eq!(
        set(&mut inside, "a").await.unwrap(),
        "+OK\r\n",
        "those inside go on"
    );
    proxy.door(Door::Open).await;
    assert_eq!(
        set(&mut connect(&proxy).await, "b").await.unwrap(),
        "+OK\r\n"
    );
    let mut waited = timeout(LONG, waits).await.unwrap().unwrap().unwrap();
    assert_eq!(
        set(&mut waited, "c").await.unwrap(),
        "+OK\r\n",
        "the kernel tried again"
    );
}

#[tokio::test]
async fn a_truncated_reply_ends_the_connection_once() {
    let (server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    proxy.truncate_next_reply(2);
    client.write_all(b"SET a 1\r\n").await.unwrap();
    let mut got = Vec::new();
    timeout(LONG, client.read_to_end(&mut got))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(got, b"+O");
    assert_eq!(server.keys(), ["a"], "it was executed");
    assert_eq!(
        set(&mut connect(&proxy).await, "b").await.unwrap(),
        "+OK\r\n"
    );
}

#[tokio::test]
async fn a_dead_target_resets_clients_and_one_that_returns_is_reached() {
    let (server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    set(&mut client, "a").await.unwrap();
    server.kill();
    let mut byte = [0];
    assert_eq!(
        timeout(LONG, client.read(&mut byte))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
    let error = reply(&mut connect(&proxy).await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    server.restart();
    assert_eq!(
        set(&mut connect(&proxy).await, "b").await.unwrap(),
        "+OK\r\n"
    );
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_port_and_its_connections() {
    let (_server, proxy) = set_up().await;
    let mut client = connect(&proxy).await;
    set(&mut client, "a").await.unwrap();
    let addr = proxy.addr();
    drop(proxy);
    assert!(reply(&mut client).await.is_err());
    assert!(eventually(LONG, || async { TcpStream::connect(addr).await.is_err() }).await);
}
