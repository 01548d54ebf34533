//! A client that speaks TLS, and knows what it was shown.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::SOON;
use super::client::{Stream, Wire};

pub(crate) struct TlsClient {
    config: ClientConfig,
    /// `localhost`, which is sent, or an address, which is not.
    name: ServerName<'static>,
}

/// A connection on which the handshake is over.
pub(crate) struct TlsWire {
    /// The server's own certificate.
    pub(crate) shown: CertificateDer<'static>,
    pub(crate) kind: HandshakeKind,
    pub(crate) alpn: Option<Vec<u8>>,
    stream: TlsStream<TcpStream>,
}

impl TlsClient {
    /// A client that trusts these authorities.
    pub(crate) fn new(authorities: &[&Path]) -> Self {
        Self::build(authorities, rustls::DEFAULT_VERSIONS, None)
    }

    /// The same, with nothing but this version.
    pub(crate) fn of_version(ca: &Path, version: &'static SupportedProtocolVersion) -> Self {
        Self::build(&[ca], &[version], None)
    }

    /// The same, with a certificate of its own.
    pub(crate) fn with_identity(ca: &Path, certificate: &Path, key: &Path) -> Self {
        Self::build(&[ca], rustls::DEFAULT_VERSIONS, Some((certificate, key)))
    }

    fn build(
        authorities: &[&Path],
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<(&Path, &Path)>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for path in authorities {
            roots
                .add(CertificateDer::from_pem_file(path).unwrap())
                .unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_file_iter(certificate).unwrap();
                let chain = chain.collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        Self { config, name }
    }

    /// The same, offering these protocols.
    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        let bytes = |protocol: &&str| protocol.as_bytes().to_vec();
        self.config.alpn_protocols = protocols.iter().map(bytes).collect();
        self
    }

    /// The same, without sending the server's name.
    pub(crate) fn nameless(mut self) -> Self {
        self.name = ServerName::try_from("127.0.0.1").unwrap();
        self
    }

    /// Connects; fails if either does not accept the other. With TLS 1.3 a server that refuses the
    /// client's certificate is noticed with what is read first.
    pub(crate) async fn connect(&self, addr: SocketAddr) -> std::io::Result<TlsWire> {
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        let connecting = async {
            let stream = TcpStream::connect(addr).await?;
            connector.connect(self.name.clone(), stream).await
        };
        let connected = tokio::time::timeout(SOON, connecting).await;
        let stream = connected.expect("the handshake ends in time")?;
        let (_, session) = stream.get_ref();
        Ok(TlsWire {
            shown: session.peer_certificates().unwrap()[0].clone().into_owned(),
            kind: session.handshake_kind().unwrap(),
            alpn: session.alpn_protocol().map(<[u8]>::to_vec),
            stream,
        })
    }

    /// Whether a request is answered.
    pub(crate) async fn is_served(&self, addr: SocketAddr) -> bool {
        let Ok(wire) = self.connect(addr).await else {
            return false;
        };
        let mut stream = wire.stream;
        let asking = async {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            stream.write_all(ask).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200 "))
        };
        let asked = tokio::time::timeout(SOON, asking).await;
        asked.expect("an answer or an end in time").unwrap_or(false)
    }
}

impl TlsWire {
    /// For bare HTTP/1.1.
    pub(crate) fn wire(self) -> Wire {
        Wire::over(self.stream)
    }

    /// Posts this over HTTP/2; status and body.
    pub(crate) async fn post_h2(self, path: &str, body: &'static str) -> (u16, String) {
        post_h2(self.stream, path, body).await
    }
}

/// Posts this over HTTP/2 on a connection of any kind; status and body.
pub(crate) async fn post_h2(
    stream: impl Stream + 'static,
    path: &str,
    body: &'static str,
) -> (u16, String) {
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = shaken.await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://localhost{path}"));
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes())));
    let answer = tokio::time::timeout(SOON, sender.send_request(request.unwrap())).await;
    let answer = answer.expect("an answer in time").unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
