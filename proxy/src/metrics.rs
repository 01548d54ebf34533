//! The proxy's metrics: one recorder, the handles that events count on, and their exposition.
//!
//! Invariant: no label holds what a client sent. Handles are made once; an event looks nothing up
//! by name. Without an admin listener nobody could read anything, and nothing is counted.

use std::sync::Arc;

use metrics::{Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;

/// Of this everlock.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What it was built from, where the build said so.
pub(crate) const REVISION: Option<&str> = option_env!("EVERLOCK_REVISION");

static METADATA: Metadata<'static> = Metadata::new("everlock", Level::INFO, Some("everlock"));

/// What is asked for when metrics are read, rather than counted before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) draining: bool,
}

/// All that is counted in a proxy; clones share it.
#[derive(Clone)]
pub struct Metrics(Option<Arc<Inner>>);

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    process: Collector,
    draining: metrics::Gauge,
}

impl Metrics {
    /// Counts nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Counts from now on.
    #[must_use]
    pub fn on() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let process = Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        let mut labels = vec![Label::from_static_parts("version", VERSION)];
        labels.extend(REVISION.map(|revision| Label::from_static_parts("revision", revision)));
        recorder.describe_gauge(
            "everlock_build_info".into(),
            None,
            "Which everlock this is; it is always 1.".into(),
        );
        let build = Key::from_parts("everlock_build_info", labels);
        recorder.register_gauge(&build, &METADATA).set(1.0);
        recorder.describe_gauge(
            "everlock_draining".into(),
            None,
            "Whether the proxy was asked to end.".into(),
        );
        let draining = Key::from_name("everlock_draining");
        Self(Some(Arc::new(Inner {
            handle: recorder.handle(),
            draining: recorder.register_gauge(&draining, &METADATA),
            process,
            recorder,
        })))
    }

    /// All of it in Prometheus's text format.
    pub(crate) fn render(&self, sample: Sample) -> String {
        let Some(inner) = &self.0 else {
            return String::new();
        };
        inner.draining.set(f64::from(u8::from(sample.draining)));
        metrics::with_local_recorder(&inner.recorder, || inner.process.collect());
        inner.handle.render()
    }

    /// Merges what was counted, so that it takes no room.
    pub(crate) fn upkeep(&self) {
        if let Some(inner) = &self.0 {
            inner.handle.run_upkeep();
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("on", &self.0.is_some())
            .finish_non_exhaustive()
    }
}
