//! What the API speaks TLS with: a certificate, its key, and whose certificates it asks for.
//!
//! Invariant: what is [`Loaded`] can be served: the key is that of the certificate. It does not
//! watch the files: that is the server's part.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use everlock::clock::{Clock as _, SystemClock};
use ring::digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::listen::Listen;
use super::sources::Reader;

const CERTIFICATE: &str = "tls-cert";
const KEY: &str = "tls-key";
const CLIENT_CA: &str = "tls-client-ca";
/// A chain has a few kilobytes, and a bundle of authorities some hundred.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Names of the files, and what was in them at the start.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) files: Files,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) loaded: Loaded,
}

/// Tells whether files are as they were.
pub(crate) type Fingerprint = [u8; digest::SHA256_OUTPUT_LEN];

/// Where certificate, key and authorities are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What is in the files.
pub(crate) struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What connections are served with.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) config: Arc<ServerConfig>,
    /// The certificate's last second, since the epoch.
    pub(crate) ends: i64,
}

/// What is wrong, and with which file.
pub(crate) struct Wrong {
    flag: &'static str,
    problem: String,
}

impl Wrong {
    fn new(flag: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { flag, problem }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--{}: {}", self.flag, self.problem)
    }
}

impl ServerTls {
    /// Whether clients have to show a certificate.
    pub(crate) fn asks(&self) -> bool {
        self.files.client_ca.is_some()
    }
}

impl Files {
    /// Reads them anew. It blocks.
    pub(crate) fn read(&self) -> Result<Pem, Wrong> {
        let read = |flag, path: &Path| {
            bounded(path).map_err(|error| {
                Wrong::new(flag, format!("{} can't be read: {error}", path.display()))
            })
        };
        Ok(Pem {
            certificate: read(CERTIFICATE, &self.certificate)?,
            key: read(KEY, &self.key)?,
            client_ca: self
                .client_ca
                .as_deref()
                .map(|path| read(CLIENT_CA, path))
                .transpose()?,
        })
    }
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok(bytes)
}

impl Pem {
    /// The same for the same files; it does not tell what they hold.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.client_ca)
        {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = [0; digest::SHA256_OUTPUT_LEN];
        fingerprint.copy_from_slice(context.finish().as_ref());
        fingerprint
    }

    /// What to serve with, or what is wrong with the files.
    pub(crate) fn load(&self) -> Result<Loaded, Wrong> {
        let chain = certificates(&self.certificate, CERTIFICATE)?;
        let ends = ends(&chain[0]).ok_or_else(|| {
            Wrong::new(
                CERTIFICATE,
                "the first certificate in it can't be understood",
            )
        })?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            Wrong::new(
                KEY,
                "there is no private key in PEM in it, without a password",
            )
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Wrong::new(CERTIFICATE, error.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem, CLIENT_CA)? {
                    let added = roots.add(authority);
                    added.map_err(|error| Wrong::new(CLIENT_CA, error.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = verifier.build();
                let verifier =
                    verifier.map_err(|error| Wrong::new(CLIENT_CA, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| mismatch(&error))?;
        // Tickets of earlier sessions die with the configuration: after a change everybody is shown
        // the new certificate, and judged by the new authorities. Early data stays off: whoever
        // records it could ask again.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Loaded {
            config: Arc::new(config),
            ends,
        })
    }
}

fn mismatch(error: &rustls::Error) -> Wrong {
    match error {
        rustls::Error::InconsistentKeys(_) => Wrong::new(
            KEY,
            "is not the key of the first certificate of --tls-cert, which must be the server's own",
        ),
        error => Wrong::new(KEY, error.to_string()),
    }
}

fn certificates(pem: &[u8], flag: &'static str) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok()
        .filter(|all| !all.is_empty())
        .ok_or_else(|| Wrong::new(flag, "there is no certificate in PEM in it"))
}

/// The last second of a certificate, since the epoch.
fn ends(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

impl Loaded {
    /// Why a certificate whose time is over is not taken for one that is good.
    pub(crate) fn expired(&self) -> Wrong {
        let seconds = self.left().unsigned_abs();
        let over = humantime::format_duration(Duration::from_secs(seconds));
        Wrong::new(
            CERTIFICATE,
            format!("the first certificate in it ended {over} ago"),
        )
    }

    /// Seconds until the certificate ends, by the wall clock, which is what clients go by.
    pub(crate) fn left(&self) -> i64 {
        let now = SystemClock.wall().as_micros() / 1_000_000;
        self.ends - i64::try_from(now).unwrap_or(i64::MAX)
    }
}

/// Reads all of it; a problem is noted already.
pub(super) fn read(reader: &mut Reader<'_>, listen: &[Listen]) -> Option<ServerTls> {
    let [certificate, key, client_ca] =
        [CERTIFICATE, KEY, CLIENT_CA].map(|flag| reader.read_path(flag));
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => {
            if client_ca.is_some() {
                let problem = "is of no use without --tls-cert and --tls-key";
                reader.problem(&reader.source(CLIENT_CA), problem);
            }
            return None;
        }
        (Some(_), None) => {
            reader.problem(&reader.source(CERTIFICATE), "needs --tls-key");
            return None;
        }
        (None, Some(_)) => {
            reader.problem(&reader.source(KEY), "needs --tls-cert");
            return None;
        }
    };
    if !listen.iter().any(|listen| matches!(listen, Listen::Tcp(_))) {
        let problem = "is of no use: sockets in the file system speak plain HTTP";
        reader.problem(&reader.source(CERTIFICATE), problem);
    }
    let pem = [
        (CERTIFICATE, Some(&certificate)),
        (KEY, Some(&key)),
        (CLIENT_CA, client_ca.as_ref()),
    ]
    .map(|(flag, path)| path.map(|path| reader.open_path(flag, path)).transpose());
    let [Ok(Some(in_certificate)), Ok(Some(in_key)), Ok(in_client_ca)] = pem else {
        return None;
    };
    let pem = Pem {
        certificate: in_certificate,
        key: in_key,
        client_ca: in_client_ca,
    };
    match pem.load() {
        Ok(loaded) => Some(ServerTls {
            files: Files {
                certificate,
                key,
                client_ca,
            },
            fingerprint: pem.fingerprint(),
            loaded,
        }),
        Err(Wrong { flag, problem }) => {
            reader.problem(&reader.source(flag), &problem);
            None
        }
    }
}
