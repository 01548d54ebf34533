//! The pages that are plain answers.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::{Body, boxed};
use crate::answer::Answer;
use crate::app::App;
use crate::config::ShownSetting;
use crate::metrics;

/// The content type of Prometheus's text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Serialize)]
struct Config<'a> {
    /// The file that settings were read from; null without one.
    file: Option<&'a str>,
    settings: &'a [ShownSetting],
}

#[derive(Serialize)]
struct About {
    name: &'static str,
    version: &'static str,
    /// What it was built from, where the build said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<&'static str>,
}

pub(super) fn metrics(app: &App) -> Response<Body> {
    let text = app.metrics.render(app.sample());
    let body = Full::new(text.into()).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EXPOSITION));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn version() -> Response<Body> {
    let about = About {
        name: "everlock",
        version: metrics::VERSION,
        revision: metrics::REVISION,
    };
    boxed(Answer::json(StatusCode::OK, &about))
}

pub(super) fn config(file: Option<&str>, settings: &[ShownSetting]) -> Response<Body> {
    boxed(Answer::json(StatusCode::OK, &Config { file, settings }))
}
