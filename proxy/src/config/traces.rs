//! Where traces are sent, from the variables that OpenTelemetry gives names to.
//!
//! Invariant: without an endpoint nothing of it is looked at. The variables have no flags: whoever
//! runs a collector sets them for all programs alike. Some are acted upon by OpenTelemetry's own
//! library, which takes a default for what it can't read: so they are checked here.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::parse;
use super::shown::{Public, ServerUrl, Shown, hidden};
use super::sources::{Reader, Source};

/// A variable for all kinds of telemetry, and the one for traces, which counts where both are set.
type Pair = (&'static str, &'static str);

const ENDPOINT: Pair = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
);
const HEADERS: Pair = (
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
);
const PROTOCOL: Pair = (
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
);
const TIMEOUT: Pair = (
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
);
const COMPRESSION: Pair = (
    "OTEL_EXPORTER_OTLP_COMPRESSION",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
);
const CERTIFICATE: Pair = (
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
);
const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const QUEUE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
/// What OpenTelemetry's library acts upon itself: whole numbers of at least so much.
const NUMBERS: [(&str, usize); 6] = [
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1),
    ("OTEL_BSP_SCHEDULE_DELAY", 1),
    ("OTEL_BSP_EXPORT_TIMEOUT", 1),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", 0),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", 0),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", 0),
];
const MOST: usize = 1_000_000;
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// Where traces go below an endpoint that is for all kinds of telemetry.
const PATH: &str = "v1/traces";
/// What the conventions say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_QUEUE: usize = 2_048;
/// The queue takes a few hundred bytes for each from the start, and what a span holds besides.
const QUEUES: (usize, usize) = (1, 1_000_000);
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_mins(1));

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Whether a request that is part of a trace already is traced if that trace is.
    pub by_parent: bool,
    /// The share of the others.
    pub share: f64,
}

/// Where traces are sent, and which.
#[derive(Clone)]
pub struct TraceSettings {
    /// The URL that they are posted to.
    pub endpoint: String,
    /// What is sent along: secrets, as a rule.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Authorities in PEM to trust in place of the public ones.
    pub ca: Option<Vec<u8>>,
    /// How long the collector is given to answer.
    pub timeout: Duration,
    /// Whether what is sent is compressed.
    pub gzip: bool,
    /// Which requests are traced.
    pub sampling: Sampling,
    /// How many spans may wait to be sent; more are lost.
    pub queue: usize,
}

impl TraceSettings {
    /// The endpoint as it may be shown.
    #[must_use]
    pub fn shown_endpoint(&self) -> String {
        let shown = ServerUrl(self.endpoint.clone()).shown();
        shown.as_str().unwrap_or_default().to_owned()
    }
}

impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceSettings")
            .field("endpoint", &self.shown_endpoint())
            .field("sampling", &self.sampling)
            .finish_non_exhaustive()
    }
}

/// Headers, of which nothing is shown.
struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Shown for Headers {
    fn shown(&self) -> Value {
        hidden()
    }
}

impl Shown for Sampling {
    fn shown(&self) -> Value {
        let root = match self.share {
            share if share >= 1.0 => "always_on",
            share if share <= 0.0 => "always_off",
            _ => "traceidratio",
        };
        if self.by_parent {
            format!("parentbased_{root}").into()
        } else {
            root.into()
        }
    }
}

/// Reads them, if there is an endpoint; a problem is noted already.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<TraceSettings> {
    let base = |text: &str| {
        let base = endpoint(text)?;
        let slash = if base.0.ends_with('/') { "" } else { "/" };
        Ok(ServerUrl(format!("{}{slash}{PATH}", base.0)))
    };
    let own = reader.read_variable(ENDPOINT.1, endpoint);
    let endpoint = own.or_else(|| reader.read_variable(ENDPOINT.0, base))?;
    if reader.read_variable(DISABLED, |text| Ok(text.eq_ignore_ascii_case("true"))) == Some(true) {
        return None;
    }
    let exporter = reader.read_variable(EXPORTER, exporter);
    if exporter.is_some_and(|Public(name)| name == "none") {
        return None;
    }
    either(reader, PROTOCOL, protocol);
    for (name, least) in NUMBERS {
        reader.read_variable(name, |text| parse::count(text, least, MOST));
    }
    reader.read_variable(SERVICE_NAME, |text| Ok(Public(text.to_owned())));
    reader.read_variable(ATTRIBUTES, attributes);
    let certificate = either(reader, CERTIFICATE, |text| Ok(Public(text.to_owned())));
    Some(TraceSettings {
        endpoint: endpoint.0,
        headers: either(reader, HEADERS, headers).map_or(Vec::new(), |(_, headers)| headers.0),
        ca: certificate.and_then(|(name, Public(path))| {
            reader
                .open_named(&Source::Variable(name), Path::new(&path))
                .ok()
        }),
        timeout: either(reader, TIMEOUT, timeout).map_or(DEFAULT_TIMEOUT, |(_, timeout)| timeout),
        gzip: either(reader, COMPRESSION, compression).is_some_and(|(_, gzip)| gzip),
        sampling: sampling(reader),
        queue: reader
            .read_variable(QUEUE, |text| parse::count(text, QUEUES.0, QUEUES.1))
            .unwrap_or(DEFAULT_QUEUE),
    })
}

