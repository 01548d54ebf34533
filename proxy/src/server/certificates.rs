//! The certificate that new connections are shown, and how it changes without a restart.
//!
//! The files are looked at every few seconds, and at SIGHUP. By content, since what is mounted
//! changes behind a link, and clocks may be set back. What was changed is acted upon once it looks
//! the same twice: certificate and key are rarely written in one moment. At SIGHUP it is acted upon
//! at once. Files that don't fit change nothing, and the log says so, once for each content.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Files, Fingerprint, Loaded, Pem, ServerTls, Wrong};

const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Authorities that renew by themselves have done so by then.
const WARN_BEFORE: i64 = 14 * DAY;
const DAY: i64 = 24 * 60 * 60;

/// What new connections are served with; the files are watched until it is dropped.
pub(super) struct Certificates {
    current: watch::Receiver<Arc<ServerConfig>>,
    _watching: AbortOnDropHandle<()>,
}

impl Certificates {
    pub(super) fn watch(tls: ServerTls) -> std::io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        let (sender, current) = watch::channel(Arc::clone(&tls.loaded.config));
        let watch = Watch {
            files: tls.files,
            judged: Sight::There(tls.fingerprint),
            seen: Sight::There(tls.fingerprint),
            shown: tls.loaded,
            sender,
            warned_at: i64::MAX,
        };
        let watching = AbortOnDropHandle::new(tokio::spawn(watch.run(hangup)));
        Ok(Self {
            current,
            _watching: watching,
        })
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.borrow())
    }
}

/// What one look at the files saw.
#[derive(Clone, PartialEq, Eq)]
enum Sight {
    There(Fingerprint),
    Unreadable(String),
}

struct Watch {
    files: Files,
    shown: Loaded,
    sender: watch::Sender<Arc<ServerConfig>>,
    /// What the last look saw.
    seen: Sight,
    /// What was acted upon last, be it used or refused.
    judged: Sight,
    /// How many days were left when their number was last warned of.
    warned_at: i64,
}

impl Watch {
    async fn run(mut self, mut hangup: Signal) {
        self.warn_of_the_end();
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                Some(()) = hangup.recv() => true,
            };
            let files = self.files.clone();
            // A file system may hang; nothing else waits for it.
            let Ok(read) = tokio::task::spawn_blocking(move || files.read()).await else {
                continue;
            };
            self.look(read, asked);
            self.warn_of_the_end();
        }
    }

    fn look(&mut self, read: Result<Pem, Wrong>, asked: bool) {
        let sight = match &read {
            Ok(pem) => Sight::There(pem.fingerprint()),
            Err(wrong) => Sight::Unreadable(wrong.to_string()),
        };
        let settled = sight == self.seen;
        self.seen = sight.clone();
        if !asked && (!settled || sight == self.judged) {
            return;
        }
        self.judged = sight;
        match read.and_then(|pem| self.accept(&pem)) {
            Ok(loaded) => {
                let days = loaded.left() / DAY;
                tracing::info!(days, "the certificate was read anew");
                self.sender.send_replace(Arc::clone(&loaded.config));
                self.shown = loaded;
                self.warned_at = i64::MAX;
            }
            Err(problem) => {
                tracing::error!(%problem, "the new certificate is not used: the old one stays");
            }
        }
    }

    /// What the files hold, unless it is worse than what there is.
    fn accept(&self, pem: &Pem) -> Result<Loaded, Wrong> {
        let loaded = pem.load()?;
        if loaded.left() <= 0 && self.shown.left() > loaded.left() {
            return Err(loaded.expired());
        }
        Ok(loaded)
    }

    /// Says each day how long the certificate is still good.
    fn warn_of_the_end(&mut self) {
        let left = self.shown.left();
        let days = left.div_euclid(DAY);
        if left > WARN_BEFORE || days >= self.warned_at {
            return;
        }
        self.warned_at = days;
        if left > 0 {
            tracing::warn!(days, "the certificate ends soon");
        } else {
            tracing::error!("the certificate has ended: clients will refuse it");
        }
    }
}
