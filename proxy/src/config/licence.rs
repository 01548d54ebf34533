//! Who knows licences: a file, or Polar.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::shown::{Public, ServerUrl};
use super::sources::{Reader, Source};
use super::table::POLAR_TOKEN_ENV;
use super::{AuthMode, parse};

/// A longer outage of the backend is no outage any more.
const MAX_GRACE: Duration = Duration::from_hours(24 * 30);

/// Where licences come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LicenceSource {
    /// A file of the operator's own.
    File(PathBuf),
    /// Polar.
    Polar(PolarAccount),
}

/// An organisation at Polar; its token is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PolarAccount {
    /// The base URL of the API.
    pub url: String,
    /// The organisation's id.
    pub organisation: String,
    /// An organisation access token.
    pub token: String,
    /// Authorities in PEM to trust in place of the public ones.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for PolarAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolarAccount")
            .field("url", &self.url)
            .field("organisation", &self.organisation)
            .finish_non_exhaustive()
    }
}

/// The backend of licences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Licensing {
    /// Where licences come from.
    pub source: LicenceSource,
    /// How old its word may be before it is asked again.
    pub refresh: Duration,
    /// For how long its last word counts while it can't be asked.
    pub grace: Duration,
}

/// Reads the backend, if this mode has one; a problem is noted already.
pub(super) fn read(reader: &mut Reader<'_>, mode: AuthMode) -> Option<Licensing> {
    let grace = reader.read("licence-grace", |text| {
        parse::duration(text, Duration::ZERO, MAX_GRACE)
    });
    let refresh = reader.read("licence-refresh", |text| {
        parse::duration(text, Duration::from_secs(1), Duration::from_hours(1))
    });
    let file = reader.read_optional("licence-file", |text| Ok(PathBuf::from(text)));
    let organisation = reader.read_optional("polar-organization", organisation);
    let organisation = organisation.map(|Public(id)| id);
    let url = reader
        .read("polar-url", |text| Ok(ServerUrl(text.to_owned())))
        .0;
    let token = token(reader);
    let ca = reader.read_file("polar-ca").ok().flatten();
    let source = match (file, organisation) {
        (Some(_), Some(_)) => {
            let source = reader.source("licence-file");
            reader.problem(&source, "can't be combined with --polar-organization");
            return None;
        }
        (Some(file), None) => LicenceSource::File(file),
        (None, Some(organisation)) => {
            let Some(token) = token else {
                let source = reader.source("polar-organization");
                let problem =
                    format!("needs a token: give --polar-token-file FILE or {POLAR_TOKEN_ENV}");
                reader.problem(&source, &problem);
                return None;
            };
            LicenceSource::Polar(PolarAccount {
                url,
                organisation,
                token,
                ca,
            })
        }
        (None, None) => {
            if mode == AuthMode::Licence {
                let source = reader.source("auth");
                let problem =
                    "needs to know licences: give --licence-file FILE or --polar-organization ID";
                reader.problem(&source, problem);
            }
            return None;
        }
    };
    if mode != AuthMode::Licence {
        let flag = match source {
            LicenceSource::File(_) => "licence-file",
            LicenceSource::Polar(_) => "polar-organization",
        };
        let source = reader.source(flag);
        reader.problem(&source, "is of no use without --auth licence");
    }
    Some(Licensing {
        source,
        refresh,
        grace,
    })
}

fn organisation(text: &str) -> Result<Public, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(Public(text.to_owned()));
    }
    Err("is no id of an organisation: it takes a UUID".to_owned())
}

fn token(reader: &mut Reader<'_>) -> Option<String> {
    let file = reader.read_file("polar-token-file").ok()?;
    let (source, text) = match (file, reader.secret_variable(POLAR_TOKEN_ENV)) {
        (None, None) => return None,
        (Some(bytes), _) => {
            let source = reader.source("polar-token-file");
            (source, String::from_utf8(bytes).unwrap_or_default())
        }
        (None, Some(text)) => (Source::Variable(POLAR_TOKEN_ENV), text),
    };
    let token = text.trim();
    if token.is_empty() || token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        reader.problem(
            &source,
            "is no token: it takes one word of visible characters",
        );
        return None;
    }
    Some(token.to_owned())
}
