//! Who gets the lease, who does not, and what is said when nobody knows.

use std::time::Duration;

use super::{Bench, SOON, Stopwatch, Subject, Weather};
use crate::core::renewal::LossReason;
use crate::lease::LeaseError;

macro_rules! bench {
    ($subject:ident) => {{
        fn here() {}
        let rule = std::any::type_name_of_val(&here);
        Bench::of(
            $subject,
            rule.trim_end_matches("::here")
                .trim_end_matches("::{{closure}}"),
        )
    }};
}
pub(super) use bench;

pub async fn a_second_owner_is_denied_while_the_first_renews(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (first, second) = (bench.contender("first"), bench.contender("second"));
    assert!(first.acquire().await);
    for _ in 0..10 {
        tokio::time::sleep(bench.ttl / 4).await;
        assert!(!second.acquire().await);
        assert!(first.is_alive() && !second.is_alive());
    }
}

pub async fn a_lease_is_alive_past_several_ttls_while_it_is_renewed(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(!holder.is_alive());
    assert!(holder.acquire().await);
    for _ in 0..20 {
        tokio::time::sleep(bench.ttl / 5).await;
        assert!(holder.is_alive());
    }
    assert_eq!(holder.losses(), []);
}

pub async fn it_is_handed_over_after_a_release(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (first, second) = (bench.contender("first"), bench.contender("second"));
    for _ in 0..3 {
        assert!(first.acquire().await);
        assert!(!second.acquire().await);
        first.release().await.unwrap();
        assert!(second.acquire().await, "at once");
        assert!(!first.acquire().await);
        second.release().await.unwrap();
    }
}

pub async fn it_is_taken_over_when_it_has_run_out_and_not_before(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (first, second) = (bench.contender("first"), bench.contender("second"));
    assert!(first.acquire().await);
    if !bench.weather("first", Weather::Silent) {
        return;
    }
    let started = Stopwatch::start();
    while !second.acquire().await {
        assert!(started.time() < 2 * bench.ttl + SOON);
        tokio::time::sleep(bench.ttl / 50).await;
    }
    assert!(!first.is_alive() && second.is_alive());
    bench.weather("first", Weather::Fine);
    assert!(!first.acquire().await);
    assert_eq!(first.losses(), [LossReason::Expired]);
}

pub async fn of_many_concurrent_acquires_exactly_one_wins(subject: &dyn Subject) {
    let bench = bench!(subject);
    let crowd: Vec<_> = (0..subject.crowd())
        .map(|number| bench.contender(&format!("owner-{number}")))
        .collect();
    for _ in 0..2 {
        let acquiring = crowd.iter().map(super::Contender::acquire);
        let won = futures_util::future::join_all(acquiring).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let winner = won.iter().position(|won| *won).unwrap();
        for (number, contender) in crowd.iter().enumerate() {
            assert_eq!(contender.is_alive(), number == winner);
        }
        crowd[winner].release().await.unwrap();
    }
}

pub async fn the_same_owner_acquires_again_in_the_same_tenure(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (holder, other) = (bench.contender("holder"), bench.contender("other"));
    assert!(holder.acquire().await);
    let token = holder.lease.token();
    for _ in 0..3 {
        tokio::time::sleep(bench.ttl / 7).await;
        assert!(holder.acquire().await);
        assert_eq!(holder.lease.token(), token);
        assert!(!other.acquire().await);
    }
    assert_eq!(holder.losses(), []);
    holder.release().await.unwrap();
    assert!(
        other.acquire().await,
        "one release ends what several acquires began"
    );
}

pub async fn acquires_at_once_of_one_lease_are_one_tenure(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    bench.weather("holder", Weather::Slow(bench.ttl / 30));
    let (one, other) = tokio::join!(holder.acquire(), holder.acquire());
    assert!(one && other && holder.is_alive());
    // Who goes away takes nothing from who was told.
    let mut dropped = holder.lease.acquire();
    assert!(super::begun(&mut dropped).await.is_none());
    drop(dropped);
    tokio::time::sleep(bench.ttl / 5).await;
    assert!(holder.is_alive());
    assert_eq!(holder.losses(), []);
}

