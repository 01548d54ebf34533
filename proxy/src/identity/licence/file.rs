//! Licences from a file, for people who run their own.
//!
//! ```toml
//! [[licence]]
//! key-sha256 = "…"          # printf %s "$KEY" | sha256sum
//! identity = "acme"
//! expires = "2027-01-01T00:00:00Z"
//! allowance = 1000000       # attempts to acquire
//! period = "month"          # or "total"
//! rate = 100                # requests a second
//! max-waiters = 50
//! max-lease = "60s"
//! max-wait = "30s"
//! ```
//!
//! Keys are not in it, only their hashes: they have to be random, and cannot be read from it. The
//! file is looked at every few seconds, and what was changed is used once it looks the same twice:
//! an editor may be halfway. One that is broken then changes nothing, and the log says so: a licence
//! is not lost to a slip of the editor.
//!
//! Invariant: whoever asks for a licence waits for no file.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::digest;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Asking, Backend, Bounds, Licence, LicenceKey, Period, Unlicensed, UsageEvent, micros_of,
};
use crate::identity::Identity;

/// The file is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Nobody writes more by hand; what is read is bounded.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// How much of a hash names a licence: enough that no two are alike.
const REFERENCE_CHARS: usize = 32;
const HASH_BYTES: usize = 32;

/// Licences by their references: the first digits of the hash of their keys.
type Licences = HashMap<String, Owned>;

/// A licence, and the hash of its key in hexadecimal digits.
#[derive(Debug)]
struct Owned {
    hash: String,
    licence: Licence,
}

/// What was last read from the file, which is watched until this is dropped.
pub(crate) struct LicenceFile {
    licences: watch::Receiver<Arc<Licences>>,
    _watching: AbortOnDropHandle<()>,
}

/// What one look at the file saw: its text, or why it can't be read.
type Sight = Result<Arc<str>, String>;

struct Watch {
    path: PathBuf,
    /// What the last look saw.
    seen: Sight,
    /// What was acted upon last, be it used or refused.
    judged: Sight,
    licences: watch::Sender<Arc<Licences>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    licence: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    key_sha256: String,
    identity: String,
    expires: Option<String>,
    allowance: Option<u64>,
    period: Option<String>,
    rate: Option<u32>,
    max_waiters: Option<usize>,
    max_lease: Option<String>,
    max_wait: Option<String>,
}

impl LicenceFile {
    /// Reads the file, or says what is wrong with it, and begins to watch it. Needs a runtime.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let text = read(path)?;
        let (sender, licences) = watch::channel(Arc::new(parse(&text)?));
        let watch = Watch {
            path: path.to_owned(),
            seen: Ok(text.clone()),
            judged: Ok(text),
            licences: sender,
        };
        Ok(Self {
            licences,
            _watching: AbortOnDropHandle::new(tokio::spawn(watch.run())),
        })
    }

    fn find(&self, reference: &str, has: impl Fn(&Owned) -> bool) -> Result<Licence, Unlicensed> {
        let licences = self.licences.borrow();
        let found = licences.get(reference).filter(|owned| has(owned));
        let live = found
            .map(|owned| &owned.licence)
            .filter(|licence| !licence.has_expired());
        live.cloned().ok_or(Unlicensed::Refused)
    }
}

impl Watch {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let path = self.path.clone();
            // A file system may hang; nothing else waits for it.
            let Ok(sight) = spawn_blocking(move || read(&path)).await else {
                continue;
            };
            if sight != self.seen {
                self.seen = sight;
            } else if self.seen != self.judged {
                self.judged = self.seen.clone();
                self.judge().await;
            }
        }
    }

    async fn judge(&self) {
        let sight = self.judged.clone();
        let Ok(parsed) = spawn_blocking(move || parse(&sight?)).await else {
            return;
        };
        match parsed {
            Ok(licences) => {
                let count = licences.len();
                self.licences.send_replace(Arc::new(licences));
                tracing::info!(licences = count, "the licence file was read anew");
            }
            Err(problem) => tracing::error!(%problem, "the licence file is used as it was"),
        }
    }
}

impl Backend for LicenceFile {
    fn validate<'a>(&'a self, key: &'a LicenceKey) -> Asking<'a, Result<Licence, Unlicensed>> {
        // Looked up by a hash: how long that takes tells nothing of the key.
        let hash = hash(key.reveal());
        let found = self.find(&hash[..REFERENCE_CHARS], |owned| owned.hash == hash);
        Box::pin(async move { found })
    }

    fn look_up<'a>(&'a self, reference: &'a str) -> Asking<'a, Result<Licence, Unlicensed>> {
        Box::pin(async move { self.find(reference, |_| true) })
    }

    fn report<'a>(&'a self, _: &'a [UsageEvent]) -> Asking<'a, bool> {
        Box::pin(async { true })
    }
}

impl fmt::Debug for LicenceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LicenceFile").finish_non_exhaustive()
    }
}

