//! Who may ask the admin listener.
//!
//! With a token: who shows it. Without one, on loopback, it is the machine that keeps others away,
//! and a page of another site, open in the operator's browser, must not get around that: by a name
//! of its own that it lets resolve to loopback it could read all answers. So only `localhost` and
//! addresses are taken as a host there. Elsewhere without a token it is the network's business, as
//! the operator said with `--allow-unauthenticated-admin`.

use std::net::{IpAddr, Ipv6Addr};

use hyper::HeaderMap;
use hyper::header;
use subtle::ConstantTimeEq as _;

use crate::config::AdminSettings;
use crate::problem::{Kind, Problem};

pub(super) fn check_token(admin: &AdminSettings, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(token) = &admin.token else {
        return Ok(());
    };
    let given = bearer(headers).unwrap_or_default();
    if bool::from(given.as_bytes().ct_eq(token.reveal())) {
        return Ok(());
    }
    let message = "the admin token is needed: Authorization: Bearer <token>";
    Err(Problem::new(Kind::Unauthenticated, message))
}

pub(super) fn check_host(admin: &AdminSettings, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    if more.is_some() {
        return Err(Problem::bad_request("a request has one Host header"));
    }
    let local = admin.listen.ip().to_canonical().is_loopback();
    if admin.token.is_some() || !local || names_no_site(host) {
        return Ok(());
    }
    let message = "without a token the admin listener answers for localhost and addresses only";
    Err(Problem::bad_request(message))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (only, None) = (given.next()?, given.next()) else {
        return None;
    };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

/// Whether the host of a request is an address, or this machine, or was not said.
fn names_no_site(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            name.is_empty()
                || name.eq_ignore_ascii_case("localhost")
                || name.parse::<IpAddr>().is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_this_machine_or_another_site() {
        for ours in [
            "",
            "localhost",
            "LocalHost:9090",
            "127.0.0.1:1",
            "10.0.0.1",
            "[::1]:9",
            "[::1]",
        ] {
            assert!(names_no_site(ours), "{ours}");
        }
        for other in [
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example:1",
            "[evil]",
            "127.0.0.1:80:x",
        ] {
            assert!(!names_no_site(other), "{other}");
        }
    }
}
