//! Losses: when a lease is over, and who hears of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::acquiring::bench;
use super::{Bench, SOON, Stopwatch, Subject, Weather};
use crate::core::renewal::LossReason;
use crate::lease::{Lease, Subscription};

/// Calls of a handler, each with the name that it was given.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<&'static str>>>);

impl Heard {
    fn by(&self, lease: &dyn Lease, name: &'static str) -> Subscription {
        let heard = self.clone();
        lease.on_lost(Box::new(move |_| heard.0.lock().unwrap().push(name)))
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

pub async fn a_renewal_that_is_refused_is_a_loss(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(holder.acquire().await);
    if !bench.revoke().await {
        return;
    }
    holder.is_lost_within(bench.ttl / 2 + SOON).await;
    assert_eq!(holder.losses(), [LossReason::Gone]);
    assert!(!holder.is_alive() && holder.lease.token().is_none());
    tokio::time::sleep(bench.ttl).await;
    assert_eq!(holder.losses(), [LossReason::Gone]);
    assert!(bench.contender("other").acquire().await);
}

pub async fn a_holder_that_is_cut_off_hears_by_its_deadline(subject: &dyn Subject) {
    loses_by_its_deadline(bench!(subject), Weather::Silent).await;
}

pub async fn a_holder_that_hears_no_answers_hears_by_its_deadline(subject: &dyn Subject) {
    loses_by_its_deadline(bench!(subject), Weather::Deaf).await;
}

async fn loses_by_its_deadline(bench: Bench<'_>, weather: Weather) {
    let holder = bench.contender("holder");
    let asked = Stopwatch::start();
    assert!(holder.acquire().await);
    if !bench.weather("holder", weather) {
        return;
    }
    while holder.is_alive() {
        assert!(asked.time() <= bench.ttl, "alive past its ttl");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // By the deadline, and not when a renewal next fails: that takes longer.
    let late = Duration::from_millis(500);
    super::until(late + slack(&bench), || !holder.losses().is_empty()).await;
    assert_eq!(holder.losses(), [LossReason::Expired]);
    bench.weather("holder", Weather::Fine);
    tokio::time::sleep(bench.ttl).await;
    assert!(!holder.is_alive(), "what is over stays so");
    assert_eq!(holder.losses(), [LossReason::Expired]);
}

/// Real machines are busy; simulated ones are not.
fn slack(bench: &Bench<'_>) -> Duration {
    let simulated = bench.subject.crowd() >= 200;
    if simulated { Duration::ZERO } else { SOON }
}

pub async fn a_transient_failure_costs_nothing(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(holder.acquire().await);
    for weather in [Weather::Silent, Weather::Deaf, Weather::Silent] {
        bench.weather("holder", weather);
        tokio::time::sleep(bench.ttl / 4).await;
        bench.weather("holder", Weather::Fine);
        tokio::time::sleep(bench.ttl).await;
        assert!(holder.is_alive());
    }
    assert_eq!(holder.losses(), []);
}

pub async fn a_loss_is_told_once_to_each_handler_in_order_and_a_panic_harms_nobody(
    subject: &dyn Subject,
) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    let heard = Heard::default();
    let _first = heard.by(&*holder.lease, "first");
    let _bad = holder
        .lease
        .on_lost(Box::new(|_| panic!("a handler's own")));
    let _second = heard.by(&*holder.lease, "second");
    assert!(holder.acquire().await);
    // One that comes late in the tenure is the last in order.
    let _third = heard.by(&*holder.lease, "third");
    if !bench.revoke().await {
        return;
    }
    super::until(SOON, || heard.all().len() >= 3).await;
    tokio::time::sleep(2 * bench.ttl).await;
    assert_eq!(heard.all(), ["first", "second", "third"]);
    // And the lease can be acquired and lost as before.
    assert!(holder.acquire().await);
    assert!(bench.revoke().await);
    super::until(SOON, || heard.all().len() >= 6).await;
}

pub async fn who_left_is_not_told(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    let heard = Heard::default();
    let left = heard.by(&*holder.lease, "left");
    let _stays = heard.by(&*holder.lease, "stays");
    heard.by(&*holder.lease, "detached").detach();
    assert!(holder.acquire().await);
    drop(left);
    if !bench.revoke().await {
        return;
    }
    super::until(SOON, || heard.all().len() >= 2).await;
    assert_eq!(heard.all(), ["stays", "detached"]);
}

pub async fn a_handler_may_leave_and_others_come_while_a_loss_is_told(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    let heard = Heard::default();
    let kept: Arc<Mutex<Vec<Subscription>>> = Arc::default();
    let (own, inner) = (Arc::clone(&kept), heard.clone());
    let lease = Arc::downgrade(&holder.lease);
    let meddler = holder.lease.on_lost(Box::new(move |_| {
        // It ends its own subscription and the next one's, and adds another.
        let gone = std::mem::take(&mut *own.lock().unwrap());
        drop(gone);
        inner.0.lock().unwrap().push("meddler");
        if let Some(lease) = lease.upgrade() {
            inner.by(&*lease, "added").detach();
        }
    }));
    let next = heard.by(&*holder.lease, "next");
    kept.lock().unwrap().extend([meddler, next]);
    let _last = heard.by(&*holder.lease, "last");
    assert!(holder.acquire().await);
    if !bench.revoke().await {
        return;
    }
    super::until(SOON, || heard.all().len() >= 3).await;
    tokio::time::sleep(bench.ttl / 2).await;
    assert_eq!(heard.all(), ["meddler", "added", "last"]);
}

pub async fn who_comes_after_the_loss_is_told_at_once(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(holder.acquire().await);
    if !bench.revoke().await {
        return;
    }
    holder.is_lost_within(SOON).await;
    let heard = Heard::default();
    let _late = heard.by(&*holder.lease, "late");
    assert_eq!(heard.all(), ["late"], "before `on_lost` has returned");
    let _later = heard.by(&*holder.lease, "later");
    assert_eq!(heard.all(), ["late", "later"]);
    let _bad = holder
        .lease
        .on_lost(Box::new(|_| panic!("a handler's own")));
    tokio::time::sleep(bench.ttl).await;
    assert_eq!(heard.all(), ["late", "later"], "once");
}

pub async fn who_comes_after_what_followed_the_loss_is_not_told(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (holder, other) = (bench.contender("holder"), bench.contender("other"));
    for follows in ["acquire", "denial", "release"] {
        assert!(holder.acquire().await);
        let lost = holder.losses().len();
        if !bench.revoke().await {
            return;
        }
        super::until(SOON, || holder.losses().len() > lost).await;
        match follows {
            "acquire" => assert!(holder.acquire().await),
            "denial" => assert!(other.acquire().await && !holder.acquire().await),
            _ => holder.release().await.unwrap(),
        }
        let heard = Heard::default();
        let subscription = heard.by(&*holder.lease, "late");
        assert!(heard.all().is_empty(), "{follows}");
        drop(subscription);
        holder.release().await.unwrap();
        other.release().await.unwrap();
    }
}

pub async fn each_loss_is_told(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    for times in 1..=3 {
        assert!(holder.acquire().await);
        if !bench.revoke().await {
            return;
        }
        super::until(SOON, || holder.losses().len() >= times).await;
        assert_eq!(holder.losses(), vec![LossReason::Gone; times]);
    }
}

pub async fn a_pause_beyond_the_ttl_ends_the_tenure_at_once(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(holder.acquire().await);
    if !bench.suspend("holder", bench.ttl) {
        return;
    }
    assert!(!holder.is_alive(), "before any timer has run");
    assert!(holder.lease.token().is_none());
    holder.is_lost_within(SOON).await;
    assert_eq!(holder.losses(), [LossReason::Expired]);
    assert!(!holder.is_alive(), "no renewal brings it back");
    assert!(holder.acquire().await, "but an acquire may");
}

pub async fn a_pause_within_the_ttl_ends_nothing(subject: &dyn Subject) {
    let bench = bench!(subject);
    let holder = bench.contender("holder");
    assert!(holder.acquire().await);
    for _ in 0..5 {
        tokio::time::sleep(bench.ttl).await;
        if !bench.suspend("holder", bench.ttl / 3) {
            return;
        }
        assert!(holder.is_alive());
    }
    tokio::time::sleep(bench.ttl).await;
    assert!(holder.is_alive() && holder.losses().is_empty());
}

pub async fn a_renewal_that_is_answered_after_the_deadline_brings_nothing_back(
    subject: &dyn Subject,
) {
    let bench = bench!(subject);
    for weather in [Weather::Slow, Weather::Lagging] {
        let holder = bench.contender("holder");
        assert!(holder.acquire().await);
        if !bench.weather("holder", weather(bench.ttl * 2)) {
            return;
        }
        holder.is_lost_within(bench.ttl + SOON).await;
        let started = Stopwatch::start();
        // Until after the renewal was answered that was under way by then.
        while started.time() < bench.ttl * 7 / 4 {
            assert!(!holder.is_alive());
            tokio::time::sleep(bench.ttl / 20).await;
        }
        assert_eq!(holder.losses(), [LossReason::Expired]);
        bench.weather("holder", Weather::Fine);
    }
}

pub async fn an_acquire_that_is_answered_after_its_ttl_is_no_lease(subject: &dyn Subject) {
    let bench = bench!(subject);
    let (late, other) = (bench.contender("late"), bench.contender("other"));
    if !bench.weather("late", Weather::Lagging(bench.ttl * 2)) {
        return;
    }
    let result = late.lease.acquire().await;
    assert!(result.is_err(), "{result:?}");
    assert!(!late.is_alive() && late.losses().is_empty());
    bench.weather("late", Weather::Fine);
    bench.acquires_within(&other, 4 * bench.ttl + SOON).await;
    assert!(!late.is_alive());
}
