//! Hazard: advice that rests on figures which are not what happened.

use std::time::Duration;

use everlock_proxy::advisor::{Group, Report};
use everlock_testkit::eventually;
use serde_json::json;

use crate::support::{Local, SOON};

fn report(proxy: &Local) -> Report {
    proxy
        .insights
        .report(&|lease| proxy.redlock.drift_of(lease))
}

fn group(report: &Report, name: &str) -> Group {
    let found = report.groups.iter().find(|group| group.group == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {report:?}"))
        .clone()
}

#[tokio::test]
async fn holds_waits_and_outcomes_are_recorded_by_group_of_keys() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let hold = Duration::from_millis(120);
    for number in 1..=3 {
        let key = format!("order:{number}");
        assert_eq!(client.try_acquire(&key, "first").await.status, 200);
        let refused = client.try_acquire(&key, "second").await;
        assert_eq!(refused.status, 409);
        tokio::time::sleep(hold).await;
        assert_eq!(client.release(&key, "first").await.status, 200);
    }
    // A release that finds nothing says nothing of a lease, unless the lock was acquired here.
    assert_eq!(client.release("order:9", "nobody").await.status, 404);
    assert_eq!(client.release("order:1", "first").await.status, 404);
    let brief = json!({"key": "order:4", "uuid": "late", "lease": 50});
    assert_eq!(client.acquire(brief).await.status, 200);
    tokio::time::sleep(hold).await;
    assert_eq!(client.release("order:4", "late").await.status, 404);
    let report = report(&proxy);
    let order = group(&report, "order:#");
    let samples = &order.samples;
    assert_eq!((samples.acquired, samples.contended), (4, 3));
    assert_eq!((samples.attempts, samples.keys), (7, 4));
    assert_eq!((samples.holds.count(), samples.lapsed), (3, 1));
    let short = samples.holds.quantile(0.0).unwrap();
    assert!(
        u128::from(short) + 20 >= hold.as_millis(),
        "held for {short} ms"
    );
    assert!(samples.held_ms >= 300, "{} ms", samples.held_ms);
    // The busiest of the keys is one of three that were held for as long.
    let others = u128::from(samples.held_ms - samples.busiest_held_ms);
    assert!(others + 40 >= 2 * hold.as_millis(), "{samples:?}");
    assert_eq!(samples.settings.len(), 2);
    assert_eq!((samples.drift_ppm, samples.drift_margin_ms), (10_000, 2));
    assert_eq!(order.identity, "anonymous");
    assert_eq!(order.advice.needs.len(), 2, "it says that these are few");
}

#[tokio::test]
async fn who_waits_is_recorded_with_the_time_until_the_lock_was_free() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    assert_eq!(client.try_acquire("k", "holder").await.status, 200);
    let waiting = {
        let client = proxy.client();
        let body = json!({"key": "k", "uuid": "waiter", "retryAttempts": 50, "retryDelay": 100});
        tokio::spawn(async move { client.acquire(body).await })
    };
    let waits = || async {
        let seen = serde_json::to_value(proxy.insights.snapshot()).unwrap();
        seen["waiters"] == 1 && seen["oldestWaiterMs"].as_u64().unwrap() > 200
    };
    assert!(eventually(SOON, waits).await, "it is seen to wait");
    assert_eq!(client.release("k", "holder").await.status, 200);
    assert_eq!(waiting.await.unwrap().status, 200);
    let seen = serde_json::to_value(proxy.insights.snapshot()).unwrap();
    assert_eq!(seen["waiters"], 0);
    let samples = group(&report(&proxy), "k").samples;
    assert_eq!(
        (samples.waits.count(), samples.time_to_free.count()),
        (1, 1)
    );
    let (free, wait) = (&samples.time_to_free, &samples.waits);
    assert!(free.quantile(1.0) <= wait.quantile(1.0));
    assert!(free.quantile(1.0).unwrap() >= 200);
    assert_eq!(samples.most_waiters, 1);
}

#[tokio::test]
async fn a_client_that_goes_away_is_recorded_as_one_that_gave_up_by_itself() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    assert_eq!(client.try_acquire("k", "holder").await.status, 200);
    let waiting = {
        let client = proxy.client();
        let body = json!({"key": "k", "uuid": "waiter", "retryAttempts": 500, "retryDelay": 100});
        tokio::spawn(async move { client.acquire(body).await })
    };
    let seen = || async { serde_json::to_value(proxy.insights.snapshot()).unwrap() };
    assert!(eventually(SOON, || async { seen().await["waiters"] == 1 }).await);
    waiting.abort();
    assert!(eventually(SOON, || async { seen().await["waiters"] == 0 }).await);
    assert_eq!(group(&report(&proxy), "k").samples.cancelled, 1);
}

#[tokio::test]
async fn ten_thousand_groups_of_hostile_names_leave_a_bounded_record_in_which_the_busy_one_is() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let letters = |number: u32| {
        let digits = number.to_string();
        let letter = |digit: u8| char::from(b'a' + (digit - b'0'));
        digits.bytes().map(letter).collect::<String>()
    };
    for number in 0..10_000 {
        if number % 20 == 0 {
            client.try_acquire("busy", "x").await;
        }
        let key = format!("<img src=x onerror=alert(1)>{}", letters(number));
        client.try_acquire(&key, "x").await;
    }
    let report = report(&proxy);
    assert!(report.groups.len() <= 64, "{}", report.groups.len());
    assert!(report.groups_forgotten > 9_000);
    group(&report, "busy");
    let snapshot = serde_json::to_vec(&proxy.insights.snapshot()).unwrap();
    assert!(snapshot.len() < 64 * 1024, "{} bytes", snapshot.len());
}
