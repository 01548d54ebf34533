//! An orderly end: nobody waits in vain, and nothing is left behind.

use std::time::Duration;

use everlock_testkit::{RedisCluster, Signal, eventually};
use serde_json::json;

use crate::support::{Local, Proxy, SOON, Wire, timed};

/// What supervisors give.
const END_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn waiting_acquirers_are_answered_early_and_the_process_ends_with_zero() {
    let nodes = RedisCluster::start(3);
    let mut proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    client
        .acquire(json!({"key": "k", "uuid": "holder", "lease": 60_000}))
        .await;
    let waiters: Vec<_> = (0..20)
        .map(|number| {
            let client = client.clone();
            let soft = number == 0;
            tokio::spawn(async move {
                let wait =
                    json!({"key": "k", "retryAttempts": 50, "retryDelay": 1_000, "softFail": soft});
                client.acquire(wait).await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.process.signal(Signal::TERM);
    let (status, took) = timed(proxy.process.wait_exit(END_WITHIN)).await;
    assert!(status.success(), "{}", proxy.process.output());
    assert!(
        took < Duration::from_secs(5),
        "{took:?}: there was nothing to wait for"
    );
    for (number, waiter) in waiters.into_iter().enumerate() {
        let answer = waiter.await.unwrap();
        assert_eq!(
            answer.status,
            if number == 0 { 200 } else { 503 },
            "{answer:?}"
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.json["acquired"], false);
        // The library counts the attempt that a waiter sleeps for.
        let attempts = answer.json["lockAcquisitionAttempts"].as_u64();
        assert!(matches!(attempts, Some(1 | 2)), "{answer:?}");
        assert!(answer.message().contains("about to end"), "{answer:?}");
    }
    let values = nodes.get("Evermind:anonymous:k");
    assert!(
        values
            .iter()
            .all(|value| value.as_deref() == Some("holder")),
        "{values:?}"
    );
}

#[tokio::test]
async fn the_end_comes_in_time_also_with_dead_nodes_and_undos_pending() {
    let nodes = RedisCluster::start(5);
    let mut proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    for node in 2..5 {
        nodes.pause(node);
    }
    let answer = client.try_acquire("k", "never").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    let waiter = tokio::spawn({
        let client = client.clone();
        async move { client.acquire(json!({"key": "l", "uuid": "never"})).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.process.signal(Signal::TERM);
    let status = proxy.process.wait_exit(END_WITHIN).await;
    assert!(status.success(), "{}", proxy.process.output());
    assert_eq!(waiter.await.unwrap().status, 503);
    for key in ["Evermind:anonymous:k", "Evermind:anonymous:l"] {
        assert_eq!(nodes[0].get(key), None, "undone where a node answers");
    }
}

#[tokio::test]
async fn undos_reach_a_node_that_goes_on_during_the_drain() {
    let nodes = RedisCluster::start(3);
    let mut proxy = Proxy::over(&nodes, &[]).await.ready().await;
    nodes.pause(1);
    nodes.pause(2);
    let ask = json!({"key": "k", "uuid": "never", "lease": 60_000, "retryAttempts": 0});
    assert_eq!(proxy.client().acquire(ask).await.status, 503);
    proxy.process.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let output = proxy.process.output();
    assert!(
        !output.contains("ended"),
        "there is still something to undo: {output}"
    );
    nodes.resume(1);
    nodes.resume(2);
    let status = proxy.process.wait_exit(END_WITHIN).await;
    assert!(status.success());
    assert!(
        proxy.process.output().contains("ended in order"),
        "{}",
        proxy.process.output()
    );
    assert_eq!(nodes.count("Evermind:anonymous:k", "never"), 0);
}

#[tokio::test]
async fn while_a_request_is_still_coming_in_probes_hear_of_the_end_and_holders_are_served() {
    let mut proxy = Local::start(&[]).await;
    let client = proxy.client();
    client.try_acquire("k", "u").await;
    let mut slow = Wire::open(proxy.addr).await;
    let body = r#"{"key":"k","uuid":"u"}"#;
    let head = format!(
        "POST /lock/release HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    slow.send(&head).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.stop();

    client.until_ready(503).await;
    let answer = client.get("/readyz").await;
    assert_eq!(
        (answer.json["status"].as_str(), answer.header("connection")),
        (Some("draining"), Some("close"))
    );
    assert_eq!(client.get("/healthz").await.status, 200);
    let answer = client.try_acquire("l", "u").await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    assert!(
        answer.json.get("lockAcquisitionAttempts").is_none(),
        "none was made: {answer:?}"
    );
    let soft = client.acquire(json!({"key": "l", "softFail": true})).await;
    assert_eq!((soft.status, &soft.json["acquired"]), (200, &json!(false)));
    assert_eq!(client.extend("k", "u", 1_000).await.status, 200);

    slow.send(body).await;
    let answer = slow.read_to_end().await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""released":true"#),
        "{answer}"
    );
    assert!(proxy.ended().await, "in order");
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let mut proxy = Local::start(&[]).await;
    let mut kept = Wire::open(proxy.addr).await;
    kept.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    kept.read_until("ok").await;
    let mut silent = Wire::open(proxy.addr).await;
    let mut half = Wire::open(proxy.addr).await;
    half.send("GET /healthz HTTP/1.1\r\n").await;
    let h2 = crate::support::Client::h2(proxy.addr);
    h2.get("/healthz").await;
    proxy.stop();
    let (ended, took) = timed(proxy.ended()).await;
    assert!(ended, "in order, after {took:?}");
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert_eq!(kept.read_to_end().await, "");
    assert_eq!(silent.read_to_end().await, "");
}

#[tokio::test]
async fn an_http2_peer_that_is_gone_without_a_word_does_not_hold_up_the_end() {
    let mut proxy = Local::start(&[]).await;
    let mut gone = Wire::open(proxy.addr).await;
    // The preface and empty settings; whatever is asked of it from now on is not answered.
    gone.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    gone.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    gone.read_some().await;
    proxy.stop();
    // Which it would not be at the end of the drain's time.
    assert!(proxy.ended().await, "in order");
}

#[tokio::test]
async fn http2_peers_hear_of_the_end_when_balancers_do() {
    let mut proxy = Local::start(&[("drain-delay", "60s")]).await;
    let direct = proxy.redlock.clone();
    let lease = everlock::AcquireOptions::new().lease(SOON * 2);
    let held = direct.acquire("Evermind:anonymous:k", lease).await.unwrap();
    let stream = tokio::net::TcpStream::connect(proxy.addr).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driving = tokio::spawn(connection);
    let alive = hyper::Request::get("http://x/healthz").body(()).unwrap();
    let (alive, _) = sender.send_request(alive, true).unwrap();
    drop(alive.await.unwrap());
    let request = hyper::Request::post("http://x/lock/acquire")
        .body(())
        .unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    let wait = r#"{"key":"k","uuid":"u","retryAttempts":1000,"retryDelay":100}"#;
    body.send_data(wait.into(), true).unwrap();
    proxy.stop();
    let told = eventually(SOON, || {
        let sender = sender.clone();
        async move { sender.ready().await.is_err() }
    });
    assert!(told.await, "it takes no more requests");
    direct.release(&held).await.unwrap();
    let answer = tokio::time::timeout(SOON, answer).await;
    let answer = answer.expect("what is under way is answered").unwrap();
    assert_eq!(answer.status(), 200);
    drop(answer);
    let ended = tokio::time::timeout(SOON, driving).await;
    ended.expect("it is ended").unwrap().unwrap();
    // Others are served meanwhile.
    assert_eq!(proxy.client().try_acquire("l", "u").await.status, 200);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let nodes = RedisCluster::start(3);
    let mut proxy = Proxy::over(&nodes, &["--drain-timeout", "60s"])
        .await
        .ready()
        .await;
    nodes.pause(1);
    nodes.pause(2);
    assert_eq!(proxy.client().try_acquire("k", "u").await.status, 503);
    proxy.process.signal(Signal::INT);
    proxy
        .process
        .wait_for_line(|line| line.contains("draining"), SOON)
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.process.signal(Signal::INT);
    let status = proxy.process.wait_exit(END_WITHIN).await;
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn the_port_is_free_after_the_end() {
    let mut proxy = Local::start(&[]).await;
    let addr = proxy.addr;
    proxy.stop();
    assert!(proxy.ended().await);
    let free = eventually(SOON, || async {
        tokio::net::TcpListener::bind(addr).await.is_ok()
    });
    assert!(free.await);
}

#[tokio::test]
async fn a_hangup_is_no_reason_to_end() {
    let nodes = RedisCluster::start(1);
    let mut proxy = Proxy::over(&nodes, &[]).await.ready().await;
    for count in 1..=2 {
        proxy.process.signal(Signal::HUP);
        let noted = eventually(SOON, || async {
            proxy.process.output().matches("SIGHUP").count() == count
        });
        assert!(noted.await, "{}", proxy.process.output());
    }
    assert_eq!(proxy.client().try_acquire("k", "u").await.status, 200);
    proxy.process.signal(Signal::TERM);
    assert!(proxy.process.wait_exit(END_WITHIN).await.success());
}

#[tokio::test]
async fn with_a_delay_everybody_is_served_while_balancers_are_told_to_go_elsewhere() {
    let nodes = RedisCluster::start(3);
    let flags = ["--drain-delay", "4s"];
    let mut proxy = Proxy::over(&nodes, &flags).await.ready().await;
    let client = proxy.client();
    proxy.process.signal(Signal::TERM);
    client.until_ready(503).await;
    let ready = client.get("/readyz").await;
    assert_eq!(ready.json["status"], "draining");
    // A connection that a balancer keeps ends with an answer, not between two.
    assert_eq!(ready.header("connection"), Some("close"));
    let held = json!({"key": "k", "uuid": "u", "lease": 60_000});
    assert_eq!(client.acquire(held).await.status, 200);
    assert_eq!(client.release("k", "u").await.status, 200);
    let status = proxy.process.wait_exit(SOON).await;
    assert!(status.success(), "{}", proxy.process.output());
}
