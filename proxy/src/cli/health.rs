//! `everlock health`: one plain HTTP request, for images without a shell.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args};

use super::{failed, misconfigured, parsed};

/// Health checks have some three seconds altogether.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More of an answer is of no interest.
const MAX_ANSWER: u64 = 4_096;

#[derive(Args)]
pub(super) struct HealthArgs {
    /// What to ask; /readyz instead of /healthz tells whether locks can be served
    #[arg(
        long,
        value_name = "URL",
        env = "EVERLOCK_HEALTH_URL",
        default_value = "http://127.0.0.1:8080/healthz"
    )]
    url: String,
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let HealthArgs { url } = parsed(matches);
    let Some((host, path)) = split(&url) else {
        let problem = format!("{url:?} can't be asked: write http://host:port/path");
        return misconfigured(&[problem]);
    };
    match ask(&host, path) {
        Ok(answer) if status(&answer) == Some("200") => ExitCode::SUCCESS,
        Ok(answer) => {
            let first = answer.lines().next().unwrap_or_default();
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            failed(&format!("{url} answers {first:?} {body}"))
        }
        Err(error) => failed(&format!("{url} does not answer: {error}")),
    }
}

/// Host with port, and path.
fn split(url: &str) -> Option<(String, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let sane = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !sane(host) || !sane(path) {
        return None;
    }
    // The last colon may be one of an IPv6 address in brackets.
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    Some((host, path))
}

fn ask(host: &str, path: &str) -> std::io::Result<String> {
    let mut last = std::io::Error::other("the host has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return talk(stream, host, path),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn talk(mut stream: TcpStream, host: &str, path: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn status(answer: &str) -> Option<&str> {
    let (version, rest) = answer.split_once(' ')?;
    version.starts_with("HTTP/1.").then_some(rest.get(..3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_falls_into_host_and_path() {
        let of = |url| split(url).map(|(host, path)| format!("{host} {path}"));
        assert_eq!(of("http://a:1/readyz").as_deref(), Some("a:1 /readyz"));
        assert_eq!(of("http://[::1]:8080").as_deref(), Some("[::1]:8080 /"));
        assert_eq!(of("http://localhost/x").as_deref(), Some("localhost:80 /x"));
        for bad in ["", "https://a/", "http:///x", "http://a/x y", "a:1"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
