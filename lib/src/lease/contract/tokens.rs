//! Fencing tokens: later tenures have later ones.

use super::acquiring::bench;
use super::{Bench, SOON, Subject, Weather};

pub async fn the_token_is_that_of_the_present_tenure(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert_eq!(holder.lease.token(), None);
    if !holder.lease.supports_tokens() {
        assert!(holder.lease.acquire_with_token().await.is_err());
        return;
    }
    let token = holder.token().await;
    assert_eq!(holder.lease.token(), Some(token.clone()));
    assert_eq!(holder.token().await, token, "the same tenure");
    let other = bench.contender("other");
    assert_eq!(other.lease.acquire_with_token().await.unwrap(), None);
    assert_eq!(other.lease.token(), None);
    holder.release().await.unwrap();
    assert_eq!(holder.lease.token(), None);
}

pub async fn tokens_rise_over_releases_and_owners(subject: &dyn Subject) {
    let bench = bench!(subject);
    let contenders = ["a", "b"].map(|owner| bench.contender(owner));
    if !contenders[0].lease.supports_tokens() {
        return;
    }
    let mut last = None;
    // More than ten, so that a token without padding falls.
    for round in 0..12 {
        let contender = &contenders[usize::from(round % 3 == 0)];
        let token = contender.token().await;
        assert!(last < Some(token.clone()), "{last:?} {token:?}");
        let text = last.as_ref().map(ToString::to_string);
        assert!(text < Some(token.to_string()), "as texts, too");
        last = Some(token);
        contender.release().await.unwrap();
    }
}

pub async fn tokens_rise_over_takeovers(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (first, second) = (bench.contender("first"), bench.contender("second"));
    if !first.lease.supports_tokens() {
        return;
    }
    let earlier = first.token().await;
    if !bench.weather("first", Weather::Silent) {
        return;
    }
    bench.acquires_within(&second, 2 * bench.ttl + SOON).await;
    let later = second.lease.token().unwrap();
    assert!(earlier < later);
    bench.weather("first", Weather::Fine);
    second.release().await.unwrap();
    assert!(later < first.token().await);
}

pub async fn a_restarted_owner_acquires_at_once_and_under_a_later_token(subject: &dyn Subject) {
    let bench = bench!(subject);
    let before = bench.contender("restarted");
    if !before.lease.supports_tokens() {
        return;
    }
    let earlier = before.token().await;
    // The process is gone: nothing more is heard of it.
    if !bench.weather("restarted", Weather::Silent) {
        return;
    }
    let after = bench.contender("restarted");
    bench.weather("restarted", Weather::Fine);
    let later = after.token().await;
    assert!(earlier < later, "{earlier:?} {later:?}");
    // Should it be there all the same, it hears of its end, and harms nobody.
    before.is_lost_within(bench.ttl + SOON).await;
    assert!(!before.is_alive() && after.is_alive());
    before.release().await.unwrap();
    tokio::time::sleep(bench.ttl).await;
    assert!(after.is_alive() && after.lease.token() == Some(later));
    assert!(!bench.contender("other").acquire().await);
}

pub async fn a_result_that_was_overtaken_is_told_by_its_token(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    if !holder.lease.supports_tokens() {
        return;
    }
    let stale = holder.token().await;
    holder.release().await.unwrap();
    let present = holder.token().await;
    assert!(stale < present && holder.lease.token() == Some(present));
}
