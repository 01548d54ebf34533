//! `POST /lock/acquire`

use std::time::Duration;

use everlock_testkit::{RedisCluster, eventually};
use serde_json::json;

use crate::support::{Answer, Local, Proxy, timed};

#[tokio::test]
async fn the_three_requests_of_the_documentation_work_unchanged() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let headers = [
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer YOUR_API_KEY"),
    ];
    let acquire =
        r#"{"key":"<your resource key>","lease":5000,"retryAttempts":5,"retryDelay":500}"#;
    let answer = client
        .send("POST", "/lock/acquire", &headers, acquire)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let uuid = answer.json["config"]["uuid"].as_str().unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&uuid).unwrap().get_version_num(), 7);
    let documented = format!(
        r#"{{"acquired":true,"lockAcquisitionAttempts":1,"config":{{"key":"<your resource key>","lease":5000,"retryAttempts":5,"retryDelay":500,"uuid":"{uuid}","#
    );
    assert!(answer.text.starts_with(&documented), "{}", answer.text);
    assert!(answer.json["message"].is_null());

    let extend = format!(r#"{{"key":"<your resource key>","extendBy":3000,"uuid":"{uuid}"}}"#);
    let answer = client.send("POST", "/lock/extend", &headers, extend).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text
            .starts_with(r#"{"extended":true,"message":null"#),
        "{}",
        answer.text
    );

    let release = format!(r#"{{"key":"<your resource key>","uuid":"{uuid}"}}"#);
    let answer = client
        .send("POST", "/lock/release", &headers, release)
        .await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (200, r#"{"released":true,"message":null}"#)
    );
}

#[tokio::test]
async fn what_is_not_given_has_the_documented_defaults() {
    let proxy = Local::start(&[]).await;
    let answer = proxy
        .client()
        .acquire(json!({"key": "k", "uuid": null}))
        .await;
    let uuid = &answer.json["config"]["uuid"];
    let expected = json!({
        "key": "k", "lease": 10000, "retryAttempts": 10, "retryDelay": 500, "uuid": uuid,
        "retryJitter": 0, "fifo": false,
    });
    assert_eq!(answer.json["config"], expected);
    let validity = answer.json["validity"].as_u64().unwrap();
    assert!((5_000..10_000).contains(&validity), "{validity}");
    let token = answer.json["fencingToken"].as_u64().unwrap();
    assert!((1..1 << 53).contains(&token));
}

#[tokio::test]
async fn a_lease_that_is_not_given_is_no_longer_than_the_maximum() {
    let proxy = Local::start(&[("max-lease", "4s")]).await;
    let answer = proxy.client().acquire(json!({"key": "k"})).await;
    assert_eq!(
        (answer.status, &answer.json["config"]["lease"]),
        (200, &json!(4000))
    );
    let answer = proxy
        .client()
        .acquire(json!({"key": "k", "lease": 4001}))
        .await;
    assert_eq!(
        answer.message(),
        "lease is 4001: it takes a whole number from 10 to 4000"
    );
}

#[tokio::test]
async fn numbers_may_be_integral_floats() {
    let proxy = Local::start(&[]).await;
    let body = r#"{"key":"k","lease":5e3,"retryAttempts":1.0,"retryDelay":0.0,"retryJitter":-0.0}"#;
    let answer = proxy.client().post("/lock/acquire", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer
            .text
            .contains(r#""lease":5000,"retryAttempts":1,"retryDelay":0"#),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn who_waits_in_turn_gets_the_lock_in_the_order_of_asking() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let ask = |uuid: &str, attempts: u32, delay: u32| {
        json!({"key": "k", "uuid": uuid, "fifo": true, "lease": 8000, "retryAttempts": attempts,
            "retryDelay": delay})
    };
    let holder = client.acquire(ask("0", 0, 0)).await;
    assert_eq!(
        (holder.status, &holder.json["config"]["fifo"]),
        (200, &json!(true))
    );
    let wait = |uuid: &'static str| {
        let (client, body) = (proxy.client(), ask(uuid, 2, 20_000));
        tokio::spawn(async move { client.acquire(body).await })
    };
    let in_line = async |count: u32| {
        // Somebody who does not wait is told how many do.
        let probe = ask("probe", 0, 0);
        let stands = eventually(Duration::from_secs(10), || async {
            client.acquire(probe.clone()).await.json["position"] == count
        });
        assert!(stands.await, "{count}");
    };
    let first = wait("1");
    in_line(1).await;
    let second = wait("2");
    in_line(2).await;
    client.release("k", "0").await;
    assert_eq!(first.await.unwrap().status, 200);
    // The winner leaves the line soon after it has won, and the other one stays.
    in_line(1).await;
    assert!(!second.is_finished());
    client.release("k", "1").await;
    assert_eq!(second.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_held_lock_is_refused_with_the_time_until_it_is_free() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    client
        .acquire(json!({"key": "k", "uuid": "a", "lease": 8000}))
        .await;
    let ask = json!({"key": "k", "uuid": "b", "retryAttempts": 2, "retryDelay": 1});
    let answer = client.acquire(ask.clone()).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.json["acquired"], false);
    assert_eq!(answer.json["lockAcquisitionAttempts"], 3);
    assert_eq!(answer.json["config"]["uuid"], "b");
    assert_eq!(answer.message(), "the lock is held by others");
    let retry_after = answer.json["retryAfter"].as_u64().unwrap();
    assert!((1_000..=8_000).contains(&retry_after), "{retry_after}");

    let mut soft = ask;
    soft["softFail"] = json!(true);
    let inline = client.acquire(soft).await;
    assert_eq!(
        (inline.status, &inline.json["acquired"]),
        (200, &json!(false))
    );
    assert_eq!(inline.json["message"], answer.json["message"]);
}

#[tokio::test]
async fn the_holder_may_ask_again_and_gets_the_same_token_and_a_fresh_lease() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let body = |lease| json!({"key": "k", "uuid": "mine", "lease": lease});
    let first = client.acquire(body(2_000)).await;
    let again = client.acquire(body(60_000)).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.json["fencingToken"], again.json["fencingToken"]);
    assert!(again.json["validity"].as_u64().unwrap() > 30_000);
    let other = client.try_acquire("k", "other").await;
    assert_eq!(other.status, 409);
}

