//! The binary `everlock`.

use std::process::ExitCode;

fn main() -> ExitCode {
    everlock_proxy::cli::run()
}
