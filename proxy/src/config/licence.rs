//! Who knows licences: a file, or Polar.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::secret;
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
    let polar = Polar::read(reader);
    if mode != AuthMode::Licence {
        let why = "is of no use without --auth licence";
        let flags = ["licence-file", "licence-refresh", "licence-grace"];
        refuse(reader, &flags, why);
        refuse(reader, &["polar-organization"], why);
        polar.refuse(reader, why);
        return None;
    }
    let source = match (file, polar.organisation.is_some()) {
        (Some(_), true) => {
            let source = reader.source("licence-file");
            reader.problem(&source, "can't be combined with --polar-organization");
            return None;
        }
        (Some(file), false) => {
            polar.refuse(reader, "is of no use without --polar-organization");
            LicenceSource::File(file)
        }
        (None, true) => LicenceSource::Polar(polar.account(reader)?),
        (None, false) => {
            let source = reader.source("auth");
            let problem =
                "needs to know licences: give --licence-file FILE or --polar-organization ID";
            reader.problem(&source, problem);
            return None;
        }
    };
    Some(Licensing {
        source,
        refresh,
        grace,
    })
}

/// What was given for Polar.
struct Polar {
    organisation: Option<String>,
    url: String,
    token: Option<(Source, String)>,
    ca: Option<Vec<u8>>,
}

impl Polar {
    fn read(reader: &mut Reader<'_>) -> Self {
        let organisation = reader.read_optional("polar-organization", organisation);
        let url = reader.read("polar-url", |text| Ok(ServerUrl(text.to_owned())));
        Self {
            organisation: organisation.map(|Public(id)| id),
            url: url.0,
            token: token(reader).ok().flatten(),
            ca: reader.read_file("polar-ca").ok().flatten(),
        }
    }

    /// Says that what goes with an organisation is not needed, where it was given.
    fn refuse(&self, reader: &mut Reader<'_>, why: &str) {
        refuse(reader, &["polar-url", "polar-ca"], why);
        if let Some((source, _)) = &self.token {
            reader.problem(source, why);
        }
    }

    fn account(self, reader: &mut Reader<'_>) -> Option<PolarAccount> {
        let Some((_, token)) = self.token else {
            let source = reader.source("polar-organization");
            let problem =
                format!("needs a token: give --polar-token-file FILE or {POLAR_TOKEN_ENV}");
            reader.problem(&source, &problem);
            return None;
        };
        Some(PolarAccount {
            url: self.url,
            organisation: self.organisation?,
            token,
            ca: self.ca,
        })
    }
}

/// Says that these are not needed, where they were given.
fn refuse(reader: &mut Reader<'_>, flags: &[&'static str], why: &str) {
    for flag in flags {
        let source = reader.source(flag);
        if !matches!(source, Source::Default(_)) {
            reader.problem(&source, why);
        }
    }
}

fn organisation(text: &str) -> Result<Public, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(Public(text.to_owned()));
    }
    Err("is no id of an organisation: it takes a UUID".to_owned())
}

/// The token and its source; a problem is noted already.
fn token(reader: &mut Reader<'_>) -> Result<Option<(Source, String)>, ()> {
    let Some((source, text)) = secret::read(reader, "polar-token-file", POLAR_TOKEN_ENV)? else {
        return Ok(None);
    };
    let token = text.trim();
    if token.is_empty() || token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        reader.problem(
            &source,
            "is no token: it takes one word of visible characters",
        );
        return Err(());
    }
    Ok(Some((source, token.to_owned())))
}
