//! What `serve --dev` says when it starts.

use std::net::SocketAddr;

pub(super) fn print(listen: SocketAddr) {
    println!(
        r#"
everlock in development mode: one process, nothing survives it, not a distributed lock.

  curl http://{listen}/lock/acquire --json '{{"key":"demo","lease":60000,"uuid":"my-uuid"}}'
  curl http://{listen}/lock/extend  --json '{{"key":"demo","extendBy":30000,"uuid":"my-uuid"}}'
  curl http://{listen}/lock/release --json '{{"key":"demo","uuid":"my-uuid"}}'
"#
    );
}
