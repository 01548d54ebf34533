//! Certificates for a test server on loopback: an authority of its own, and what it signed.
//!
//! They are made by the `openssl` program, so that the kit builds no cryptography.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

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

/// Not the same in any two authorities, so that they are told apart by their names, too.
static AUTHORITIES: AtomicU32 = AtomicU32::new(0);

/// PEM files of an authority and of a server at 127.0.0.1 and `localhost`; removed on drop. The
/// server's certificate will do for a client as well.
#[derive(Debug)]
pub struct TlsFiles(TempDir);

impl TlsFiles {
    /// Makes new ones. Two authorities don't trust each other.
    pub fn make() -> Self {
        let files = Self::authority();
        files.server("ca", &DAYS);
        files
    }

    /// The same, and the server's certificate has ended.
    pub fn expired() -> Self {
        let files = Self::authority();
        files.server("ca", &["-days", "-1"]);
        files
    }

    /// The same, but the authority vouches for another that vouches for the server, and
    /// [`TlsFiles::certificate`] holds the certificates of both.
    pub fn chained() -> Self {
        let files = Self::authority();
        files.request("between", "everlock test, between");
        let extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
        files.sign("between", "ca", extensions, &DAYS);
        files.server("between", &DAYS);
        let read = |name: &str| std::fs::read(files.0.path().join(name)).expect("it was made");
        let chain = [read("server.crt"), read("between.crt")].concat();
        std::fs::write(files.certificate(), chain).expect("a temporary file can be written");
        files
    }

    fn authority() -> Self {
        let files = Self(TempDir::new("tls"));
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        let subject = format!("/CN=everlock test {number}");
        let authority = [
            "-x509", "-subj", &subject, "-keyout", "ca.key", "-out", "ca.crt",
        ];
        files.openssl(&[&NEW_KEY[..], &authority, &DAYS].concat());
        files
    }

    fn server(&self, authority: &str, days: &[&str]) {
        self.request("server", "localhost");
        let extensions =
            "basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";
        self.sign("server", authority, extensions, days);
    }

    /// A key, and a request for a certificate.
    fn request(&self, name: &str, common_name: &str) {
        let (subject, key) = (format!("/CN={common_name}"), format!("{name}.key"));
        let request = format!("{name}.csr");
        let request = ["-subj", &subject, "-keyout", &key, "-out", &request];
        self.openssl(&[&NEW_KEY[..], &request].concat());
    }

    fn sign(&self, name: &str, authority: &str, extensions: &str, days: &[&str]) {
        std::fs::write(self.0.path().join("extensions"), extensions)
            .expect("a temporary file can be written");
        let [request, signed] = ["csr", "crt"].map(|end| format!("{name}.{end}"));
        let [ca, ca_key] = ["crt", "key"].map(|end| format!("{authority}.{end}"));
        let sign = [
            "x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key,
        ];
        let signed = ["-CAcreateserial", "-extfile", "extensions", "-out", &signed];
        self.openssl(&[&sign[..], &signed, days].concat());
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
