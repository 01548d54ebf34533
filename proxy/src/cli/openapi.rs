//! `everlock openapi`: the document of the HTTP API.

use std::io::Write as _;
use std::process::ExitCode;

use crate::openapi;

/// Prints it. Whoever stops reading halfway has what they wanted.
pub(super) fn print() -> ExitCode {
    match std::io::stdout().write_all(openapi::text().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => super::failed(&format!("the document can't be written: {error}")),
    }
}
