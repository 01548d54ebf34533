//! Text to values. Errors say what was given and what may be given.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::LogFormat;

type Parsed<T> = Result<T, String>;

pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numeric
        .parse()
        .map_err(|_| format!("{text:?} is no address to listen on: write 127.0.0.1:8080"))
}

pub(crate) fn duration(text: &str, least: Duration, most: Duration) -> Parsed<Duration> {
    let bounds = || {
        let (least, most) = (shown(least), shown(most));
        format!("it takes {least} to {most}")
    };
    let parsed = humantime::parse_duration(text)
        .map_err(|_| format!("{text:?} is no duration, write 3s or 250ms: {}", bounds()))?;
    if (least..=most).contains(&parsed) {
        Ok(parsed)
    } else {
        Err(format!("{text} is out of bounds: {}", bounds()))
    }
}

/// A duration as it can be given.
pub(crate) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

pub(super) fn number(text: &str, least: f64, most: f64) -> Parsed<f64> {
    let parsed = f64::from_str(text).ok();
    parsed
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            format!("{text:?} is out of bounds: it takes a number from {least} to {most}")
        })
}

pub(super) fn count(text: &str, least: usize, most: usize) -> Parsed<usize> {
    let parsed = usize::from_str(text).ok();
    parsed
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            format!("{text:?} is out of bounds: it takes a whole number from {least} to {most}")
        })
}

/// A number of bytes: `16KiB`, `1MiB` or plain.
pub(super) fn size(text: &str, least: usize, most: usize) -> Parsed<usize> {
    let (digits, unit) = match text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    ) {
        (digits, "" | "B") => (digits, 1),
        (digits, "KiB") => (digits, 1024),
        (digits, "MiB") => (digits, 1024 * 1024),
        _ => ("", 1),
    };
    let parsed = usize::from_str(digits)
        .ok()
        .and_then(|number| number.checked_mul(unit));
    parsed
        .filter(|bytes| (least..=most).contains(bytes))
        .ok_or_else(|| {
            format!("{text:?} is out of bounds: it takes {least} to {most} bytes, written 16384 or 16KiB")
        })
}

/// The first segment of all keys. `:` would let identities collide, `~` marks
/// everlock's own keys.
pub(crate) fn prefix(text: &str) -> Parsed<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no prefix: it takes 1 to 64 of A-Z a-z 0-9 _ . -"
        ))
    }
}

pub(super) fn switch(text: &str) -> Parsed<bool> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "json" => Ok(LogFormat::Json),
        "plain" => Ok(LogFormat::Plain),
        _ => Err(format!("{text:?} is no log format: it takes json or plain")),
    }
}

pub(super) fn log_level(text: &str) -> Parsed<tracing::Level> {
    match text {
        "error" => Ok(tracing::Level::ERROR),
        "warn" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        "trace" => Ok(tracing::Level::TRACE),
        _ => Err(format!(
            "{text:?} is no log level: it takes error, warn, info, debug or trace"
        )),
    }
}
