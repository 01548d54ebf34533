//! Releases: what they end at once, what they say, what they leave alone.

use std::time::Duration;

use super::acquiring::bench;
use super::{Bench, SOON, Subject, Weather};
use crate::lease::LeaseError;

pub async fn a_release_of_nothing_does_nothing(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (holder, idle) = (bench.contender("holder"), bench.contender("idle"));
    assert!(holder.acquire().await);
    assert!(!idle.acquire().await);
    idle.release().await.unwrap();
    // It asks nobody, so nobody's silence matters.
    bench.weather("idle", Weather::Silent);
    idle.release().await.unwrap();
    assert!(holder.is_alive() && !idle.is_alive());
}

pub async fn a_release_is_not_alive_before_anything_is_sent(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(holder.acquire().await);
    let slow = bench.weather("holder", Weather::Slow(bench.ttl / 30));
    let mut releasing = holder.lease.release();
    let done = super::begun(&mut releasing).await;
    assert!(!holder.is_alive() && holder.lease.token().is_none());
    assert!(!slow || done.is_none(), "it was not sent yet");
    if done.is_none() {
        releasing.await.unwrap();
    }
    assert!(bench.contender("other").acquire().await);
}

pub async fn a_release_is_no_loss(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(holder.acquire().await);
    holder.release().await.unwrap();
    holder.release().await.unwrap();
    tokio::time::sleep(bench.ttl * 3 / 2).await;
    assert_eq!(holder.losses(), []);
}

pub async fn a_release_that_cannot_be_told_is_an_error_and_nothing_is_renewed_after_it(
    subject: &dyn Subject,
) {
    let bench = bench!(subject);
    let (holder, other) = (bench.contender("holder"), bench.contender("other"));
    assert!(holder.acquire().await);
    assert!(!other.acquire().await);
    if !bench.weather("holder", Weather::Silent) {
        return;
    }
    let (released, ()) = tokio::join!(holder.release(), async {
        tokio::task::yield_now().await;
        assert!(!holder.is_alive());
    });
    assert!(released.is_err());
    assert!(!holder.is_alive());
    // The way is clear again, and it is not used to renew.
    bench.weather("holder", Weather::Fine);
    bench.acquires_within(&other, 2 * bench.ttl + SOON).await;
    assert!(!holder.is_alive());
    assert_eq!(holder.losses(), []);
}

pub async fn a_release_that_failed_can_be_made_again(subject: &dyn Subject) {
    let bench = bench!(subject);
    // Long enough that it does not run out meanwhile.
    let long = bench.options("holder").ttl(bench.ttl * 6);
    let (holder, other) = (bench.contender_with(long), bench.contender("other"));
    assert!(holder.acquire().await);
    if !bench.weather("holder", Weather::Silent) {
        return;
    }
    assert!(holder.release().await.is_err());
    bench.weather("holder", Weather::Fine);
    holder.release().await.unwrap();
    assert!(other.acquire().await, "at once");
}

pub async fn a_release_of_what_was_lost_does_not_touch_a_successor(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (first, second) = (bench.contender("first"), bench.contender("second"));
    assert!(first.acquire().await);
    if !bench.weather("first", Weather::Silent) {
        return;
    }
    bench.acquires_within(&second, 2 * bench.ttl + SOON).await;
    bench.weather("first", Weather::Fine);
    first.release().await.unwrap();
    tokio::time::sleep(bench.ttl).await;
    assert!(second.is_alive());
    assert!(!bench.contender("third").acquire().await);
    assert!(!first.acquire().await);
    first.release().await.unwrap();
    assert!(second.acquire().await && second.is_alive());
}

pub async fn a_release_in_the_middle_of_a_renewal_ends_it(subject: &dyn Subject) {
    let bench = bench!(subject);
    for weather in [Weather::Slow, Weather::Lagging] {
        let (holder, other) = (bench.contender("holder"), bench.contender("other"));
        let interval = bench.ttl / 30;
        let eager = bench.options("holder").renewal_interval(interval);
        drop(holder);
        let holder = bench.contender_with(eager);
        assert!(holder.acquire().await);
        bench.weather("holder", weather(interval));
        tokio::time::sleep(interval * 3 / 2).await;
        holder.release().await.unwrap();
        assert!(!holder.is_alive());
        bench.acquires_within(&other, bench.ttl * 2 + SOON).await;
        tokio::time::sleep(interval * 4).await;
        assert!(!holder.is_alive() && other.is_alive());
        bench.weather("holder", Weather::Fine);
        assert!(!holder.acquire().await);
        assert!(other.acquire().await, "what came late took nothing from it");
        other.release().await.unwrap();
    }
}

