//! Hazard: a client that looks after its nodes at the cost of those who want their locks.
//!
//! The real Redis client over a simulated network of a constant latency, so that every
//! round trip that somebody waits for shows.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

mod support {
    #[allow(dead_code, reason = "every test file uses its own part of it")]
    pub(crate) mod wire_clock;
    #[allow(dead_code, reason = "every test file uses its own part of it")]
    pub(crate) mod wire_server;
}

use std::sync::Arc;
use std::time::Duration;

use everlock::node::redis::streams::{Connector, Stream};
use everlock::{AcquireOptions, Redlock};
use support::wire_clock::{WireClock, elapsed};
use support::wire_server::{PORT, Server};

const WAY: Duration = Duration::from_millis(50);
const CLOCK: WireClock = WireClock { rate: 0, offset: 0 };

fn connector(name: String) -> Connector {
    Arc::new(move || {
        let name = name.clone();
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect((name, PORT)).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

#[test]
fn nobody_waits_while_the_nodes_are_looked_at() {
    let mut sim = turmoil::Builder::new()
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(Duration::from_mins(2))
        .min_message_latency(WAY)
        .max_message_latency(WAY)
        .build();
    let servers: Vec<_> = (0..3)
        .map(|number| Server::new(format!("node-{number}"), CLOCK, true))
        .collect();
    for server in &servers {
        let server = Arc::clone(server);
        sim.host(server.name.clone(), move || Arc::clone(&server).run());
    }
    let names: Vec<_> = servers.iter().map(|server| server.name.clone()).collect();
    sim.client("client", async move {
        let builder = Redlock::builder()
            .node_timeout(20 * WAY)
            .clock(Arc::new(CLOCK));
        let builder = names.iter().fold(builder, |builder, name| {
            builder.node_streams(name.clone(), connector(name.clone()))
        });
        let redlock = builder.initialise(None).connect().await.unwrap();
        let mut slowest = Duration::ZERO;
        let options = || AcquireOptions::new().retries(0);
        // Servers are looked at every five seconds.
        while elapsed() < Duration::from_secs(14) {
            let started = elapsed();
            let grant = redlock.acquire("r", options()).await.unwrap();
            slowest = slowest.max(elapsed().saturating_sub(started));
            redlock.release(&grant).await.unwrap();
        }
        assert!(slowest >= 2 * WAY, "or the test shows nothing");
        assert!(slowest < 3 * WAY, "somebody waited for {slowest:?}");
        Ok(())
    });
    sim.run().unwrap();
}
