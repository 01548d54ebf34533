//! The stand-in for Polar answers as Polar does.

#![allow(
    clippy::unwrap_used,
    reason = "what a test helper finds missing fails the test"
)]

use everlock_testkit::{FakePolar, PolarFault, PolarLicence};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

fn licence(limit: Option<u64>) -> PolarLicence {
    PolarLicence {
        key: "KEY".to_owned(),
        id: "0190aaaa-0000-7000-8000-000000000001".to_owned(),
        customer_id: "0190aaaa-0000-7000-8000-000000000002".to_owned(),
        status: "granted".to_owned(),
        limit_usage: limit,
        usage: 0,
        expires_at: None,
    }
}

async fn ask(
    polar: &FakePolar,
    (method, path): (&str, &str),
    token: Option<&str>,
    body: &Value,
) -> Option<(u16, HeaderMap, Value)> {
    let mut roots = RootCertStore::empty();
    let ca = std::fs::read(polar.ca()).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1();
    let client = Client::builder(TokioExecutor::new()).build(connector.build());
    let mut request = Request::builder().method(method).uri(polar.url() + path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = Full::new(Bytes::from(body.to_string()));
    let response = client.request(request.body(body).unwrap()).await.ok()?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    Some((head.status.as_u16(), head.headers, json))
}

const VALIDATE: (&str, &str) = ("POST", "/license-keys/validate");
const PUBLIC: (&str, &str) = ("POST", "/customer-portal/license-keys/validate");

fn question(increment: u64) -> Value {
    json!({"key": "KEY", "organization_id": FakePolar::ORGANISATION, "increment_usage": increment})
}

#[tokio::test]
async fn of_five_increments_at_once_exactly_as_many_count_as_the_limit_has_room_for() {
    let polar = FakePolar::start([licence(Some(3))]).await;
    let body = question(1);
    let one = || ask(&polar, VALIDATE, Some(FakePolar::TOKEN), &body);
    let all = tokio::join!(one(), one(), one(), one(), one());
    let answers = <[_; 5]>::from(all).map(Option::unwrap);
    let statuses = |status| answers.iter().filter(|answer| answer.0 == status).count();
    assert_eq!(
        (statuses(200), statuses(400), polar.usage("KEY")),
        (3, 2, 3)
    );
    let refused = answers.iter().find(|answer| answer.0 == 400).unwrap();
    let words = json!({"error": "BadRequest", "detail": "License key only has 0 more usages."});
    assert_eq!(refused.2, words);
    let (_, _, seen) = ask(&polar, VALIDATE, Some(FakePolar::TOKEN), &question(0))
        .await
        .unwrap();
    assert_eq!(
        (&seen["usage"], &seen["limit_usage"]),
        (&json!(3), &json!(3))
    );
}

#[tokio::test]
async fn each_refusal_has_its_status_and_words() {
    let polar = FakePolar::start([licence(None)]).await;
    let token = Some(FakePolar::TOKEN);
    assert_eq!(
        ask(&polar, VALIDATE, None, &question(0)).await.unwrap().0,
        401
    );
    assert_eq!(
        ask(&polar, VALIDATE, token, &json!({})).await.unwrap().0,
        422
    );
    let mut other = question(0);
    other["key"] = json!("OTHER");
    assert_eq!(
        ask(&polar, VALIDATE, token, &other).await.unwrap().2["detail"],
        "Not found"
    );
    polar.change("KEY", |licence| {
        licence.expires_at = Some("2019-01-01T00:00:00Z".to_owned());
    });
    let (status, _, json) = ask(&polar, VALIDATE, token, &question(0)).await.unwrap();
    assert_eq!(
        (status, &json["detail"]),
        (404, &json!("License key has expired."))
    );
    polar.change("KEY", |licence| licence.status = "revoked".to_owned());
    let (status, _, json) = ask(&polar, VALIDATE, token, &question(0)).await.unwrap();
    assert_eq!(
        (status, &json["detail"]),
        (404, &json!("License key is no longer active."))
    );
    polar.set_fault(PolarFault::LostAnswer);
    assert!(ask(&polar, VALIDATE, token, &question(0)).await.is_none());
}

#[tokio::test]
async fn the_public_route_blocks_whoever_asks_more_than_three_times_a_second() {
    let polar = FakePolar::start([licence(None)]).await;
    let body = question(0);
    let one = || ask(&polar, PUBLIC, None, &body);
    let all = tokio::join!(one(), one(), one(), one(), one());
    let mut statuses = <[_; 5]>::from(all).map(|answer| answer.unwrap().0);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let (status, headers, json) = one().await.unwrap();
    assert_eq!(
        (status, &headers["retry-after"], json),
        (429, &"60".parse().unwrap(), Value::Null)
    );
}

#[tokio::test]
async fn an_event_that_comes_again_is_a_duplicate() {
    let polar = FakePolar::start([licence(None)]).await;
    let event = |id: &str| json!({"name": "n", "customer_id": "c", "external_id": id, "metadata": {"attempts": 2}});
    let body = json!({"events": [event("1"), event("2"), event("1")]});
    for counts in [
        json!({"inserted": 2, "duplicates": 1}),
        json!({"inserted": 0, "duplicates": 3}),
    ] {
        let answer = ask(
            &polar,
            ("POST", "/events/ingest"),
            Some(FakePolar::TOKEN),
            &body,
        )
        .await;
        assert_eq!(answer.unwrap().2, counts);
    }
    assert_eq!(polar.metered("c", "attempts"), 4);
}

#[tokio::test]
async fn a_body_without_a_length_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let polar = FakePolar::start([licence(None)]).await;
    let ca = CertificateDer::from_pem_slice(&std::fs::read(polar.ca()).unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = polar.url().replace("https://", "").replace("/v1", "");
    let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls));
    let mut stream = connector
        .connect("127.0.0.1".try_into().unwrap(), stream)
        .await
        .unwrap();
    let request = "POST /v1/license-keys/validate HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 411 "), "{answer}");
}
