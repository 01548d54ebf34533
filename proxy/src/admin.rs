//! The operators' listener: metrics, settings and health, apart from the locks.
//!
//! Invariant: it never holds up the API. It runs on a thread and a runtime of its own, with a
//! bound on its connections, so that it answers also while the API is overloaded or draining, and
//! takes one core at the most, whoever asks. It serves until the process is about to end.
//! What there is to ask for is in `routes`; who may ask, in `guard`.

mod console;
mod guard;
mod pages;
mod prompt;
mod routes;
mod server;

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response};

use self::console::Console;
use self::routes::{Access, Page};
pub(crate) use self::server::MAX_CONNECTIONS;
pub use self::server::{Running, start, start_within};
use crate::answer::Answer;
use crate::app::App;
use crate::config::{AdminSettings, Settings, ShownSetting};
use crate::handlers::health;
use crate::problem::{Kind, Problem};

/// A body that may go on for as long as the client listens.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Nothing here may be taken for something else, or be shown inside another site's page.
const FIXED: [(HeaderName, &str); 2] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// What the pages tell of.
pub struct Desk {
    app: Arc<App>,
    admin: AdminSettings,
    console: Console,
    settings: Vec<ShownSetting>,
    file: Option<String>,
}

impl Desk {
    /// Of this proxy, as it was configured; none without an admin listener.
    #[must_use]
    pub fn new(app: &Arc<App>, settings: &Settings) -> Option<Self> {
        let file = settings.file.as_ref();
        let file = file.map(|path| path.display().to_string());
        let admin = settings.admin.clone()?;
        Some(Self {
            console: Console::new(app, &admin, &settings.shown, file.as_deref()),
            app: Arc::clone(app),
            admin,
            settings: settings.shown.clone(),
            file,
        })
    }

    /// Answers one request.
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let found = routes::find(request.uri().path());
        let (parts, mut body) = request.into_parts();
        let mut response = match self.respond(found, &parts, &mut body).await {
            Ok(response) => response,
            Err(problem) => boxed(problem.answer(None)),
        };
        for (name, value) in FIXED {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        let path = found.map_or("other", |row| row.path);
        let status = response.status().as_u16();
        tracing::debug!(route = path, status, "admin request");
        response
    }

    async fn respond(
        &self,
        found: Option<routes::Row>,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Result<Response<Body>, Problem> {
        guard::check_host(&self.admin, &parts.headers)?;
        let nowhere = || Problem::new(Kind::NoSuchRoute, "there is nothing at this path");
        let row = found.ok_or_else(nowhere)?;
        if row.access == Access::Operator {
            guard::check_token(&self.admin, &parts.headers)?;
        }
        row.check(&parts.method)?;
        Ok(match row.page {
            Page::Asset(asset) => asset.answer(),
            Page::Events => self.console.events()?,
            Page::Insights => boxed(self.console.insights()),
            Page::Inspect => boxed(self.console.inspect(parts, body).await?),
            Page::ForceRelease => boxed(self.console.force(parts, body).await?),
            Page::Healthz => boxed(health::alive()),
            Page::Readyz => boxed(health::ready(&self.app).await),
            Page::Metrics => pages::metrics(&self.app),
            Page::Version => pages::version(),
            Page::Config => pages::config(self.file.as_deref(), &self.settings),
        })
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// An answer as the API gives it.
fn boxed(answer: Answer) -> Response<Body> {
    answer.into_response().map(BodyExt::boxed_unsync)
}
