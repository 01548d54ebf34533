//! The span of one command to one node.
//!
//! It is the command's own, from when it was given to the node until its answer, also where the
//! command shared a script call with those of other requests: how many shared it is an attribute,
//! and when the call was sent an event. A span for the shared call itself would have a parent in
//! none of their traces.

use std::borrow::Cow;
use std::sync::Arc;

use everlock::observer::CommandTrace;
use everlock::{NodeId, Vote};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer as _};
use opentelemetry_sdk::trace::Span;
use opentelemetry_semantic_conventions::attribute as names;

use super::request::{Answered, RequestTrace};

/// All commands are scripts, called by their digest.
const COMMAND: &str = "EVALSHA";

pub(super) struct NodeCall {
    span: Span,
    node: NodeId,
    answered: Arc<Answered>,
}

impl NodeCall {
    pub(super) fn begin(
        request: &RequestTrace,
        node: &NodeId,
        operation: &'static str,
        answered: Arc<Answered>,
    ) -> Self {
        let (name, kind): (Cow<'static, str>, _) = if request.redis {
            (format!("{COMMAND} {operation}").into(), SpanKind::Client)
        } else {
            (operation.into(), SpanKind::Internal)
        };
        let builder = request.tracer.span_builder(name.clone()).with_kind(kind);
        let span = request.tracer.build_with_context(builder, &request.context);
        let mut call = Self {
            span,
            node: node.clone(),
            answered,
        };
        call.span
            .set_attribute(KeyValue::new("everlock.command", operation));
        if request.redis {
            call.describe(name);
        } else {
            let node = node.as_str().to_owned();
            call.span
                .set_attribute(KeyValue::new("everlock.node", node));
        }
        call
    }

    fn describe(&mut self, summary: Cow<'static, str>) {
        self.span.set_attributes([
            KeyValue::new(names::DB_SYSTEM_NAME, "redis"),
            KeyValue::new(names::DB_OPERATION_NAME, COMMAND),
            KeyValue::new(names::DB_QUERY_SUMMARY, summary),
        ]);
        let Address { host, port, db } = Address::of(self.node.as_str());
        self.span
            .set_attribute(KeyValue::new(names::SERVER_ADDRESS, host.to_owned()));
        if let Some(port) = port {
            let port = KeyValue::new(names::SERVER_PORT, i64::from(port));
            self.span.set_attribute(port);
        }
        let db = KeyValue::new(names::DB_NAMESPACE, db.to_owned());
        self.span.set_attribute(db);
    }
}

impl CommandTrace for NodeCall {
    fn sent(&mut self, together: usize) {
        self.span.add_event("sent", Vec::new());
        if together > 1 {
            let together = i64::try_from(together).unwrap_or(i64::MAX);
            let size = KeyValue::new(names::DB_OPERATION_BATCH_SIZE, together);
            self.span.set_attribute(size);
        }
    }

    fn answered(mut self: Box<Self>, vote: &Vote) {
        if let Vote::Failed(fault) = vote {
            let kind = fault.kind.name().replace([' ', '-'], "_");
            self.span
                .set_attribute(KeyValue::new(names::ERROR_TYPE, kind));
            self.span.set_status(Status::error(""));
        } else {
            self.answered.note(&self.node);
            let word = KeyValue::new("everlock.answer", word(vote));
            self.span.set_attribute(word);
        }
        self.span.end();
    }
}

/// What the node said, in a word: no owner and no token.
const fn word(vote: &Vote) -> &'static str {
    match vote {
        Vote::Granted => "granted",
        Vote::Again { .. } => "granted_before",
        Vote::Held { .. } | Vote::Holder { .. } => "held",
        Vote::Stale { .. } => "token_too_low",
        Vote::Ahead => "token_too_high",
        Vote::Guarded { .. } => "guarded",
        Vote::Extended { .. } => "extended",
        Vote::Released { .. } => "released",
        Vote::Newer { .. } => "newer_grant",
        Vote::Absent => "not_held",
        Vote::Undone { .. } => "undone",
        Vote::Settled { .. } => "settled",
        Vote::Queued { .. } => "in_line",
        Vote::QueueFull { .. } => "line_full",
        _ => "other",
    }
}

/// A node's name, taken apart: `host:port`, `host:port/db`, or the path of a socket.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    host: &'a str,
    port: Option<u16>,
    db: &'a str,
}

impl<'a> Address<'a> {
    fn of(name: &'a str) -> Self {
        let number = |text: &str| text.parse::<u16>().is_ok();
        let (place, db) = match name.rsplit_once('/') {
            Some((place, db)) if number(db) && !place.is_empty() => (place, db),
            _ => (name, "0"),
        };
        match place.rsplit_once(':') {
            Some((host, port)) if number(port) => Self {
                host: host.trim_matches(['[', ']']),
                port: port.parse().ok(),
                db,
            },
            _ => Self {
                host: place,
                port: None,
                db,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_are_taken_apart() {
        for (name, host, port, db) in [
            ("10.0.0.1:6379", "10.0.0.1", Some(6379), "0"),
            ("redis-1.lan:6380/3", "redis-1.lan", Some(6380), "3"),
            ("[::1]:6379", "::1", Some(6379), "0"),
            ("/run/redis.sock", "/run/redis.sock", None, "0"),
            ("/run/redis.sock/2", "/run/redis.sock", None, "2"),
        ] {
            assert_eq!(Address::of(name), Address { host, port, db }, "{name}");
        }
    }
}
