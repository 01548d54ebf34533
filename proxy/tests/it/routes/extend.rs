//! `POST /lock/extend`

use serde_json::json;

use crate::support::Local;

#[tokio::test]
async fn an_extension_is_added_to_what_remains_of_the_lease() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    client
        .acquire(json!({"key": "k", "uuid": "a", "lease": 60_000}))
        .await;
    let answer = client.extend("k", "a", 60_000).await;
    assert_eq!(
        (answer.status, &answer.json["extended"]),
        (200, &json!(true))
    );
    let validity = answer.json["validity"].as_u64().unwrap();
    assert!((90_000..120_000).contains(&validity), "{validity}");
}

#[tokio::test]
async fn a_lock_that_does_not_exist_is_not_extended() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let answer = client.extend("k", "a", 1_000).await;
    assert_eq!(
        (answer.status, &answer.json["extended"]),
        (404, &json!(false))
    );
    let soft = json!({"key": "k", "uuid": "a", "extendBy": 1_000, "softFail": true});
    let inline = client.post("/lock/extend", soft.to_string()).await;
    assert_eq!((inline.status, inline.text), (200, answer.text));
}

#[tokio::test]
async fn a_lock_under_another_uuid_is_not_extended() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    client.try_acquire("k", "a").await;
    let answer = client.extend("k", "b", 1_000).await;
    assert_eq!(
        (answer.status, &answer.json["extended"]),
        (409, &json!(false))
    );
    assert_eq!(answer.message(), "the lock is held under another uuid");
    assert!(answer.json["retryAfter"].is_u64());
}

#[tokio::test]
async fn an_expired_lock_is_not_brought_back() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    client
        .acquire(json!({"key": "k", "uuid": "a", "lease": 20}))
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    assert_eq!(client.extend("k", "a", 5_000).await.status, 404);
    assert_eq!(client.try_acquire("k", "b").await.status, 200);
}
