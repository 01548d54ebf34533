//! `everlock health`: one HTTP request, for images without a shell.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Args};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{failed, misconfigured, parsed};
use crate::identity::trust;

/// Health checks have some three seconds altogether.
const TIMEOUT: Duration = Duration::from_secs(2);
/// More of an answer is of no interest.
const MAX_ANSWER: u64 = 4_096;

#[derive(Args)]
pub(super) struct HealthArgs {
    #[arg(
        long,
        help = "What to ask; /readyz instead of /healthz tells whether locks can be served. A \
                socket in the file system is written unix:/path/to.sock or \
                unix:/path/to.sock:/readyz",
        value_name = "URL",
        env = "EVERLOCK_HEALTH_URL",
        default_value = "http://127.0.0.1:8080/healthz"
    )]
    url: String,
    #[arg(
        long,
        help = "PEM certificates of the authorities that an https:// URL is trusted by, in place \
                of the public ones",
        value_name = "FILE",
        env = "EVERLOCK_HEALTH_CA"
    )]
    ca: Option<PathBuf>,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    way: Way,
    path: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Host with port.
    Plain(String),
    Tls(String),
    Socket(String),
}

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let HealthArgs { url, ca } = parsed(matches);
    let Some(target) = split(&url) else {
        let problem = format!(
            "{url:?} can't be asked: write http://host:port/path, https:// or unix:/path/to.sock"
        );
        return misconfigured(&[problem]);
    };
    let secure = matches!(target.way, Way::Tls(_));
    if ca.is_some() && !secure {
        return misconfigured(&["--ca is of no use: the URL is not https://".to_owned()]);
    }
    let pem = ca.map(|path| {
        std::fs::read(&path).map_err(|error| format!("{} can't be read: {error}", path.display()))
    });
    let config = match pem.transpose() {
        Ok(pem) => trust(pem.as_deref()),
        Err(problem) => Err(problem),
    };
    let config = match config {
        Ok(config) => config,
        Err(problem) => return misconfigured(&[format!("--ca: {problem}")]),
    };
    match ask(&target, config) {
        Ok(answer) if status(&answer) == Some("200") => ExitCode::SUCCESS,
        Ok(answer) => {
            let first = answer.lines().next().unwrap_or_default();
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            failed(&format!("{url} answers {first:?} {body}"))
        }
        Err(error) => failed(&format!("{url} does not answer: {error}")),
    }
}

fn split(url: &str) -> Option<Target> {
    if let Some(rest) = url.strip_prefix("unix:") {
        let (socket, path) = rest.split_once(":/").unwrap_or((rest, "healthz"));
        let path = format!("/{path}");
        let way = Way::Socket(socket.to_owned());
        return (socket.starts_with('/') && sane(&path)).then_some(Target { way, path });
    }
    let plain = url.strip_prefix("http://");
    let rest = plain.or_else(|| url.strip_prefix("https://"))?;
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    if host.is_empty() || !sane(host) || !sane(path) {
        return None;
    }
    // The last colon may be one of an IPv6 address in brackets.
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = |default: &str| {
        if has_port {
            host.to_owned()
        } else {
            format!("{host}:{default}")
        }
    };
    let way = match plain {
        Some(_) => Way::Plain(with_port("80")),
        None => Way::Tls(with_port("443")),
    };
    let path = path.to_owned();
    Some(Target { way, path })
}

fn sane(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn ask(target: &Target, config: ClientConfig) -> io::Result<String> {
    let path = &target.path;
    match &target.way {
        Way::Plain(host) => talk(connect(host)?, host, path),
        Way::Tls(host) => {
            let name = host
                .rsplit_once(':')
                .map_or(host.as_str(), |(name, _)| name);
            let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned());
            let name = name.map_err(io::Error::other)?;
            let session = ClientConnection::new(Arc::new(config), name);
            let session = session.map_err(io::Error::other)?;
            talk(StreamOwned::new(session, connect(host)?), host, path)
        }
        Way::Socket(socket) => {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            talk(stream, "localhost", path)
        }
    }
}

fn connect(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the host has no address");
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn talk(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
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
    fn a_url_falls_into_a_way_and_a_path() {
        let of = |url| {
            split(url).map(|Target { way, path }| match way {
                Way::Plain(host) => format!("{host} {path}"),
                Way::Tls(host) => format!("tls {host} {path}"),
                Way::Socket(socket) => format!("socket {socket} {path}"),
            })
        };
        assert_eq!(of("http://a:1/readyz").as_deref(), Some("a:1 /readyz"));
        assert_eq!(of("http://[::1]:8080").as_deref(), Some("[::1]:8080 /"));
        assert_eq!(of("http://localhost/x").as_deref(), Some("localhost:80 /x"));
        assert_eq!(of("https://a/x").as_deref(), Some("tls a:443 /x"));
        let socket = of("unix:/run/a.sock");
        assert_eq!(socket.as_deref(), Some("socket /run/a.sock /healthz"));
        let socket = of("unix:/run/a.sock:/readyz");
        assert_eq!(socket.as_deref(), Some("socket /run/a.sock /readyz"));
        for bad in ["", "ftp://a/", "http:///x", "http://a/x y", "a:1", "unix:a"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
