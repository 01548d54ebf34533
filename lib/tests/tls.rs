//! Hazard: nodes behind TLS, of this authority or of another, with and without it.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support;

use everlock::{ConfigError, Error, Fault, FaultKind, NodeTls, Redlock, RedlockBuilder, Vote};
use everlock_testkit::{RedisCluster, TlsFiles};
use support::secured::{read, trusting, with_tls, works};
use support::turns::{SECOND, attempt};
use tokio::time::Instant;

/// The faults of all nodes, which must be told soon, whatever stands in the way.
async fn faults(builder: RedlockBuilder) -> Vec<Fault> {
    let started = Instant::now();
    let client = builder.connect().await.unwrap();
    let error = client.acquire("r", attempt()).await.unwrap_err();
    let took = started.elapsed();
    assert!(took < 4 * SECOND, "{took:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let votes = client.readiness().await.nodes.into_iter();
    votes
        .map(|(node, vote)| match vote {
            Vote::Failed(fault) => fault,
            other => panic!("{node} has no fault: {other}"),
        })
        .collect()
}

#[tokio::test]
async fn nodes_behind_tls_work_with_the_authority_that_signed_them() {
    let files = TlsFiles::make();
    let cluster = with_tls(3, &files, "no");
    let builder = Redlock::builder().node_urls(cluster.urls());
    works(builder.node_tls(trusting(&files)), &cluster).await;
}

#[tokio::test]
async fn nodes_that_want_a_certificate_are_shown_one() {
    let files = TlsFiles::make();
    let cluster = with_tls(3, &files, "yes");
    let identity = trusting(&files).identity(read(&files.certificate()), read(&files.key()));
    let builder = Redlock::builder().node_urls(cluster.urls());
    works(builder.node_tls(identity), &cluster).await;
    let without = Redlock::builder().node_urls(cluster.urls());
    let without = without.node_tls(trusting(&files));
    assert_eq!(faults(without).await.len(), 3);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_a_fault_and_no_hang() {
    let (files, others) = (TlsFiles::make(), TlsFiles::make());
    let cluster = with_tls(3, &files, "no");
    for tls in [trusting(&others), NodeTls::default()] {
        let builder = Redlock::builder().node_urls(cluster.urls());
        for fault in faults(builder.node_tls(tls)).await {
            assert!(
                matches!(fault.kind, FaultKind::Unreachable | FaultKind::Disconnected),
                "{fault:?}"
            );
            assert!(fault.detail.contains("certificate"), "{fault}");
        }
    }
}

#[tokio::test]
async fn tls_to_a_plain_server_and_plain_to_a_tls_server_are_faults_and_no_hang() {
    let files = TlsFiles::make();
    let (plain, secure) = (RedisCluster::start(3), with_tls(3, &files, "no"));
    let secured = |url: String| url.replace("redis://", "rediss://");
    let to_plain = Redlock::builder().node_urls(plain.urls().into_iter().map(secured));
    faults(to_plain.node_tls(trusting(&files))).await;
    let unsecured = |url: String| url.replace("rediss://", "redis://");
    faults(Redlock::builder().node_urls(secure.urls().into_iter().map(unsecured))).await;
}

#[tokio::test]
async fn files_that_are_no_certificates_are_refused_before_anything_is_dialled() {
    let (files, others) = (TlsFiles::make(), TlsFiles::make());
    let (certificate, key) = (read(&files.certificate()), read(&files.key()));
    let trusting_key = NodeTls::default().ca(key.clone());
    let torn = NodeTls::default().ca(read(&files.ca())[..200].to_vec());
    let mine = trusting(&files);
    for (tls, problem) in [
        (NodeTls::default().ca(""), "authority is no certificate"),
        (
            NodeTls::default().ca("no PEM"),
            "authority is no certificate",
        ),
        (trusting_key, "authority is no certificate"),
        (torn, "authority is no certificate"),
        (
            mine.clone().identity("", key.clone()),
            "client's certificate",
        ),
        (
            mine.clone().identity(certificate.clone(), ""),
            "client's key is no",
        ),
        (
            mine.clone()
                .identity(certificate.clone(), read(&others.key())),
            "not that of its certificate",
        ),
    ] {
        // Nobody listens there, and nobody is asked.
        let builder = || Redlock::builder().node_urls(["rediss://127.0.0.1:1"]);
        let problems = builder().node_tls(tls.clone()).node_problems();
        let [told @ ConfigError::BadTls { .. }] = problems.as_slice() else {
            panic!("{problem}: {problems:?}");
        };
        assert!(told.to_string().contains(problem), "{told}");
        let refused = builder().node_tls(tls).connect().await.unwrap_err();
        assert_eq!(refused, *told);
    }
    let fine = Redlock::builder().node_tls(mine.identity(certificate, key));
    assert_eq!(fine.node_problems(), []);
}

#[test]
fn urls_are_judged_all_at_once_and_never_repeated() {
    let urls = [
        "redis://:s3cret@a:1",
        "http://user:s3cret@b",
        "redis://:s3cret@a:1/2",
        "redis://",
        "rediss://c#s3cret",
        "redis://a:notaport",
        "redis://d/notadb",
        "unix:///run/redis.sock",
        "s3cret",
    ];
    let problems = Redlock::builder().node_urls(urls).node_problems();
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let of = |number: usize| {
        told.iter()
            .find(|text| text.starts_with(&format!("node {number}: ")))
    };
    for fine in [1, 8] {
        assert_eq!(of(fine), None);
    }
    for wrong in [2, 4, 5, 6, 7, 9] {
        let text = of(wrong).unwrap();
        assert!(text.contains("not the URL of a Redis server"), "{text}");
    }
    assert_eq!(of(3).unwrap(), "node 3: the same server as node 1");
    assert!(!told.concat().contains("s3cret"), "{told:?}");
}