pub async fn a_release_that_is_dropped_takes_its_course(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (holder, other) = (bench.contender("holder"), bench.contender("other"));
    assert!(holder.acquire().await);
    bench.weather("holder", Weather::Slow(Duration::from_millis(20)));
    let mut releasing = holder.lease.release();
    let _ = super::begun(&mut releasing).await;
    drop(releasing);
    assert!(!holder.is_alive());
    bench.acquires_within(&other, bench.ttl.max(SOON)).await;
}

pub async fn an_acquire_that_is_dropped_at_any_moment_leaves_nothing(subject: &dyn Subject) {
    let bench = bench!(subject);
    // It could not run out within the time in which it must be free.
    let options = bench.options("dropped").ttl(bench.ttl * 6);
    let (dropped, other) = (bench.contender_with(options), bench.contender("other"));
    for weather in [Weather::Fine, Weather::Slow(SLOW), Weather::Lagging(SLOW)] {
        bench.weather("dropped", weather);
        for moment in 0..6 {
            let acquiring = dropped.lease.acquire();
            let acquired = tokio::time::timeout(SLOW / 4 * moment, acquiring).await;
            if acquired.is_ok() {
                dropped.release().await.unwrap();
            }
            bench.acquires_within(&other, SOON).await;
            assert!(!dropped.is_alive());
            other.release().await.unwrap();
        }
    }
    assert_eq!(dropped.losses(), []);
}

/// So slow that an acquire can be dropped in its middle.
const SLOW: Duration = Duration::from_millis(40);

pub async fn an_abandoned_acquire_that_wins_later_can_be_released(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (abandoned, other) = (bench.contender("abandoned"), bench.contender("other"));
    if !bench.weather("abandoned", Weather::Lagging(SLOW)) {
        return;
    }
    // Nobody asks for its result any more, and it is still there.
    let mut acquiring = abandoned.lease.acquire();
    assert!(super::begun(&mut acquiring).await.is_none());
    tokio::time::sleep(2 * SLOW).await;
    abandoned.release().await.unwrap();
    assert!(!abandoned.is_alive());
    assert!(other.acquire().await, "at once");
    drop(acquiring);
    tokio::time::sleep(2 * SLOW).await;
    assert!(other.is_alive() && other.acquire().await);
}

pub async fn a_release_overtakes_an_acquire_that_is_under_way(subject: &dyn Subject) {
    let bench = bench!(subject);
    for weather in [Weather::Fine, Weather::Slow(SLOW), Weather::Lagging(SLOW)] {
        let (hasty, other) = (bench.contender("hasty"), bench.contender("other"));
        bench.weather("hasty", weather);
        let (acquired, released) = tokio::join!(hasty.lease.acquire(), hasty.lease.release());
        released.unwrap();
        // It won before the release, or it was overtaken.
        let answered = matches!(acquired, Ok(true) | Err(LeaseError::Superseded));
        assert!(answered, "{acquired:?}");
        assert!(!hasty.is_alive() && hasty.losses().is_empty());
        bench.acquires_within(&other, SOON).await;
        other.release().await.unwrap();
    }
}

pub async fn a_release_may_be_awaited_before_the_acquire_that_it_overtakes(subject: &dyn Subject) {
    let bench = bench!(subject);
    let hasty = bench.contender("hasty");
    bench.weather("hasty", Weather::Slow(SLOW));
    let mut acquiring = hasty.lease.acquire();
    let _ = super::begun(&mut acquiring).await;
    let released = tokio::time::timeout(SOON, hasty.release()).await;
    released.expect("it waits for no other future").unwrap();
    assert!(!hasty.is_alive());
    let _ = acquiring.await;
    assert!(!hasty.is_alive());
    assert!(bench.contender("other").acquire().await);
}

pub async fn releases_and_acquires_in_any_order_end_as_the_last_one_says(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (hasty, other) = (bench.contender("hasty"), bench.contender("other"));
    for round in 0_u32..24 {
        let late = Duration::from_millis(u64::from(round % 5));
        bench.weather("hasty", Weather::Slow(late));
        let pause = Duration::from_millis(u64::from(round % 7));
        let acquire = async |after: u32| {
            tokio::time::sleep(pause * after).await;
            let _ = hasty.lease.acquire().await;
        };
        let release = async |after: u32| {
            tokio::time::sleep(pause * after).await;
            hasty.lease.release().await.unwrap();
        };
        tokio::join!(acquire(0), release(1), acquire(1), release(2), acquire(3));
        release(0).await;
        assert!(!hasty.is_alive());
        assert!(other.acquire().await, "round {round}");
        other.release().await.unwrap();
        assert!(hasty.acquire().await, "round {round}");
        assert!(hasty.is_alive());
        hasty.release().await.unwrap();
    }
    assert_eq!(hasty.losses(), []);
}