/// The variable for traces, or the one for all.
fn either<T: Shown>(
    reader: &mut Reader<'_>,
    (all, traces): Pair,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<(&'static str, T)> {
    let own = reader.read_variable(traces, &parse);
    let own = own.map(|value| (traces, value));
    own.or_else(|| reader.read_variable(all, &parse).map(|value| (all, value)))
}

/// What was given is in no error: people write passwords there.
fn endpoint(text: &str) -> Result<ServerUrl, String> {
    let text = text.trim();
    let uri: Uri = text.parse().map_err(|_| {
        "is no URL: it takes one of http:// or https://, such as http://127.0.0.1:4318".to_owned()
    })?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err("is no URL of http:// or https://, such as http://127.0.0.1:4318".to_owned());
    }
    if uri.authority().is_some_and(|to| to.as_str().contains('@')) {
        return Err(format!(
            "holds a user or a password: give what the collector demands in {}",
            HEADERS.0
        ));
    }
    Ok(ServerUrl(text.to_owned()))
}

fn exporter(text: &str) -> Result<Public, String> {
    match text {
        "otlp" | "none" => Ok(Public(text.to_owned())),
        _ => Err(format!(
            "{text:?} is no exporter of this program: it takes otlp or none"
        )),
    }
}

fn protocol(text: &str) -> Result<Public, String> {
    match text {
        "http/protobuf" => Ok(Public(text.to_owned())),
        _ => Err(format!(
            "{text:?} is not spoken here: traces are sent by http/protobuf, which collectors take \
             at port 4318 as a rule"
        )),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let (least, most) = TIMEOUTS;
    let millis = text.trim().parse().map(Duration::from_millis).ok();
    millis
        .filter(|timeout| (least..=most).contains(timeout))
        .ok_or_else(|| {
            let most = most.as_millis();
            format!("{text:?} is out of bounds: it takes 1 to {most} milliseconds")
        })
}

fn compression(text: &str) -> Result<bool, String> {
    match text {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(format!("{text:?} is no compression: it takes gzip or none")),
    }
}

/// `name=value,…`.
fn attributes(text: &str) -> Result<Public, String> {
    let pairs = text.split(',').map(str::trim);
    let mut pairs = pairs.filter(|pair| !pair.is_empty());
    if pairs.all(|pair| {
        pair.split_once('=')
            .is_some_and(|(name, _)| !name.trim().is_empty())
    }) {
        return Ok(Public(text.to_owned()));
    }
    Err("is no list of attributes: it takes name=value,name=value".to_owned())
}

/// `name=value,…`, with what is special percent-encoded. None of it is in an error.
fn headers(text: &str) -> Result<Headers, String> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let headers = pairs.map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        let mut value = HeaderValue::from_bytes(&decoded(value.trim())?).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    });
    let headers: Option<Vec<_>> = headers.collect();
    headers.map(Headers).ok_or_else(|| {
        "is no list of headers: it takes name=value,name=value, percent-encoded".to_owned()
    })
}

/// Without percent-encoding.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut all = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            all.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
        all.push(u8::try_from(value).ok()?);
    }
    Some(all)
}

fn sampling(reader: &mut Reader<'_>) -> Sampling {
    let share = reader.read_variable(SAMPLER_ARG, |text| parse::number(text, 0.0, 1.0));
    let share = share.unwrap_or(1.0);
    let sampling = reader.read_variable(SAMPLER, |text| {
        let (by_parent, root) = match text.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, text),
        };
        let share = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => share,
            _ => {
                return Err(format!(
                    "{text:?} is no sampler of this program: it takes always_on, always_off or \
                     traceidratio, each also with parentbased_ before it"
                ));
            }
        };
        Ok(Sampling { by_parent, share })
    });
    sampling.unwrap_or(Sampling {
        by_parent: true,
        share: 1.0,
    })
}
