//! The Redis node keeps every rule of the conformance suite, on a real server.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::sync::Arc;
use std::time::Duration;

use everlock::node::Node;
use everlock::node::conformance::{Subject, Waiting, redis_node};
use everlock_testkit::RedisServer;

struct Redis {
    node: Arc<dyn Node>,
    server: RedisServer,
}

impl Subject for Redis {
    fn node(&self) -> Arc<dyn Node> {
        Arc::clone(&self.node)
    }

    fn restart(&self) {
        self.server.restart();
    }

    fn forget(&self) {
        self.server.command(&["FLUSHALL"]);
    }

    fn pass(&self, time: Duration) -> Waiting<'_> {
        Box::pin(tokio::time::sleep(time))
    }
}

fn redis(durable: bool) -> Redis {
    let builder = RedisServer::builder().durable();
    let server = if durable {
        builder.start()
    } else {
        // Keeps its data when it is killed, but can't be relied on to.
        builder.config("appendfsync", "everysec").start()
    };
    let node = redis_node(&server.url()).unwrap();
    Redis { node, server }
}

everlock::node_conformance!(redis);
