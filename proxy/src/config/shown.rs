//! What an operator may be shown of a configuration: each setting with its value and its source.
//!
//! Invariant: the type of a value decides what is shown of it. A plain text has no form to be
//! shown in, so whoever adds a setting has to say what it is: [`Public`], [`ServerUrl`] or a
//! [`Secret`]. What was given is never shown, only what was made of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::auth::{AuthMode, Secret};
use super::sources::Source;
use super::{LogFormat, parse};

/// Stands for a secret.
const REDACTED: &str = "redacted";

/// One setting as an operator may see it.
#[derive(Clone, Debug, Serialize)]
pub struct ShownSetting {
    /// The flag without its dashes, or the variable of what has no flag.
    name: &'static str,
    /// The value; null where there is none.
    value: Value,
    /// Where it comes from.
    source: Value,
}

impl ShownSetting {
    /// The flag without its dashes, or the variable of what has no flag.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it comes from there: `flag`, `environment`, `file` or `default`.
    #[must_use]
    pub fn is_from(&self, from: &str) -> bool {
        self.source["from"] == from
    }

    pub(super) fn new(name: &'static str, value: Value, source: &Source) -> Self {
        let source = match source {
            Source::Flag(flag) => json!({"from": "flag", "flag": format!("--{flag}")}),
            Source::Variable(name) => json!({"from": "environment", "variable": name}),
            Source::File(path, key) => {
                json!({"from": "file", "path": path.display().to_string(), "key": key})
            }
            Source::Default(_) | Source::Nowhere => json!({"from": "default"}),
        };
        Self {
            name,
            value,
            source,
        }
    }
}

/// What is shown of a secret, whatever it is.
pub(super) fn hidden() -> Value {
    REDACTED.into()
}

/// A value of which is known what may be shown.
pub(super) trait Shown {
    fn shown(&self) -> Value;
}

/// A text that is no secret.
pub(super) struct Public(pub(super) String);

/// A URL that may hold a user, a password and parameters, none of which is shown.
pub(super) struct ServerUrl(pub(super) String);

impl Shown for Public {
    fn shown(&self) -> Value {
        self.0.as_str().into()
    }
}

impl Shown for ServerUrl {
    fn shown(&self) -> Value {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return hidden();
        };
        // A password may hold anything, and so does not end before the last `@`.
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        format!("{scheme}://{rest}").into()
    }
}

impl Shown for Secret {
    fn shown(&self) -> Value {
        hidden()
    }
}

impl Shown for SocketAddr {
    fn shown(&self) -> Value {
        self.to_string().into()
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> Value {
        self.display().to_string().into()
    }
}

impl Shown for Duration {
    fn shown(&self) -> Value {
        parse::shown(*self).into()
    }
}

impl Shown for bool {
    fn shown(&self) -> Value {
        (*self).into()
    }
}

impl Shown for usize {
    fn shown(&self) -> Value {
        (*self).into()
    }
}

impl Shown for f64 {
    fn shown(&self) -> Value {
        (*self).into()
    }
}

impl Shown for AuthMode {
    fn shown(&self) -> Value {
        match self {
            Self::None => "none",
            Self::Keys => "keys",
            Self::Licence => "licence",
        }
        .into()
    }
}

impl Shown for LogFormat {
    fn shown(&self) -> Value {
        match self {
            Self::Json => "json",
            Self::Plain => "plain",
        }
        .into()
    }
}

impl Shown for tracing::Level {
    fn shown(&self) -> Value {
        self.as_str().to_ascii_lowercase().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_url_is_shown_that_may_be_a_secret() {
        for (url, shown) in [
            ("redis://10.0.0.1", "redis://10.0.0.1"),
            ("rediss://user:pass@a:1/2", "rediss://a:1/2"),
            ("redis://:p@ss/w:rd@[::1]:1", "redis://[::1]:1"),
            ("https://api.example/v1?token=t#t", "https://api.example/v1"),
            (
                "redis+unix:///run/r.sock?pass=p",
                "redis+unix:///run/r.sock",
            ),
            ("password", "redacted"),
        ] {
            assert_eq!(ServerUrl(url.to_owned()).shown(), shown, "{url}");
        }
    }
}
