//! The files with certificates for nodes behind TLS.

use everlock::{NodeTls, Redlock};

/// The flags of the files, in the order of [`TlsFiles`].
pub(crate) const FLAGS: [&str; 3] = ["node-ca", "node-cert", "node-key"];

/// What was in the files that were given.
#[derive(Default)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) key: Option<Vec<u8>>,
}

impl TlsFiles {
    /// The certificates, and what is wrong with them, each by its flag.
    pub(crate) fn check(self, urls: &[String]) -> (NodeTls, Vec<(&'static str, String)>) {
        let mut problems = Vec::new();
        let given = [&self.ca, &self.certificate, &self.key];
        let first = FLAGS
            .into_iter()
            .zip(given)
            .find_map(|(flag, given)| given.is_some().then_some(flag));
        let secure = |url: &String| url.starts_with("rediss://") || url.starts_with("valkeys://");
        if let Some(flag) = first
            && !urls.iter().any(secure)
        {
            let problem = "is of no use: no node is at a rediss:// URL".to_owned();
            problems.push((flag, problem));
        }
        let mut tls = NodeTls::default();
        if let Some(ca) = self.ca {
            tls = tls.ca(ca);
        }
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => tls = tls.identity(certificate, key),
            (Some(_), None) => problems.push(("node-cert", "needs --node-key".to_owned())),
            (None, Some(_)) => problems.push(("node-key", "needs --node-cert".to_owned())),
            (None, None) => {}
        }
        if let Some(flag) = first {
            // Without URLs there is nothing else that could be wrong.
            let builder = Redlock::builder().node_tls(tls.clone());
            let wrong = builder.node_problems();
            problems.extend(wrong.iter().map(|problem| (flag, problem.to_string())));
        }
        (tls, problems)
    }
}
