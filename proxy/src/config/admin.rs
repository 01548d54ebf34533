//! The admin listener: where it listens, and what it demands.

use std::net::SocketAddr;

use super::auth::{MAX_SECRET_BYTES, MIN_SECRET_BYTES, Secret};
use super::listen::Listen;
use super::parse;
use super::secret;
use super::sources::{Reader, Source};
use super::table::ADMIN_TOKEN_ENV;

/// A listener for operators.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it demands of whoever asks for more than health; none for nothing.
    pub token: Option<Secret>,
    /// Whether an operator may end locks by force, in the console.
    pub allow_force_release: bool,
}

/// Reads it, if there is one; a problem is noted already.
pub(super) fn read(reader: &mut Reader<'_>, api: &[Listen]) -> Option<AdminSettings> {
    let listen = reader.read_optional("admin-listen", parse::address);
    let open = reader.read_switch("allow-unauthenticated-admin");
    let force = reader.read_switch("allow-force-release");
    let token = token(reader).ok()?;
    let Some(listen) = listen else {
        let source = token.map(|(source, _)| source);
        let switch = open.or(force).map(|switch| switch.source);
        if let Some(source) = source.or(switch) {
            reader.problem(&source, "is of no use without --admin-listen");
        }
        return None;
    };
    let token = token.map(|(_, token)| token);
    let place = reader.source("admin-listen");
    if listen.port() != 0 && api.contains(&Listen::Tcp(listen)) {
        reader.problem(&place, &format!("{listen} is the address of --listen"));
    }
    let loopback = listen.ip().to_canonical().is_loopback();
    if !loopback && token.is_none() && open.is_none() {
        let problem = format!(
            "{listen} is not a loopback address and nobody has to authenticate: whoever can reach \
             it sees metrics, settings and names of locks. Listen on 127.0.0.1, demand a token with \
             --admin-token-file, or say --allow-unauthenticated-admin where the network keeps \
             others away"
        );
        reader.problem(&place, &problem);
    }
    if let (Some(force), None, false) = (&force, &token, loopback) {
        let problem = "whoever can reach the admin listener could end locks: demand a token with \
                       --admin-token-file";
        reader.problem(&force.source, problem);
    }
    let allow_force_release = force.is_some();
    Some(AdminSettings {
        listen,
        token,
        allow_force_release,
    })
}

/// The token and its source; a problem is noted already.
fn token(reader: &mut Reader<'_>) -> Result<Option<(Source, Secret)>, ()> {
    let Some((source, text)) = secret::read(reader, "admin-token-file", ADMIN_TOKEN_ENV)? else {
        return Ok(None);
    };
    let token = text.trim();
    let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    match Secret::new(token) {
        Ok(token) if visible => Ok(Some((source, token))),
        _ => {
            let problem = format!(
                "is no token: it takes one word of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} visible \
                 characters (make one with `openssl rand -hex 32`)"
            );
            reader.problem(&source, &problem);
            Err(())
        }
    }
}
