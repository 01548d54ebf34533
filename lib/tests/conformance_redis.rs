//! The Redis node keeps every rule of the conformance suite, on a real server.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use everlock::Vote;
use everlock::node::Node;
use everlock::node::conformance::{Subject, Waiting, cluster, open, redis_node, submit};
use everlock::protocol::{Command, MarkerCommand};
use everlock_testkit::RedisServer;

struct Redis {
    node: Arc<dyn Node>,
    server: RedisServer,
    /// How many milliseconds the server's clock was set back.
    behind: AtomicI64,
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

    fn step_back(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap();
        let behind = self.behind.fetch_add(by, Ordering::SeqCst) + by;
        self.server.set_clock_offset(-behind);
    }
}

fn redis(durable: bool) -> Redis {
    let builder = RedisServer::builder().durable().with_clock();
    let server = if durable {
        builder.start()
    } else {
        // Keeps its data when it is killed, though nobody may rely on that. (With
        // everysec a write can be held back while an earlier one is synced.)
        builder.config("appendfsync", "no").start()
    };
    let node = redis_node(&server.url()).unwrap();
    let behind = AtomicI64::new(0);
    Redis {
        node,
        server,
        behind,
    }
}

everlock::node_conformance!(redis);

#[tokio::test]
async fn a_guard_counts_from_the_moment_it_is_set_whatever_was_read_before() {
    // A node keeps what its marker said for a second, so as to read it less often.
    let max_lease = Duration::from_secs(30);
    let subject = redis(false);
    let node = subject.node();
    open(&*node, max_lease, false).await;
    assert_eq!(submit(&*node, Command::Ping).await.vote, Vote::Pong);
    subject.server.command(&["DEL", "everlock~marker"]);
    let guard = MarkerCommand::Guard {
        cluster: cluster(max_lease),
        started: None,
        durable: false,
    };
    node.mark(guard).await.unwrap();
    let vote = submit(&*node, Command::Ping).await.vote;
    assert!(matches!(vote, Vote::Guarded { .. }), "{vote:?}");
}