#[tokio::test]
async fn tokens_rise_from_holder_to_holder() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let mut last = 0;
    for round in 0..5 {
        let uuid = round.to_string();
        let answer = client.try_acquire("k", &uuid).await;
        let token = answer.json["fencingToken"].as_u64().unwrap();
        assert!(token > last, "{token} after {last}");
        last = token;
        assert_eq!(client.release("k", &uuid).await.status, 200);
    }
}

#[tokio::test]
async fn a_waiter_wins_soon_after_the_holders_lease_ends_whatever_its_delay() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    client
        .acquire(json!({"key": "k", "uuid": "a", "lease": 500}))
        .await;
    let waiting = client.acquire(json!({"key": "k", "retryAttempts": 1, "retryDelay": 60_000}));
    let (answer, took) = timed(waiting).await;
    assert_eq!(answer.status, 200);
    assert!(took.as_millis() < 500 + 1_000, "{took:?}");
    assert!(answer.json["lockAcquisitionAttempts"].as_u64().unwrap() <= 2);
}

#[tokio::test]
async fn any_text_up_to_512_bytes_is_a_key() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let long = "k".repeat(512);
    let umlauts = "ä".repeat(256);
    for key in [
        "\0",
        "\n\r\t",
        "\"",
        "'",
        "{",
        "}",
        "{a}",
        ":",
        "::",
        "~",
        "a~fence:b",
        " ",
        "🔒",
        "\u{feff}",
        "../..",
        "%00",
        "anonymous:k",
        long.as_str(),
        umlauts.as_str(),
    ] {
        let answer = client.try_acquire(key, "me").await;
        assert_eq!(answer.status, 200, "{key:?}: {answer:?}");
        assert_eq!(answer.json["config"]["key"], key);
        assert_eq!(
            client.try_acquire(key, "other").await.status,
            409,
            "{key:?}"
        );
        assert_eq!(client.release(key, "me").await.status, 200, "{key:?}");
    }
}

#[tokio::test]
async fn a_key_is_on_all_nodes_under_prefix_and_identity_with_the_uuid_as_its_value() {
    let nodes = RedisCluster::start(5);
    let proxy = Proxy::over(&nodes, &["--global-prefix", "Acme"])
        .await
        .ready()
        .await;
    let client = proxy.client();
    let answer = client.try_acquire("orders: \"42\"\n", "my uuid").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let key = "Acme:anonymous:orders: \"42\"\n";
    let everywhere = eventually(Duration::from_secs(1), || async {
        nodes.count(key, "my uuid") == 5
    });
    assert!(everywhere.await, "{:?}", nodes.get(key));
    let left = nodes[0].ttl_ms(key);
    assert!((1..=10_000).contains(&left), "{left}");
    assert_eq!(
        client.release("orders: \"42\"\n", "my uuid").await.status,
        200
    );
    let nowhere = eventually(Duration::from_secs(1), || async {
        nodes.count(key, "my uuid") == 0
    });
    assert!(nowhere.await, "{:?}", nodes.get(key));
}

#[tokio::test]
async fn an_answer_says_from_when_its_validity_counts() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let timing = |answer: &Answer| -> Option<u128> {
        let millis = answer
            .header("server-timing")?
            .strip_prefix("everlock;dur=");
        Some(millis.unwrap().parse().unwrap())
    };
    let holder = client.try_acquire("k", "holder").await;
    assert!(timing(&holder).is_some());
    assert!(timing(&client.extend("k", "holder", 10).await).is_some());
    assert_eq!(timing(&client.try_acquire("k", "other").await), None);
    // The wait counts, and nothing that comes after it.
    let waiter = client.clone();
    let body = json!({"key": "k", "uuid": "waiter", "retryAttempts": 1_000, "retryDelay": 50});
    let waiting = tokio::spawn(async move { timed(waiter.acquire(body)).await });
    let pause = Duration::from_millis(500);
    tokio::time::sleep(pause).await;
    client.release("k", "holder").await;
    let (answer, took) = waiting.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let handled = timing(&answer).unwrap();
    // How long the request took to arrive is not known here, only that it did in good time.
    assert!(handled <= took.as_millis(), "{handled} of {took:?}");
    assert!(handled >= pause.as_millis() / 5, "{handled} of {took:?}");
}
