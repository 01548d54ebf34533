//! The page's files, which are in the program: nothing is fetched from anywhere else.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::super::Body;

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) struct Asset {
    pub(in crate::admin) path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
/// Scripts and styles are files of our own; there is nothing else, and nobody frames the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types";

const fn asset(path: &'static str, kind: &'static str, text: &'static str) -> Asset {
    Asset { path, kind, text }
}

/// All of them.
pub(in crate::admin) const ASSETS: [Asset; 10] = [
    asset("/", HTML, include_str!("page/index.html")),
    asset("/console/style.css", CSS, include_str!("page/style.css")),
    asset("/console/main.js", SCRIPT, include_str!("page/main.js")),
    asset("/console/live.js", SCRIPT, include_str!("page/live.js")),
    asset("/console/panels.js", SCRIPT, include_str!("page/panels.js")),
    asset(
        "/console/advisor.js",
        SCRIPT,
        include_str!("page/advisor.js"),
    ),
    asset(
        "/console/inspector.js",
        SCRIPT,
        include_str!("page/inspector.js"),
    ),
    asset("/console/charts.js", SCRIPT, include_str!("page/charts.js")),
    asset("/console/dom.js", SCRIPT, include_str!("page/dom.js")),
    asset("/console/icon.svg", SVG, include_str!("page/icon.svg")),
];

impl Asset {
    /// The file as an answer. It is small, and another version's would not fit: nobody keeps it.
    pub(in crate::admin) fn answer(self) -> Response<Body> {
        let body = Full::new(Bytes::from_static(self.text.as_bytes()));
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() = StatusCode::OK;
        let fixed = [
            (header::CONTENT_TYPE, self.kind),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        for (name, value) in fixed {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_makes_markup_of_texts_or_asks_another_host() {
        for asset in ASSETS {
            for bad in [
                "innerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "onclick=",
            ] {
                assert!(!asset.text.contains(bad), "{} has {bad}", asset.path);
            }
            let urls = asset.text.matches("://").count();
            let names = asset.text.matches("http://www.w3.org/2000/svg").count();
            assert_eq!(urls, names, "{} names another host", asset.path);
        }
    }

    #[test]
    fn every_file_that_is_named_is_served() {
        for asset in ASSETS {
            let named = asset.text.split(['"', '\'']);
            let ours = |name: &&str| {
                let kind = std::path::Path::new(name).extension();
                kind.is_some_and(|kind| kind == "js" || kind == "css")
            };
            for name in named.filter(ours) {
                let file = name.rsplit('/').next().unwrap_or_default();
                let path = format!("/console/{file}");
                let served = ASSETS.iter().any(|other| other.path == path);
                assert!(served, "{} names {name}", asset.path);
            }
        }
    }
}
