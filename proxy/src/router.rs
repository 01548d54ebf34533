//! The whole URL map.

use hyper::Method;

use crate::problem::{Kind, Problem};
use crate::verb::Verb;

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A lock operation.
    Lock(Verb),
    /// API keys of a licence.
    ApiKey,
    /// What the caller has used.
    Usage,
    /// Whether the process is alive.
    Healthz,
    /// Whether it can serve locks.
    Readyz,
    /// The document of this API.
    OpenApi,
    /// The same for people.
    Docs,
}

/// All paths there are.
pub(crate) const ROUTES: [(&str, Route); 9] = [
    ("/lock/acquire", Route::Lock(Verb::Acquire)),
    ("/lock/extend", Route::Lock(Verb::Extend)),
    ("/lock/release", Route::Lock(Verb::Release)),
    ("/api-key", Route::ApiKey),
    ("/usage", Route::Usage),
    ("/healthz", Route::Healthz),
    ("/readyz", Route::Readyz),
    ("/openapi.json", Route::OpenApi),
    ("/docs", Route::Docs),
];

/// The route of a path; paths are taken literally, and a trailing slash is another path.
pub(crate) fn find(path: &str) -> Option<Route> {
    let found = ROUTES.iter().find(|(known, _)| *known == path)?;
    Some(found.1)
}

impl Route {
    /// The path, as a label that holds nothing of the client's.
    pub(crate) fn path(self) -> &'static str {
        let found = ROUTES.iter().find(|(_, route)| *route == self);
        found.map_or("", |(path, _)| path)
    }

    /// The lock operation, if it is one.
    pub(crate) const fn verb(self) -> Option<Verb> {
        match self {
            Self::Lock(verb) => Some(verb),
            Self::ApiKey
            | Self::Usage
            | Self::Healthz
            | Self::Readyz
            | Self::OpenApi
            | Self::Docs => None,
        }
    }

    /// The methods that the path takes, as the header `Allow` has them.
    pub(crate) const fn allow(self) -> &'static str {
        match self {
            Self::Lock(_) => "POST",
            Self::ApiKey => "POST, DELETE",
            Self::Usage | Self::Healthz | Self::Readyz | Self::OpenApi | Self::Docs => "GET, HEAD",
        }
    }

    /// Refuses a method that the path does not take.
    pub(crate) fn check(self, method: &Method) -> Result<(), Problem> {
        let allow = self.allow();
        if allow.split(", ").any(|allowed| allowed == method.as_str()) {
            return Ok(());
        }
        let message = format!("{} takes {allow}", self.path());
        Err(Problem::new(Kind::WrongMethod(allow), message))
    }
}