pub async fn acquiring_again_all_the_time_loses_nothing(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender_with(bench.options("holder").renewal_interval(bench.ttl / 40));
    bench.weather("holder", Weather::Slow(Duration::from_millis(7)));
    assert!(holder.acquire().await);
    let token = holder.lease.token();
    let started = Stopwatch::start();
    while started.time() < bench.ttl * 3 / 2 {
        let (one, other) = tokio::join!(holder.acquire(), holder.acquire());
        assert!(one && other && holder.is_alive());
        assert_eq!(holder.lease.token(), token);
        tokio::time::sleep(Duration::from_millis(11)).await;
    }
    assert_eq!(holder.losses(), []);
}

pub async fn what_cannot_be_asked_is_an_error_and_no_lease(subject: &dyn Subject) {
    let bench = bench!(subject);
    if !bench.weather("cut-off", Weather::Silent) {
        return;
    }
    let (cut_off, other) = (bench.contender("cut-off"), bench.contender("other"));
    assert!(cut_off.lease.acquire().await.is_err());
    assert!(!cut_off.is_alive() && cut_off.lease.token().is_none());
    assert!(other.acquire().await);
    // That another holds it is not known either.
    assert!(cut_off.lease.acquire().await.is_err());
    bench.weather("cut-off", Weather::Fine);
    assert!(!cut_off.acquire().await);
    assert_eq!(cut_off.losses(), []);
}

pub async fn what_was_done_and_not_heard_of_is_no_lease_and_can_be_asked_again(
    subject: &dyn Subject,
) {
    let bench = bench!(subject);
    let (deaf, other) = (bench.contender("deaf"), bench.contender("other"));
    if !bench.weather("deaf", Weather::Deaf) {
        return;
    }
    assert!(deaf.lease.acquire().await.is_err());
    assert!(!deaf.is_alive());
    bench.weather("deaf", Weather::Fine);
    assert!(
        deaf.acquire().await,
        "whatever was done before is the same owner's"
    );
    assert!(deaf.is_alive() && !other.acquire().await);
    deaf.release().await.unwrap();
    assert!(other.acquire().await);
}

pub async fn asking_again_in_vain_leaves_the_tenure_to_its_deadline(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (holder, other) = (bench.contender("holder"), bench.contender("other"));
    assert!(holder.acquire().await);
    if !bench.weather("holder", Weather::Silent) {
        return;
    }
    let mut asking = holder.lease.acquire();
    assert!(super::begun(&mut asking).await.is_none());
    assert!(holder.is_alive(), "nobody has said that it is over");
    // It may end with an error, or with the tenure.
    let result = asking.await;
    assert!(result.is_err() || !holder.is_alive(), "{result:?}");
    holder.is_lost_within(bench.ttl + SOON).await;
    assert_eq!(holder.losses(), [LossReason::Expired]);
    bench.acquires_within(&other, 2 * bench.ttl + SOON).await;
}

pub async fn asking_again_when_another_holds_it_ends_the_tenure(subject: &dyn Subject) {
    let bench = bench!(subject);
    // It does not renew by itself before it is asked again.
    let holder = bench.contender_with(bench.options("holder").renewal_interval(bench.ttl / 2));
    let other = bench.contender("other");
    assert!(holder.acquire().await);
    if !bench.revoke().await {
        return;
    }
    assert!(other.acquire().await);
    assert!(!holder.acquire().await);
    assert!(!holder.is_alive() && holder.lease.token().is_none());
    assert_eq!(holder.losses(), [LossReason::Gone]);
    assert!(other.is_alive());
}

pub async fn a_wild_number_of_attempts_ends_with_a_release(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    let patient = bench
        .options("patient")
        .acquire_retries(crate::lease::MAX_ATTEMPTS)
        .acquire_retry_delay(Duration::from_mins(1));
    let patient = bench.contender_with(patient);
    assert!(holder.acquire().await);
    let started = Stopwatch::start();
    let (acquired, released) = tokio::join!(patient.lease.acquire(), async {
        tokio::time::sleep(bench.ttl / 4).await;
        patient.release().await
    });
    released.unwrap();
    // Some backends don't try again while another holds it.
    let answered = matches!(acquired, Ok(false) | Err(LeaseError::Superseded));
    assert!(answered, "{acquired:?}");
    assert!(started.time() < SOON, "it does not sit out its delay");
    assert!(holder.is_alive() && !patient.is_alive());
}
