//! What `serve --dev` says when it starts.

use crate::config::Listen;

pub(super) fn print(listen: &[Listen], tls: bool) {
    println!(
        "\neverlock in development mode: one process, nothing survives it, not a distributed lock."
    );
    let Some(first) = listen.first() else { return };
    let at = match first {
        Listen::Tcp(address) if tls => format!("--insecure https://{address}"),
        Listen::Tcp(address) => format!("http://{address}"),
        Listen::Unix(path) => format!("--unix-socket {} http://localhost", path.display()),
    };
    println!(
        r#"
  curl {at}/lock/acquire --json '{{"key":"demo","lease":60000,"uuid":"my-uuid"}}'
  curl {at}/lock/extend  --json '{{"key":"demo","extendBy":30000,"uuid":"my-uuid"}}'
  curl {at}/lock/release --json '{{"key":"demo","uuid":"my-uuid"}}'
"#
    );
}
