//! The operators' URL map: one table, to which a page is added as a row, a [`Page`] and a line in
//! `Desk::respond`.

use hyper::Method;

use super::console::{ASSETS, Asset};
use crate::problem::{Kind, Problem};

/// What there is to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// A file of the console, which holds nothing of this proxy.
    Asset(Asset),
    /// What the console shows, each second anew.
    Events,
    /// What was seen of the locks, and what is advised.
    Insights,
    /// Who holds one lock.
    Inspect,
    /// Ends one lock.
    ForceRelease,
    /// Whether the process is alive.
    Healthz,
    /// Whether it can serve locks.
    Readyz,
    /// Metrics, as Prometheus reads them.
    Metrics,
    /// Which everlock this is.
    Version,
    /// All settings and their sources.
    Config,
}

/// Who may ask for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody: probes can't keep a secret.
    Everybody,
    /// Who shows the token, if there is one.
    Operator,
}

/// One page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) path: &'static str,
    /// The methods that it takes, as the header `Allow` has them.
    allow: &'static str,
    pub(super) access: Access,
    pub(super) page: Page,
}

const fn read(path: &'static str, access: Access, page: Page) -> Row {
    Row {
        path,
        allow: "GET, HEAD",
        access,
        page,
    }
}

const fn change(path: &'static str, page: Page) -> Row {
    Row {
        path,
        allow: "POST",
        access: Access::Operator,
        page,
    }
}

/// All pages there are beside the console's files; paths are taken literally.
const ROWS: &[Row] = &[
    read("/events", Access::Operator, Page::Events),
    read("/insights", Access::Operator, Page::Insights),
    change("/console/inspect", Page::Inspect),
    change("/console/force-release", Page::ForceRelease),
    read("/healthz", Access::Everybody, Page::Healthz),
    read("/readyz", Access::Everybody, Page::Readyz),
    read("/metrics", Access::Operator, Page::Metrics),
    read("/version", Access::Operator, Page::Version),
    read("/config", Access::Operator, Page::Config),
];

/// The row of a path.
pub(super) fn find(path: &str) -> Option<Row> {
    let asset = ASSETS.iter().find(|asset| asset.path == path);
    let asset = asset.map(|asset| read(asset.path, Access::Everybody, Page::Asset(*asset)));
    asset.or_else(|| ROWS.iter().find(|row| row.path == path).copied())
}

impl Row {
    /// Refuses a method that the page does not take.
    pub(super) fn check(&self, method: &Method) -> Result<(), Problem> {
        let allow = self.allow;
        if allow.split(", ").any(|allowed| allowed == method.as_str()) {
            return Ok(());
        }
        let message = format!("{} takes {allow}", self.path);
        Err(Problem::new(Kind::WrongMethod(allow), message))
    }
}
