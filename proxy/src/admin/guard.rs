//! Who may ask the admin listener.
//!
//! With a token: who shows it. Without one, on loopback, it is the machine that keeps others away,
//! and a page of another site, open in the operator's browser, must not get around that: by a name
//! of its own that it lets resolve to loopback it could read all answers. So only `localhost` and
//! addresses are taken as a host there. Elsewhere without a token it is the network's business, as
//! the operator said with `--allow-unauthenticated-admin`.

use std::net::{IpAddr, Ipv6Addr};

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};
use subtle::ConstantTimeEq as _;

use crate::config::AdminSettings;
use crate::problem::{Kind, Problem};

/// What the console's page says of itself.
const OWN: HeaderName = HeaderName::from_static("x-everlock-console");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

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

/// Refuses what another site's page may have sent: requests that look into a lock or end it come
/// from our own page, or from no browser at all. Without a token there is nothing else to know an
/// operator by, so the page has to be open by an address or as `localhost` then, on whatever
/// listener: a name could be another site's that resolves to this address.
pub(super) fn check_own_page(admin: &AdminSettings, headers: &HeaderMap) -> Result<(), Problem> {
    let foreign = || {
        let message = "this is answered for the console's own page only";
        Problem::new(Kind::Forbidden, message)
    };
    let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    // No form and no plain link can send this, and a script of another site must ask first.
    if text(&OWN) != Some("1") {
        return Err(foreign());
    }
    if text(&FETCH_SITE).is_some_and(|site| site != "same-origin") {
        return Err(foreign());
    }
    let host = text(&header::HOST).unwrap_or_default();
    let own = |origin: &str| {
        let rest = origin.strip_prefix("http://");
        rest.or_else(|| origin.strip_prefix("https://")) == Some(host)
    };
    if text(&header::ORIGIN).is_some_and(|origin| !own(origin)) {
        return Err(foreign());
    }
    if admin.token.is_none() && !names_no_site(host) {
        return Err(foreign());
    }
    Ok(())
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
