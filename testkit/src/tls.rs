//! Certificates for a test server on loopback: an authority of its own, and what it signed.
//!
//! They are made by the `openssl` program, so that the kit builds no cryptography.

use std::path::PathBuf;
use std::process::Command;

use crate::temp_dir::TempDir;

/// A day is longer than any test, and too short for anybody to depend on it.
const DAYS: [&str; 2] = ["-days", "1"];

/// Elliptic keys are made in no time.
const NEW_KEY: [&str; 6] = [
    "req",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
];

/// PEM files of an authority and of a server at 127.0.0.1 and `localhost`; removed on drop.
#[derive(Debug)]
pub struct TlsFiles(TempDir);

impl TlsFiles {
    /// Makes new ones. Two authorities don't trust each other.
    pub fn make() -> Self {
        let files = Self(TempDir::new("tls"));
        let extensions =
            "basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";
        std::fs::write(files.0.path().join("extensions"), extensions)
            .expect("a temporary file can be written");
        let authority = [
            "-x509",
            "-subj",
            "/CN=everlock test",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ];
        let request = [
            "-subj",
            "/CN=localhost",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ];
        let sign = [
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
        ];
        let signed = [
            "-CAcreateserial",
            "-extfile",
            "extensions",
            "-out",
            "server.crt",
        ];
        files.openssl(&[&NEW_KEY[..], &authority, &DAYS].concat());
        files.openssl(&[&NEW_KEY[..], &request].concat());
        files.openssl(&[&sign[..], &signed, &DAYS].concat());
        files
    }

    /// The certificate of the authority, which clients are to trust.
    pub fn ca(&self) -> PathBuf {
        self.0.path().join("ca.crt")
    }

    /// The certificate of the server.
    pub fn certificate(&self) -> PathBuf {
        self.0.path().join("server.crt")
    }

    /// The private key of the server.
    pub fn key(&self) -> PathBuf {
        self.0.path().join("server.key")
    }

    fn openssl(&self, args: &[&str]) {
        let run = Command::new("openssl")
            .args(args)
            .current_dir(self.0.path())
            .output();
        let run = run.expect("openssl is installed");
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }
}