fn hash(key: &str) -> String {
    let hash = digest::digest(&digest::SHA256, key.as_bytes());
    HEXLOWER_PERMISSIVE.encode(hash.as_ref())
}

fn read(path: &Path) -> Sight {
    let wrong = |error: &dyn fmt::Display| format!("{} can't be read: {error}", path.display());
    let size = std::fs::metadata(path)
        .map_err(|error| wrong(&error))?
        .len();
    if size > MAX_FILE_BYTES {
        return Err(wrong(&format!(
            "it has {size} bytes, and may have {MAX_FILE_BYTES}"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    Ok(text.into())
}

fn parse(text: &str) -> Result<Licences, String> {
    // The parser's own text would show the line.
    let document: Document = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| before.matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    let mut licences = Licences::new();
    for (index, entry) in document.licence.into_iter().enumerate() {
        let at = |problem: String| format!("licence {}: {problem}", index + 1);
        let (hash, licence) = entry.licence().map_err(at)?;
        let reference = licence.reference.clone();
        if licences
            .insert(reference, Owned { hash, licence })
            .is_some()
        {
            return Err(at("its key-sha256 is given twice".to_owned()));
        }
    }
    Ok(licences)
}

impl Entry {
    fn licence(self) -> Result<(String, Licence), String> {
        let hash = self.key_sha256.to_ascii_lowercase();
        let bytes = HEXLOWER_PERMISSIVE
            .decode(hash.as_bytes())
            .unwrap_or_default();
        if bytes.len() != HASH_BYTES {
            return Err("key-sha256 takes 64 hexadecimal digits".to_owned());
        }
        let named = Identity::new(&self.identity).filter(|id| *id != Identity::anonymous());
        let identity = named.ok_or_else(|| {
            "identity takes 1 to 64 of A-Z a-z 0-9 _ - and is not anonymous".to_owned()
        })?;
        let expires = self.expires.as_deref().map(|text| {
            micros_of(text)
                .ok_or_else(|| "expires takes a time, written 2027-01-01T00:00:00Z".to_owned())
        });
        let period = match self.period.as_deref() {
            None | Some("month") => Period::Month,
            Some("total") => Period::Total,
            Some(_) => return Err("period takes month or total".to_owned()),
        };
        let duration = |field: &str, text: Option<String>| {
            let parsed = text.map(|text| humantime::parse_duration(&text));
            parsed
                .transpose()
                .map_err(|_| format!("{field} takes a duration, written 3s or 250ms"))
        };
        if self.rate == Some(0) || self.max_waiters == Some(0) {
            return Err("rate and max-waiters take numbers from 1".to_owned());
        }
        let licence = Licence {
            reference: hash[..REFERENCE_CHARS].to_owned(),
            customer: self.identity,
            identity,
            expires: expires.transpose()?,
            allowance: self.allowance,
            period,
            used_elsewhere: 0,
            bounds: Bounds {
                rate: self.rate,
                max_waiters: self.max_waiters,
                max_lease: duration("max-lease", self.max_lease)?,
                max_wait: duration("max-wait", self.max_wait)?,
            },
        };
        Ok((hash, licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_by_line_or_licence() {
        let hash = hash("L");
        let entry =
            |more: &str| format!("[[licence]]\nkey-sha256 = \"{hash}\"\nidentity = \"a\"\n{more}");
        for (text, problem) in [
            ("licence = 3".to_owned(), "line 1: invalid type"),
            (entry("\nno-such = 1"), "line 1: unknown field `no-such`"),
            (
                "[[licence]]\nkey-sha256 = \"ab\"\nidentity = \"a\"".to_owned(),
                "licence 1: key-sha256 takes 64",
            ),
            (
                entry("").replace("\"a\"", "\"a:b\""),
                "licence 1: identity takes 1 to 64",
            ),
            (
                entry("").replace("\"a\"", "\"anonymous\""),
                "is not anonymous",
            ),
            (
                entry("expires = \"soon\""),
                "licence 1: expires takes a time",
            ),
            (
                entry("period = \"week\""),
                "licence 1: period takes month or total",
            ),
            (
                entry("max-lease = \"x\""),
                "licence 1: max-lease takes a duration",
            ),
            (
                entry("rate = 0"),
                "licence 1: rate and max-waiters take numbers from 1",
            ),
            (
                entry("") + &entry(""),
                "licence 2: its key-sha256 is given twice",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(
                error.contains(problem.trim_start_matches("line 1: ")),
                "{error:?} for {text}"
            );
        }
        assert!(parse("").unwrap().is_empty());
        let licences = parse(&entry("expires = \"2999-01-01T00:00:00Z\"\nallowance = 3")).unwrap();
        let licence = &licences[&hash[..REFERENCE_CHARS]].licence;
        assert_eq!(
            (licence.allowance, licence.period),
            (Some(3), Period::Month)
        );
        assert!(!licence.has_expired());
    }
}
