//! The API behind TLS: who is let in, what is shown, and how certificates change under way.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use everlock_testkit::{Signal, TlsFiles, eventually};
use rustls::HandshakeKind;

use crate::support::{Client, Local, Proxy, SOON, TlsClient, Wire, run, timed};

const ACQUIRE: &str = r#"{"key":"k","uuid":"u"}"#;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A proxy in this process that serves with these files.
async fn serving(files: &TlsFiles, more: &[(&str, &str)]) -> Local {
    let (certificate, key) = (files.certificate(), files.key());
    let flags = [("tls-cert", text(&certificate)), ("tls-key", text(&key))];
    Local::start(&[&flags, more].concat()).await
}

/// Puts other files in the place of these.
fn replace(files: &TlsFiles, others: &TlsFiles) {
    put(&others.certificate(), &files.certificate());
    put(&others.key(), &files.key());
}

fn put(from: &Path, to: &PathBuf) {
    std::fs::copy(from, to).unwrap();
}

#[tokio::test]
async fn the_api_is_served_over_either_version_with_and_without_a_name() {
    let files = TlsFiles::make();
    let proxy = serving(&files, &[]).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for nameless in [false, true] {
            let mut client = TlsClient::of_version(&files.ca(), version);
            if nameless {
                client = client.nameless();
            }
            let mut wire = client.connect(proxy.addr).await.unwrap().wire();
            wire.post("/lock/acquire", ACQUIRE).await;
            let answer = wire.read_until("fencingToken").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            wire.post("/lock/release", ACQUIRE).await;
            wire.read_until(r#""released":true"#).await;
            wire.send("GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .await;
            // Fails unless TLS is brought to its end as well.
            let answer = wire.read_to_end().await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
}

#[tokio::test]
async fn http2_is_agreed_upon_in_the_handshake() {
    let files = TlsFiles::make();
    let proxy = serving(&files, &[]).await;
    let client = |protocols: &[&str]| TlsClient::new(&[&files.ca()]).alpn(protocols);
    let both = client(&["h2", "http/1.1"])
        .connect(proxy.addr)
        .await
        .unwrap();
    assert_eq!(both.alpn.as_deref(), Some(&b"h2"[..]));
    let (status, answer) = both.post_h2("/lock/acquire", ACQUIRE).await;
    assert_eq!(status, 200, "{answer}");
    let old = client(&["http/1.1"]).connect(proxy.addr).await.unwrap();
    assert_eq!(old.alpn.as_deref(), Some(&b"http/1.1"[..]));
    let mut wire = old.wire();
    wire.post("/lock/release", ACQUIRE).await;
    wire.read_until(r#""released":true"#).await;
    let none = client(&[]).connect(proxy.addr).await.unwrap();
    assert_eq!(none.alpn, None);
    let (status, _) = none.post_h2("/lock/acquire", ACQUIRE).await;
    assert_eq!(status, 200, "who knows beforehand may speak it, too");
    let other = client(&["spdy/3"]).connect(proxy.addr).await;
    assert!(other.is_err(), "there is nothing to agree upon");
}

#[tokio::test]
async fn a_chain_is_served_to_clients_that_know_its_root_alone() {
    let files = TlsFiles::chained();
    let proxy = serving(&files, &[]).await;
    assert!(TlsClient::new(&[&files.ca()]).is_served(proxy.addr).await);
    let strangers = TlsFiles::make();
    let stranger = TlsClient::new(&[&strangers.ca()]);
    assert!(!stranger.is_served(proxy.addr).await, "another authority");
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_live_on() {
    let (files, others) = (TlsFiles::make(), TlsFiles::make());
    let (old_ca, new_ca) = (files.ca(), others.ca());
    let proxy = serving(&files, &[]).await;
    let client = TlsClient::new(&[&old_ca, &new_ca]);
    let first = client.connect(proxy.addr).await.unwrap();
    let old = first.shown.clone();
    let mut kept = first.wire();
    let ask = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    kept.send(ask).await;
    kept.read_until("ok").await;
    let again = client.connect(proxy.addr).await.unwrap();
    assert_eq!(again.kind, HandshakeKind::Resumed, "sessions are resumed");

    // The certificate alone, for longer than it takes to look: it waits for its key.
    put(&others.certificate(), &files.certificate());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let meanwhile = client.connect(proxy.addr).await.unwrap();
    assert_eq!(meanwhile.shown, old);
    put(&others.key(), &files.key());
    let new = Mutex::new(None);
    let shown = eventually(SOON, || async {
        let wire = client.connect(proxy.addr).await.unwrap();
        let is_new = wire.shown != old;
        *new.lock().unwrap() = is_new.then_some(wire);
        is_new
    });
    assert!(shown.await, "the new certificate is shown in the end");
    let new = new.into_inner().unwrap().unwrap();
    assert_ne!(
        new.kind,
        HandshakeKind::Resumed,
        "a session of before is not resumed"
    );
    assert!(TlsClient::new(&[&new_ca]).is_served(proxy.addr).await);
    kept.send(ask).await;
    kept.read_until("ok").await;
}

#[tokio::test]
async fn files_that_do_not_fit_change_nothing_and_are_told_of() {
    let (files, others, expired) = (TlsFiles::make(), TlsFiles::make(), TlsFiles::expired());
    let (certificate, key, ca) = (files.certificate(), files.key(), files.ca());
    let args = [
        "serve",
        "--dev",
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        text(&certificate),
        "--tls-key",
        text(&key),
    ];
    let mut proxy = Proxy::spawn(&args, &[]).await;
    let client = TlsClient::new(&[&ca]);
    let spoil: [(&dyn Fn(), &str); 5] = [
        (&|| put(&others.key(), &key), "--tls-key: is not the key"),
        (
            &|| std::fs::write(&key, "").unwrap(),
            "--tls-key: there is no private key",
        ),
        (
            &|| std::fs::write(&certificate, "-----BEGIN").unwrap(),
            "--tls-cert: there is no certificate",
        ),
        (
            &|| std::fs::remove_file(&certificate).unwrap(),
            "can't be read",
        ),
        (
            &|| replace(&files, &expired),
            "--tls-cert: the first certificate in it ended",
        ),
    ];
    for (spoil, problem) in spoil {
        spoil();
        proxy.process.signal(Signal::HUP);
        let says = |line: &str| line.contains("is not used") && line.contains(problem);
        proxy.process.wait_for_line(says, SOON).await;
        assert!(client.is_served(proxy.addr).await, "{problem}");
    }
    let log = proxy.process.output();
    assert!(
        !log.contains("PRIVATE") && !log.contains("was read anew"),
        "{log}"
    );
    replace(&files, &others);
    proxy.process.signal(Signal::HUP);
    let says = |line: &str| line.contains("was read anew");
    proxy.process.wait_for_line(says, SOON).await;
    assert!(TlsClient::new(&[&others.ca()]).is_served(proxy.addr).await);
    assert!(!client.is_served(proxy.addr).await);
    proxy.process.signal(Signal::TERM);
    assert!(proxy.process.wait_exit(SOON).await.success());
}

#[tokio::test]
async fn files_that_do_not_fit_at_the_start_are_refused_by_name() {
    let (files, others) = (TlsFiles::make(), TlsFiles::make());
    let (certificate, key, foreign) = (files.certificate(), files.key(), others.key());
    let [certificate, key, foreign] = [&certificate, &key, &foreign].map(|path| text(path));
    for (flags, problem) in [
        (
            &["--tls-cert", certificate][..],
            "flag --tls-cert: needs --tls-key",
        ),
        (&["--tls-key", key], "flag --tls-key: needs --tls-cert"),
        (
            &["--tls-client-ca", certificate],
            "flag --tls-client-ca: is of no use without --tls-cert and --tls-key",
        ),
        (
            &["--tls-cert", certificate, "--tls-key", foreign],
            "flag --tls-key: is not the key of the first certificate of --tls-cert",
        ),
        (
            &["--tls-cert", key, "--tls-key", key],
            "flag --tls-cert: there is no certificate in PEM in it",
        ),
        (
            &["--tls-cert", certificate, "--tls-key", "/nowhere/key.pem"],
            "flag --tls-key: /nowhere/key.pem can't be read",
        ),
        (
            &[
                "--tls-cert",
                certificate,
                "--tls-key",
                key,
                "--tls-client-ca",
                key,
            ],
            "flag --tls-client-ca: there is no certificate in PEM in it",
        ),
        (
            &[
                "--tls-cert",
                certificate,
                "--tls-key",
                key,
                "--listen",
                "unix:/tmp/x.sock",
            ],
            "flag --tls-cert: is of no use: sockets in the file system speak plain HTTP",
        ),
    ] {
        let args = [&["serve", "--dev"], flags].concat();
        let (status, output) = run(&args, &[]).await;
        assert_eq!(status.code(), Some(2), "{args:?}: {output}");
        assert!(output.contains(problem), "{args:?}: {output}");
        assert_eq!(output.lines().count(), 1, "one problem: {output}");
    }
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_served_and_complained_of() {
    let files = TlsFiles::expired();
    let (certificate, key) = (files.certificate(), files.key());
    let (certificate, key) = (text(&certificate), text(&key));
    let args = ["serve", "--dev", "--listen", "127.0.0.1:0"];
    let tls = ["--tls-cert", certificate, "--tls-key", key];
    let mut proxy = Proxy::spawn(&[&args[..], &tls].concat(), &[]).await;
    let says = |line: &str| line.contains("the certificate has ended");
    proxy.process.wait_for_line(says, SOON).await;
    let refused = TlsClient::new(&[&files.ca()]).connect(proxy.addr).await;
    assert!(refused.is_err(), "the client goes by the time");
}

#[tokio::test]
async fn who_shows_no_certificate_of_the_authority_is_not_let_in() {
    let (files, clients, strangers) = (TlsFiles::make(), TlsFiles::make(), TlsFiles::make());
    let authority = clients.ca();
    let proxy = serving(&files, &[("tls-client-ca", text(&authority))]).await;
    let ca = files.ca();
    let none = TlsClient::new(&[&ca]);
    assert!(!none.is_served(proxy.addr).await, "no certificate");
    let wrong = TlsClient::with_identity(&ca, &strangers.certificate(), &strangers.key());
    assert!(!wrong.is_served(proxy.addr).await, "another's certificate");
    let expired = TlsFiles::expired();
    let late = TlsClient::with_identity(&ca, &expired.certificate(), &expired.key());
    assert!(!late.is_served(proxy.addr).await, "one that has ended");
    let right = TlsClient::with_identity(&ca, &clients.certificate(), &clients.key());
    assert!(right.is_served(proxy.addr).await);
    assert!(right.is_served(proxy.addr).await, "a resumed session");
}

#[tokio::test]
async fn a_client_of_plain_http_is_told_that_it_needs_tls() {
    let files = TlsFiles::make();
    let proxy = serving(&files, &[]).await;
    let answer = Client::new(proxy.addr).post("/lock/acquire", ACQUIRE).await;
    assert_eq!(answer.status, 400);
    assert!(answer.message().contains("https://"), "{answer:?}");
    let mut noise = Wire::open(proxy.addr).await;
    noise.send([0, 1, 2, 3]).await;
    noise.ended().await;
}

#[tokio::test]
async fn handshakes_that_never_end_delay_nobody_and_are_cut_off() {
    let files = TlsFiles::make();
    let proxy = serving(&files, &[]).await;
    let mut slow = Vec::new();
    for number in 0..60 {
        let mut wire = Wire::open(proxy.addr).await;
        // Silence, and the beginning of a long record of the handshake.
        if number % 2 == 0 {
            wire.send([22, 3, 1, 16, 0, 1]).await;
        }
        slow.push(wire);
    }
    let client = TlsClient::new(&[&files.ca()]);
    let (served, took) = timed(client.is_served(proxy.addr)).await;
    assert!(served && took < Duration::from_secs(9), "{took:?}");
    let ((), took) = timed(async {
        for wire in &mut slow {
            wire.closed().await;
        }
    })
    .await;
    assert!(
        took > Duration::from_secs(1),
        "they had their time: {took:?}"
    );
}
