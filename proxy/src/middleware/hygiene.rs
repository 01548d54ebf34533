//! What hyper accepts and we don't: large headers, and requests whose host is in doubt.
//!
//! hyper's own limits lie above these (see `server`): it answers without a body. Where a body ends
//! is for hyper to say alone: it refuses lengths that differ, and closes the connection behind a
//! body in chunks that has a length as well.

use hyper::Version;
use hyper::header;
use hyper::http::request::Parts;

use crate::problem::{Kind, Problem};

pub(crate) const MAX_HEADERS: usize = 32;
pub(crate) const MAX_HEADER_BYTES: usize = 16 * 1024;

pub(super) fn check(parts: &Parts) -> Result<(), Problem> {
    let lines = parts.headers.iter();
    // A line has a colon, a space and a line end besides.
    let sizes = lines.map(|(name, value)| name.as_str().len() + value.len() + 4);
    let path = parts
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    if parts.headers.len() > MAX_HEADERS || path + sizes.sum::<usize>() > MAX_HEADER_BYTES {
        let message = format!(
            "the header is too large: it takes up to {MAX_HEADERS} lines and {MAX_HEADER_BYTES} bytes"
        );
        return Err(Problem::new(Kind::LargeHeader, message));
    }
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    // HTTP/2 says it in another way, and HTTP/1.0 need not say it.
    let least = usize::from(parts.version == Version::HTTP_11);
    if hosts < least || hosts > 1 {
        return Err(Problem::bad_request("a request has one Host header"));
    }
    Ok(())
}
