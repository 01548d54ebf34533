//! From spans to a collector: sampled, queued within a bound, sent in batches by a thread.
//!
//! Invariant: a span that finds the queue full is dropped and counted; no request ever waits for
//! one. The size of batches and the pauses between are OpenTelemetry's (`OTEL_BSP_…`).

use everlock::entropy::{Entropy as _, SystemEntropy};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    Compression, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, ShouldSample};
use opentelemetry_semantic_conventions::resource as names;

use super::collector::{Collector, Rejected};
use super::queue::Queue;
use crate::config::{Sampling, TraceSettings};
use crate::metrics::Spans;

const SERVICE: &str = "everlock";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

pub(super) fn provider(
    settings: &TraceSettings,
    spans: Spans,
) -> Result<SdkTracerProvider, String> {
    let rejected = Rejected::default();
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Collector::new(settings, rejected.clone())?)
        .with_endpoint(&settings.endpoint)
        .with_timeout(settings.timeout);
    if settings.gzip {
        exporter = exporter.with_compression(Compression::Gzip);
    }
    let exporter = exporter.build();
    let exporter = exporter.map_err(|error| format!("traces can't be sent: {error}"))?;
    Ok(SdkTracerProvider::builder()
        .with_span_processor(Queue::new(exporter, settings.queue, spans, rejected))
        .with_sampler(sampler(settings.sampling))
        .with_resource(resource())
        .build())
}

fn sampler(sampling: Sampling) -> Box<dyn ShouldSample> {
    let root = match sampling.share {
        share if share >= 1.0 => Sampler::AlwaysOn,
        share if share <= 0.0 => Sampler::AlwaysOff,
        share => Sampler::TraceIdRatioBased(share),
    };
    if sampling.by_parent {
        Box::new(Sampler::parent_based(root))
    } else {
        Box::new(root)
    }
}

/// Who sends: what the environment says, and what is known where it says nothing.
fn resource() -> Resource {
    let (high, low) = (SystemEntropy.bits(), SystemEntropy.bits());
    let known = Resource::builder_empty()
        .with_attributes([
            KeyValue::new(names::SERVICE_NAME, SERVICE),
            KeyValue::new(names::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
            KeyValue::new(names::SERVICE_INSTANCE_ID, format!("{high:016x}{low:016x}")),
        ])
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    let name = std::env::var(SERVICE_NAME).ok();
    match name.filter(|name| !name.is_empty()) {
        Some(name) => known.with_service_name(name).build(),
        None => known.build(),
    }
}
