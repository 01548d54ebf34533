//! Rules of the marker: opening a new set, and never opening one twice.

use super::{Bench, MAX_LEASE, Make, cluster};
use crate::core::command::Command;
use crate::core::marker::{ClusterInfo, Marker, MarkerCommand, Phase};
use crate::core::quorum::Vote;

fn named(id: &str) -> ClusterInfo {
    ClusterInfo {
        id: id.to_owned(),
        ..cluster(MAX_LEASE)
    }
}

impl Bench {
    /// Prepares the node for a cluster, over what is there.
    async fn prepare(&self, id: &str, nonce: &str) -> Marker {
        let seen = self.mark(MarkerCommand::Read).await.marker;
        let over = seen.and_then(|marker| match marker.phase {
            Phase::Prepared { nonce } => Some(nonce),
            Phase::Active => None,
        });
        self.prepare_over(over.as_deref(), id, nonce).await
    }

    async fn prepare_over(&self, seen: Option<&str>, id: &str, nonce: &str) -> Marker {
        let command = MarkerCommand::Prepare {
            cluster: named(id),
            nonce: nonce.to_owned(),
            over: seen.map(ToOwned::to_owned),
            durable: false,
        };
        let state = self.mark(command).await;
        state.marker.expect("there is a marker from now on")
    }

    async fn activate(&self, nonce: &str) -> Option<Marker> {
        let nonce = nonce.to_owned();
        self.mark(MarkerCommand::Activate { nonce }).await.marker
    }
}

fn nonce(of: &Marker) -> &str {
    match &of.phase {
        Phase::Prepared { nonce } => nonce,
        Phase::Active => panic!("not opened yet"),
    }
}

pub async fn a_look_changes_nothing(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    assert_eq!(bench.mark(MarkerCommand::Read).await.marker, None);
    let prepared = bench.prepare("b", "1").await;
    let seen = bench.mark(MarkerCommand::Read).await;
    assert_eq!(seen.marker.as_ref(), Some(&prepared));
    assert_eq!(seen.run_id, prepared.run_id);
    assert_eq!(prepared.cluster, named("b"));
}

pub async fn the_lower_cluster_id_wins_whatever_the_order(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    bench.prepare("b", "1").await;
    let higher = bench.prepare("c", "2").await;
    assert_eq!((higher.cluster.id.as_str(), nonce(&higher)), ("b", "1"));
    let same = bench.prepare("b", "3").await;
    assert_eq!(
        nonce(&same),
        "1",
        "a nonce stays for as long as its cluster"
    );
    let lower = bench.prepare("a", "4").await;
    assert_eq!((lower.cluster.id.as_str(), nonce(&lower)), ("a", "4"));
}

pub async fn who_did_not_see_what_is_prepared_prepares_nothing(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    bench.prepare("b", "1").await;
    let late = bench.prepare_over(None, "a", "2").await;
    assert_eq!((late.cluster.id.as_str(), nonce(&late)), ("b", "1"));
    let later = bench.prepare_over(Some("1"), "a", "3").await;
    assert_eq!((later.cluster.id.as_str(), nonce(&later)), ("a", "3"));
    let stale = bench.prepare_over(Some("1"), "Z", "4").await;
    assert_eq!((stale.cluster.id.as_str(), nonce(&stale)), ("a", "3"));
}

pub async fn only_the_present_nonce_opens_a_node(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    assert_eq!(bench.activate("1").await, None, "there is nothing to open");
    bench.prepare("b", "1").await;
    bench.prepare("a", "2").await;
    let prepared = bench.activate("1").await.expect("it was prepared");
    assert_eq!(nonce(&prepared), "2");
    assert!(matches!(
        bench.ask(Command::Ping).await,
        Vote::Guarded { .. }
    ));
    let open = bench.activate("2").await.expect("it was prepared");
    assert_eq!(open.phase, Phase::Active);
    assert_eq!(bench.ask(Command::Ping).await, Vote::Pong);
    assert_eq!(bench.acquire("a", 1, 1).await, Vote::Granted);
}

pub async fn an_open_node_is_never_prepared_again(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let before = bench.mark(MarkerCommand::Read).await.marker;
    let after = bench.prepare("a lower id", "9").await;
    assert_eq!(Some(after), before);
    assert_eq!(bench.activate("9").await, before);
}

pub async fn a_preparation_of_another_run_gives_way(make: Make<'_>) {
    let bench = Bench::unmarked(make(false)).await;
    bench.prepare("a", "1").await;
    bench.subject.restart();
    let not_opened = bench.activate("1").await.expect("the data was kept");
    assert_eq!(nonce(&not_opened), "1", "of another run");
    let fresh = bench.prepare("b", "2").await;
    assert_eq!((fresh.cluster.id.as_str(), nonce(&fresh)), ("b", "2"));
    let open = bench.activate("2").await.expect("it was prepared");
    assert_eq!(open.phase, Phase::Active);
}

pub async fn a_guard_keeps_the_cluster_that_the_node_knows(make: Make<'_>) {
    let bench = Bench::open(make).await;
    bench.subject.restart();
    let other = MarkerCommand::Guard {
        cluster: ClusterInfo {
            max_lease: MAX_LEASE / 2,
            ..named("another")
        },
        started: None,
        durable: false,
    };
    let marker = bench.mark(other).await.marker.expect("it has one");
    assert_eq!(marker.cluster, cluster(MAX_LEASE));
}
