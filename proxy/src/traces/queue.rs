//! How many spans wait to be sent, within a bound, and what becomes of each.
//!
//! Invariant: a span is counted once, whatever becomes of it. OpenTelemetry's own queue drops what
//! finds it full and tells nobody how much that was, so room is asked for here before: a span that
//! gets it finds room there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use super::collector::Rejected;
use crate::metrics::Spans;

/// The spans that wait, and the bound.
#[derive(Debug)]
struct Room {
    taken: AtomicUsize,
    all: usize,
}

/// Takes spans in, as far as there is room.
#[derive(Debug)]
pub(super) struct Queue {
    room: Arc<Room>,
    spans: Spans,
    batches: BatchSpanProcessor,
}

/// Hands on to the collector what left the queue.
#[derive(Debug)]
struct Sending<E> {
    exporter: E,
    room: Arc<Room>,
    spans: Spans,
    rejected: Rejected,
}

impl Queue {
    /// For so many spans that wait for this exporter, which notes what was rejected.
    pub(super) fn new(
        exporter: impl SpanExporter + 'static,
        all: usize,
        spans: Spans,
        rejected: Rejected,
    ) -> Self {
        let room = Arc::new(Room {
            taken: AtomicUsize::new(0),
            all,
        });
        let sending = Sending {
            exporter,
            room: Arc::clone(&room),
            spans: spans.clone(),
            rejected,
        };
        let config = BatchConfigBuilder::default().with_max_queue_size(all);
        let batches = BatchSpanProcessor::builder(sending).with_batch_config(config.build());
        Self {
            room,
            spans,
            batches: batches.build(),
        }
    }
}

impl Room {
    /// Whether there was room for one more, which has it now.
    fn take(&self) -> bool {
        let more = |taken| (taken < self.all).then_some(taken + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok()
    }

    fn leave(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::AcqRel);
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.room.take() {
            self.batches.on_end(span);
        } else {
            self.spans.queue_full.increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

impl<E: SpanExporter> SpanExporter for Sending<E> {
    /// One batch at a time; it is waited for to its end.
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        // They left OpenTelemetry's queue just now.
        self.room.leave(count);
        let result = self.exporter.export(batch).await;
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if result.is_ok() {
            let rejected = self.rejected.take().min(count);
            self.spans.rejected.increment(rejected);
            self.spans.sent.increment(count - rejected);
        } else {
            self.spans.failed.increment(count);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
