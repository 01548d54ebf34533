//! `POST /lock/release`

use serde_json::json;

use crate::support::Local;

#[tokio::test]
async fn a_released_lock_is_free_and_can_be_released_only_once() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    client.try_acquire("k", "a").await;
    assert_eq!(client.release("k", "a").await.status, 200);
    let again = client.release("k", "a").await;
    assert_eq!(
        (again.status, &again.json["released"]),
        (404, &json!(false))
    );
    assert!(again.message().contains("does not exist"), "{again:?}");
    assert_eq!(client.try_acquire("k", "b").await.status, 200);
}

#[tokio::test]
async fn nobody_releases_the_lock_of_another() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    client.try_acquire("k", "a").await;
    let answer = client.release("k", "b").await;
    assert_eq!(
        (answer.status, &answer.json["released"]),
        (409, &json!(false))
    );
    let soft = json!({"key": "k", "uuid": "b", "softFail": true});
    let inline = client.post("/lock/release", soft.to_string()).await;
    assert_eq!(
        (inline.status, &inline.json["released"]),
        (200, &json!(false))
    );
    assert_eq!(
        client.extend("k", "a", 1_000).await.status,
        200,
        "it is still held"
    );
}
