//! Requests that are wrong: each is refused with a reason, and harms nobody.

use serde_json::json;

use crate::support::{Local, Wire};

/// Body and the message it is refused with, on `/lock/acquire`.
const BAD_ACQUIRES: &[(&str, &str)] = &[
    ("", "the body is empty: it must be a JSON object"),
    ("{", "the body is not a JSON object"),
    ("[]", "the body is not a JSON object"),
    ("null", "the body is not a JSON object"),
    (r#"{"key":"k"} x"#, "the body is not a JSON object"),
    (r#"{"key":"k","key":"l"}"#, "a field is given twice"),
    (r#"{"key":"k","x":1,"x":2}"#, "a field is given twice"),
    (r#"{"key":"\ud800"}"#, "the body is not a JSON object"),
    ("{}", "key is missing: it takes a text of 1 to 512 bytes"),
    (
        r#"{"key":null}"#,
        "key is missing: it takes a text of 1 to 512 bytes",
    ),
    (
        r#"{"key":""}"#,
        "key is empty: it takes a text of 1 to 512 bytes",
    ),
    (
        r#"{"key":7}"#,
        "key is a number: it takes a text of 1 to 512 bytes",
    ),
    (
        r#"{"key":["k"]}"#,
        "key is a list: it takes a text of 1 to 512 bytes",
    ),
    (
        r#"{"key":"k","uuid":""}"#,
        "uuid is empty: it takes a text of 1 to 128 bytes",
    ),
    (
        r#"{"key":"k","uuid":{}}"#,
        "uuid is an object: it takes a text of 1 to 128 bytes",
    ),
    (
        r#"{"key":"k","lease":9}"#,
        "lease is 9: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":0}"#,
        "lease is 0: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":-5}"#,
        "lease is -5: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":-5000.0}"#,
        "lease is -5000.0: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":300001}"#,
        "lease is 300001: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":99999999999999}"#,
        "lease is 99999999999999: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":99999999999999999999999}"#,
        "lease is 1e+23: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":1e300}"#,
        "lease is 1e+300: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":1e999}"#,
        "the body is not a JSON object",
    ),
    (
        r#"{"key":"k","lease":NaN}"#,
        "the body is not a JSON object",
    ),
    (
        r#"{"key":"k","lease":5000.5}"#,
        "lease is 5000.5, which is not whole: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":"5000"}"#,
        "lease is a text: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","lease":true}"#,
        "lease is a truth value: it takes a whole number from 10 to 300000",
    ),
    (
        r#"{"key":"k","retryAttempts":-1}"#,
        "retryAttempts is -1: it takes a whole number from 0 to 100000",
    ),
    (
        r#"{"key":"k","retryAttempts":0.5}"#,
        "retryAttempts is 0.5, which is not whole: it takes a whole number from 0 to 100000",
    ),
    (
        r#"{"key":"k","retryAttempts":100001}"#,
        "retryAttempts is 100001: it takes a whole number from 0 to 100000",
    ),
    (
        r#"{"key":"k","retryDelay":3600001}"#,
        "retryDelay is 3600001: it takes a whole number from 0 to 3600000",
    ),
    (
        r#"{"key":"k","retryJitter":[]}"#,
        "retryJitter is a list: it takes a whole number from 0 to 3600000",
    ),
    (
        r#"{"key":"k","retryAttempts":601}"#,
        "retryAttempts × (retryDelay + retryJitter) is 300500: the whole wait takes up to 300000 milliseconds",
    ),
    (
        r#"{"key":"k","retryAttempts":100,"retryDelay":1500,"retryJitter":1501}"#,
        "retryAttempts × (retryDelay + retryJitter) is 300100: the whole wait takes up to 300000 milliseconds",
    ),
    (
        r#"{"key":"k","softFail":1}"#,
        "softFail is a number: it takes true or false",
    ),
    (
        r#"{"key":"k","softFail":"true"}"#,
        "softFail is a text: it takes true or false",
    ),
    (
        r#"{"key":"k","fifo":0}"#,
        "fifo is a number: it takes true or false",
    ),
    // A request that is wrong stays an HTTP error.
    (
        r#"{"softFail":true}"#,
        "key is missing: it takes a text of 1 to 512 bytes",
    ),
];

const BAD_EXTENDS: &[(&str, &str)] = &[
    (
        r#"{"uuid":"u","extendBy":1}"#,
        "key is missing: it takes a text of 1 to 512 bytes",
    ),
    (
        r#"{"key":"k","extendBy":1}"#,
        "uuid is missing: it takes a text of 1 to 128 bytes",
    ),
    (
        r#"{"key":"k","uuid":"u"}"#,
        "extendBy is missing: it takes a whole number from 1 to 300000",
    ),
    (
        r#"{"key":"k","uuid":"u","extendBy":0}"#,
        "extendBy is 0: it takes a whole number from 1 to 300000",
    ),
    (
        r#"{"key":"k","uuid":"u","extendBy":-10000}"#,
        "extendBy is -10000: it takes a whole number from 1 to 300000",
    ),
    (
        r#"{"key":"k","uuid":"u","extendBy":300001}"#,
        "extendBy is 300001: it takes a whole number from 1 to 300000",
    ),
    (
        r#"{"key":"k","uuid":"u","extendBy":1.5}"#,
        "extendBy is 1.5, which is not whole: it takes a whole number from 1 to 300000",
    ),
    (
        r#"{"key":"k","uuid":"u","extendBy":"1"}"#,
        "extendBy is a text: it takes a whole number from 1 to 300000",
    ),
];

