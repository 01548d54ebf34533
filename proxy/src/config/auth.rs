//! Who may ask: the mode, and the secrets that sign API keys.

use std::collections::HashSet;
use std::fmt;

use super::licence::{self, Licensing};
use super::secret;
use super::sources::Reader;
use super::table::SECRETS_ENV;

/// Shorter ones could be guessed from keys, at leisure.
pub(crate) const MIN_SECRET_BYTES: usize = 32;
/// More is a mistake.
pub(crate) const MAX_SECRET_BYTES: usize = 512;
/// Each is tried for a key that nobody signed.
const MAX_SECRETS: usize = 8;

/// Who may ask for locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Everybody who can reach the proxy.
    None,
    /// Who has an API key.
    Keys,
    /// The same, and keys are made from licences, which have to be good.
    Licence,
}

/// A secret that signs API keys; not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret of so many bytes, or what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let bytes = text.as_bytes();
        if (MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&bytes.len()) {
            return Ok(Self(bytes.into()));
        }
        Err(format!(
            "a secret has {} bytes: it takes {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} (make one \
             with `openssl rand -hex 32`)",
            bytes.len()
        ))
    }

    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How callers are told apart.
#[derive(Clone, Debug)]
pub struct Auth {
    /// Who may ask.
    pub mode: AuthMode,
    /// The first signs API keys, all verify them; none without authentication.
    pub secrets: Vec<Secret>,
    /// Who knows licences; none but with [`AuthMode::Licence`].
    pub licensing: Option<Licensing>,
}

/// One secret a line, or between commas; `#` begins a line that is none.
pub(crate) fn secrets(text: &str) -> Result<Vec<Secret>, String> {
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'));
    let parts = lines.flat_map(|line| line.split(','));
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    let secrets = parts.map(Secret::new).collect::<Result<Vec<_>, _>>()?;
    let different: HashSet<_> = secrets.iter().collect();
    match secrets.len() {
        0 => Err("there is no secret in it".to_owned()),
        count if count > MAX_SECRETS => Err(format!(
            "there are {count} secrets: it takes 1 to {MAX_SECRETS}"
        )),
        count if count > different.len() => Err("a secret is given twice".to_owned()),
        _ => Ok(secrets),
    }
}

/// Reads all of it; a problem is noted already.
pub(super) fn read(reader: &mut Reader<'_>) -> Auth {
    let mode = reader.read("auth", |text| match text {
        "none" => Ok(AuthMode::None),
        "keys" => Ok(AuthMode::Keys),
        "licence" => Ok(AuthMode::Licence),
        _ => Err(format!(
            "{text:?} is no way to authenticate: it takes none, keys or licence"
        )),
    });
    let secrets = signing(reader, mode);
    let licensing = licence::read(reader, mode);
    Auth {
        mode,
        secrets,
        licensing,
    }
}

fn signing(reader: &mut Reader<'_>, mode: AuthMode) -> Vec<Secret> {
    let flag = "api-key-secret-file";
    let Ok(given) = secret::read(reader, flag, SECRETS_ENV) else {
        return Vec::new();
    };
    let Some((source, text)) = given else {
        if mode != AuthMode::None {
            let problem = format!(
                "needs the secret that signs API keys: give --{flag} FILE or {SECRETS_ENV}"
            );
            reader.problem(&reader.source("auth"), &problem);
        }
        return Vec::new();
    };
    match secrets(&text) {
        Ok(secrets) => {
            if mode == AuthMode::None {
                let problem = "is of no use: nobody has to authenticate without --auth keys";
                reader.problem(&source, problem);
            }
            secrets
        }
        Err(problem) => {
            reader.problem(&source, &problem);
            Vec::new()
        }
    }
}
