//! Hazard: a collector that is away, slow or hung and takes the proxy with it.

use std::time::Duration;

use everlock_testkit::{ReservedPort, Signal, eventually};

use super::PROMPT;
use super::collector::{Collector, Manner};
use super::is;
use crate::support::{Proxy, SOON, timed};

const DEV: [&str; 4] = ["serve", "--dev", "--listen", "127.0.0.1:0"];
const AWAY: &str = "the collector takes no traces";
/// Many times the queue and the batches that are given below.
const REQUESTS: usize = 300;
/// Of all of them together; one answer of the collector is waited for longer.
const QUICK: Duration = Duration::from_secs(8);
/// The flush, the end of the program, and a busy machine.
const END_WITHIN: Duration = Duration::from_secs(8);

async fn proxy(endpoint: &str) -> Proxy {
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "30000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16"),
        PROMPT,
    ];
    Proxy::spawn(&DEV, &env).await
}

/// Asks for much, and whether all of it was answered soon.
async fn ask(proxy: &Proxy) -> Duration {
    let client = proxy.client();
    let asking = async {
        for number in 0..REQUESTS {
            let key = format!("k{number}");
            assert_eq!(client.try_acquire(&key, "u").await.status, 200);
        }
    };
    timed(asking).await.1
}

#[tokio::test]
async fn one_that_never_answers_holds_up_neither_requests_nor_the_end() {
    let collector = Collector::start(Manner::NeverAnswers).await;
    let mut proxy = proxy(&collector.endpoint()).await;
    let took = ask(&proxy).await;
    assert!(took < QUICK, "{took:?}");
    assert!(eventually(SOON, || async { collector.connections() > 0 }).await);
    proxy.process.signal(Signal::TERM);
    let (status, took) = timed(proxy.process.wait_exit(SOON)).await;
    assert!(status.success() && took < END_WITHIN, "{took:?}");
    let output = proxy.process.output();
    assert!(output.contains("did not take the last traces"), "{output}");
}

#[tokio::test]
async fn one_that_is_away_is_told_of_once_and_again_when_it_is_back() {
    let port = ReservedPort::take();
    let mut away = proxy(&format!("http://127.0.0.1:{}", port.port())).await;
    let took = ask(&away).await;
    assert!(took < QUICK, "{took:?}");
    away.process
        .wait_for_line(|line| line.contains(AWAY), SOON)
        .await;
    away.process.signal(Signal::TERM);
    let (status, took) = timed(away.process.wait_exit(SOON)).await;
    assert!(status.success() && took < END_WITHIN, "{took:?}");
    assert_eq!(away.process.output().matches(AWAY).count(), 1);

    let collector = Collector::start(Manner::Refuses(503)).await;
    let mut proxy = proxy(&collector.endpoint()).await;
    let client = proxy.client();
    client.try_acquire("k", "u").await;
    let refused = proxy
        .process
        .wait_for_line(|line| line.contains(AWAY), SOON)
        .await;
    assert!(refused.contains("503"), "{refused}");
    collector.set(Manner::Takes);
    client.release("k", "u").await;
    collector.one(is("POST /lock/release")).await;
    let back = |line: &str| line.contains("takes traces again");
    proxy.process.wait_for_line(back, SOON).await;
    assert_eq!(proxy.process.output().matches(AWAY).count(), 1);
}
