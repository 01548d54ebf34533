//! Certificates for nodes behind TLS.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Certificates for nodes at `rediss://` URLs; without any, public authorities are trusted.
#[derive(Clone, Default)]
pub struct NodeTls {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl NodeTls {
    /// Trusts these authorities, in PEM, and no others.
    #[must_use]
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// Shows the nodes this certificate with its key, both in PEM.
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// What is wrong with them. An empty list of authorities would trust nobody,
    /// and show only when the first node is dialled.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let mut roots = RootCertStore::empty();
        if let Some(pem) = &self.ca {
            let Some(authorities) = certificates(pem) else {
                return Some("the authority is no certificate in PEM");
            };
            for authority in authorities {
                if roots.add(authority).is_err() {
                    return Some("the authority's certificate can't be read");
                }
            }
        }
        let (certificate, key) = self.identity.as_ref()?;
        let Some(certificate) = certificates(certificate) else {
            return Some("the client's certificate is no certificate in PEM");
        };
        let Ok(key) = PrivateKeyDer::from_pem_slice(key) else {
            return Some("the client's key is no private key in PEM");
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificate, key)
            .is_err()
            .then_some("the client's key is not that of its certificate")
    }
}

/// The certificates in this text: at least one, and nothing broken among them.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty())
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").finish_non_exhaustive()
    }
}
