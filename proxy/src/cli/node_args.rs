//! The nodes of a command, with their certificates.

use std::path::{Path, PathBuf};

use clap::Args;
use everlock::{NodeTls, Redlock};

use crate::config::TlsFiles;

#[derive(Args)]
pub(super) struct NodeArgs {
    /// A Redis server of the cluster; give all of them
    #[arg(
        long = "node",
        value_name = "URL",
        env = "EVERLOCK_NODES",
        hide_env_values = true,
        value_delimiter = ',',
        required = true
    )]
    urls: Vec<String>,
    /// PEM certificates of the authorities that nodes at rediss:// URLs are trusted by, in place
    /// of the public ones
    #[arg(long, value_name = "FILE", env = "EVERLOCK_NODE_CA")]
    node_ca: Option<PathBuf>,
    /// A PEM certificate to show to nodes at rediss:// URLs; needs --node-key
    #[arg(long, value_name = "FILE", env = "EVERLOCK_NODE_CERT")]
    node_cert: Option<PathBuf>,
    /// The PEM private key of --node-cert
    #[arg(long, value_name = "FILE", env = "EVERLOCK_NODE_KEY")]
    node_key: Option<PathBuf>,
}

impl NodeArgs {
    /// An empty variable is how deployment files say that there are none.
    pub(super) fn drop_empty(&mut self) {
        self.urls.retain(|url| !url.is_empty());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// The nodes with their certificates, or everything that is wrong with them.
    pub(super) fn checked(self) -> Result<(Vec<String>, NodeTls), Vec<String>> {
        let mut problems = Vec::new();
        let mut read = |flag: &str, path: &Option<PathBuf>| {
            // An empty variable is how deployment files say that there is none.
            let path: &Path = path.as_deref().filter(|path| *path != "")?;
            std::fs::read(path)
                .map_err(|error| {
                    problems.push(format!(
                        "--{flag} {} can't be read: {error}",
                        path.display()
                    ));
                })
                .ok()
        };
        let files = TlsFiles {
            ca: read("node-ca", &self.node_ca),
            certificate: read("node-cert", &self.node_cert),
            key: read("node-key", &self.node_key),
        };
        if problems.is_empty() {
            let wrong = Redlock::builder().node_urls(&self.urls).node_problems();
            problems.extend(wrong.iter().map(ToString::to_string));
            let (tls, wrong) = files.check(&self.urls);
            let wrong = wrong
                .iter()
                .map(|(flag, problem)| format!("--{flag}: {problem}"));
            problems.extend(wrong);
            if problems.is_empty() {
                return Ok((self.urls, tls));
            }
        }
        Err(problems)
    }
}
