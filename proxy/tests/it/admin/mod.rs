//! The operators' listener, apart from the locks.

mod access;
mod config;
mod console;
mod deployed;
pub(crate) mod exposition;
mod metrics;
mod pages;

use std::net::SocketAddr;

use crate::support::{Client, Proxy, SOON};

pub(crate) const TOKEN: &str = "canary-admin-token-0123456789abcdef";

/// Where a proxy serves its operators.
pub(crate) async fn admin_of(proxy: &mut Proxy) -> SocketAddr {
    let line = proxy
        .process
        .wait_for_line(|line| line.contains("operators are served"), SOON)
        .await;
    let addr = line.split_once("admin=").and_then(|(_, rest)| {
        let addr = rest.split(' ').next()?;
        addr.parse().ok()
    });
    addr.unwrap_or_else(|| panic!("no address in {line:?}"))
}

/// A proxy without nodes of its own, and its operator.
pub(crate) async fn dev(flags: &[&str], env: &[(&str, &str)]) -> (Proxy, Client) {
    let fixed = ["serve", "--dev", "--listen", "127.0.0.1:0"];
    let args: Vec<_> = fixed.iter().chain(flags).copied().collect();
    let mut proxy = Proxy::spawn(&args, env).await;
    let client = Client::new(admin_of(&mut proxy).await);
    (proxy, client)
}