const BAD_RELEASES: &[(&str, &str)] = &[
    (
        r#"{"uuid":"u"}"#,
        "key is missing: it takes a text of 1 to 512 bytes",
    ),
    (
        r#"{"key":"k"}"#,
        "uuid is missing: it takes a text of 1 to 128 bytes",
    ),
    (
        r#"{"key":"k","uuid":null}"#,
        "uuid is missing: it takes a text of 1 to 128 bytes",
    ),
    (
        r#"{"key":"k","uuid":"u","softFail":null,"key":"l"}"#,
        "a field is given twice",
    ),
];

#[tokio::test]
async fn every_bad_body_is_refused_with_the_field_and_its_bounds() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    for (verb, outcome, table) in [
        ("acquire", "acquired", BAD_ACQUIRES),
        ("extend", "extended", BAD_EXTENDS),
        ("release", "released", BAD_RELEASES),
    ] {
        for (body, message) in table {
            let answer = client.post(&format!("/lock/{verb}"), *body).await;
            assert_eq!(answer.status, 400, "{verb} {body}: {answer:?}");
            assert!(
                answer.message().contains(message),
                "{verb} {body}: {:?}",
                answer.message()
            );
            assert_eq!(answer.json[outcome], false, "{verb} {body}");
            assert_eq!(
                answer.json.as_object().unwrap().len(),
                2,
                "{verb} {body}: {answer:?}"
            );
        }
    }
    assert_eq!(
        client.try_acquire("k", "u").await.status,
        200,
        "nothing came of it"
    );
}

#[tokio::test]
async fn texts_are_counted_in_bytes() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let answer = client.acquire(json!({"key": "ä".repeat(257)})).await;
    assert_eq!(
        answer.message(),
        "key has 514 bytes: it takes a text of 1 to 512 bytes"
    );
    let answer = client
        .acquire(json!({"key": "k", "uuid": "u".repeat(129)}))
        .await;
    assert_eq!(
        answer.message(),
        "uuid has 129 bytes: it takes a text of 1 to 128 bytes"
    );
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused() {
    let proxy = Local::start(&[]).await;
    let answer = proxy
        .client()
        .post("/lock/acquire", &b"{\"key\":\"\xff\"}"[..])
        .await;
    assert_eq!(
        (answer.status, &answer.json["acquired"]),
        (400, &json!(false))
    );
}

#[tokio::test]
async fn fields_that_nobody_knows_are_ignored() {
    let proxy = Local::start(&[]).await;
    let body = json!({"key": "k", "newest": {"deep": [1, {}]}, "Lease": "x", "licence": null});
    assert_eq!(proxy.client().acquire(body).await.status, 200);
}

#[tokio::test]
async fn a_body_is_json_unless_it_says_otherwise() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let body = r#"{"key":"k","uuid":"u"}"#;
    for (given, status) in [
        (None, 200),
        (Some("application/json"), 200),
        (Some("application/json; charset=utf-8"), 200),
        (Some("Application/JSON ;x"), 200),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("application/jsonp"), 415),
        (Some(""), 415),
    ] {
        let headers: Vec<_> = given
            .map(|given| ("content-type", given))
            .into_iter()
            .collect();
        let answer = client.send("POST", "/lock/acquire", &headers, body).await;
        assert_eq!(answer.status, status, "{given:?}: {answer:?}");
        if status == 415 {
            assert_eq!(answer.json["acquired"], false);
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_json() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    for path in [
        "/",
        "/lock",
        "/lock/acquire/",
        "//lock/acquire",
        "/Lock/acquire",
        "/lock/%61cquire",
        "/healthz/",
    ] {
        let answer = client.post(path, "{}").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.json,
            json!({"message": "there is nothing at this path"}),
            "{path}"
        );
    }
    for (method, path, allow) in [
        ("GET", "/lock/acquire", "POST"),
        ("PUT", "/lock/release", "POST"),
        ("DELETE", "/lock/extend", "POST"),
        ("HEAD", "/lock/extend", "POST"),
        ("POST", "/readyz", "GET, HEAD"),
        ("BREW", "/healthz", "GET, HEAD"),
    ] {
        let answer = client.send(method, path, &[], "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
    }
    let answer = client.send("GET", "/lock/acquire?x", &[], "").await;
    assert_eq!(
        answer.json,
        json!({"acquired": false, "message": "/lock/acquire takes POST"})
    );
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_refused() {
    let proxy = Local::start(&[]).await;
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        (
            "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n",
            "400",
        ),
        (
            "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            "200",
        ),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200"),
    ] {
        let mut wire = Wire::open(proxy.addr).await;
        wire.send(request).await;
        let answer = wire.read_to_end().await;
        assert!(
            answer.split(' ').nth(1) == Some(status),
            "{request:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_request_id_comes_back_and_an_insane_one_is_replaced() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let id = "trace-0042/é".replace('é', "e");
    let answer = client
        .send("GET", "/healthz", &[("x-request-id", &id)], "")
        .await;
    assert_eq!(answer.header("x-request-id"), Some(id.as_str()));
    let long = "x".repeat(129);
    for insane in ["", "a b", long.as_str()] {
        let answer = client
            .send("GET", "/nowhere", &[("x-request-id", insane)], "")
            .await;
        let fresh = answer.header("x-request-id").unwrap();
        assert!(fresh.len() == 32 && fresh != insane, "{fresh}");
    }
}
