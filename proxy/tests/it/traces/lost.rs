//! Hazard: traces that are incomplete, and nobody can see it.

use everlock_testkit::eventually;

use super::collector::{Collector, Manner};
use super::{ADMIN, PROMPT};
use crate::admin::dev;
use crate::admin::exposition::Exposition;
use crate::support::{Client, SOON};

const SPANS: &str = "everlock_trace_spans_total";
const OUTCOMES: [&str; 4] = ["sent", "queue_full", "failed", "rejected"];
/// Of an acquire: its own, and one for each of the five nodes in memory.
const SPANS_EACH: usize = 6;
const QUEUE: usize = 64;
const BATCH: usize = 16;
/// Many times the queue.
const REQUESTS: usize = 200;

/// So long does a collector have that hangs.
const BRIEF: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");

async fn ask(client: &Client, requests: usize) {
    for number in 0..requests {
        let answer = client.try_acquire(&format!("k{number}"), "u").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// How many spans became what, in the order of [`OUTCOMES`].
async fn told(admin: &Client) -> [usize; 4] {
    let seen = Exposition::of(admin).await;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "they are counts"
    )]
    OUTCOMES.map(|outcome| seen.sum(SPANS, &[("outcome", outcome)]) as usize)
}

/// Waits until the figures are as wanted.
async fn until(admin: &Client, wanted: impl Fn([usize; 4]) -> bool) -> [usize; 4] {
    let came = eventually(SOON, || async { wanted(told(admin).await) });
    let came = came.await;
    let told = told(admin).await;
    assert!(came, "{OUTCOMES:?}: {told:?}");
    told
}

#[tokio::test]
async fn each_span_that_a_hung_collector_costs_is_counted_once_with_the_reason() {
    let collector = Collector::start(Manner::NeverAnswers).await;
    let endpoint = collector.endpoint();
    let (queue, batch) = (QUEUE.to_string(), BATCH.to_string());
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_MAX_QUEUE_SIZE", &queue),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", &batch),
        BRIEF,
        PROMPT,
    ];
    let (proxy, admin) = dev(&ADMIN, &env).await;
    let seen = Exposition::of(&admin).await;
    let series = seen.series.iter().filter(|series| series.name == SPANS);
    assert_eq!(series.count(), OUTCOMES.len(), "from the start");
    assert_eq!(told(&admin).await, [0; 4]);

    ask(&proxy.client(), REQUESTS).await;
    let all = REQUESTS * SPANS_EACH;
    // What is neither told nor under way waits, and no more than the bound of it.
    let waits = |told: [usize; 4]| all - told.iter().sum::<usize>() <= QUEUE + BATCH;
    let hung = until(&admin, |told| {
        told[1] > 0 && told[2] >= BATCH && waits(told)
    })
    .await;
    assert_eq!((hung[0], hung[3]), (0, 0), "{hung:?}");

    collector.set(Manner::Takes);
    let told = until(&admin, |told| told.iter().sum::<usize>() == all).await;
    assert_eq!(collector.spans().len(), told[0], "{told:?}");
    assert!(told[0] > 0 && told[1] >= hung[1], "{told:?}");

    // There is room again: what comes now is not lost.
    ask(&proxy.client(), 1).await;
    let now = until(&admin, |now| now.iter().sum::<usize>() == all + SPANS_EACH).await;
    assert_eq!(now[1..], told[1..]);
}

#[tokio::test]
async fn spans_that_a_collector_refuses_or_takes_only_in_part_are_told() {
    let collector = Collector::start(Manner::Refuses(503)).await;
    let endpoint = collector.endpoint();
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), PROMPT];
    let (proxy, admin) = dev(&ADMIN, &env).await;
    ask(&proxy.client(), 1).await;
    until(&admin, |told| told == [0, 0, SPANS_EACH, 0]).await;

    collector.set(Manner::Rejects(1));
    ask(&proxy.client(), 1).await;
    let all = 2 * SPANS_EACH;
    let told = until(&admin, |told| told.iter().sum::<usize>() == all).await;
    let batches = collector.heads().len();
    assert_eq!(told, [SPANS_EACH - batches, 0, SPANS_EACH, batches]);
}

#[tokio::test]
async fn without_a_collector_there_are_no_figures_of_spans() {
    let (_proxy, admin) = dev(&ADMIN, &[]).await;
    assert!(!Exposition::of(&admin).await.has(SPANS));
}
