//! Two halves, one lease: the half without a quorum stands down by itself, before the
//! other one may lead, and comes back as a follower.
//!
//! `cargo run -p everlock --example split_brain`

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use everlock::Redlock;
use everlock::clock::SystemClock;
use everlock::cluster::Cluster;
use everlock::entropy::SystemEntropy;
use everlock::lease::{Lease, LeaseOptions, redlock::RedlockLease};
use everlock::node::Node;
use everlock::node::faulty::{FaultyNode, Mishap};
use everlock::node::memory::MemoryNode;

const TTL: Duration = Duration::from_secs(2);

/// One half of the machines, as it reaches the five nodes.
struct Half {
    ways: Vec<Arc<FaultyNode>>,
    lease: RedlockLease,
}

impl Half {
    async fn of(nodes: &[Arc<dyn Node>], name: &str) -> Result<Self, Box<dyn Error>> {
        let ways: Vec<_> = nodes
            .iter()
            .cloned()
            .map(FaultyNode::new)
            .map(Arc::new)
            .collect();
        let through = ways.iter().map(|way| way.clone() as Arc<dyn Node>);
        let redlock = Redlock::builder().nodes(through).connect().await?;
        let options = LeaseOptions::builder("leader", name).ttl(TTL);
        let lease = redlock.lease(options.build()?)?;
        Ok(Self { ways, lease })
    }

    /// From now on it reaches these nodes only.
    fn cut_off_but_for(&self, nodes: std::ops::Range<usize>) {
        for (number, way) in self.ways.iter().enumerate() {
            if !nodes.contains(&number) {
                way.always(Mishap::RequestLost);
            }
        }
    }

    fn heal(&self) {
        self.ways.iter().for_each(|way| way.heal());
    }
}

/// Cuts the leader's half off, and waits for the other one to lead. Which tokens they had.
pub(crate) async fn demonstrate() -> Result<[String; 2], Box<dyn Error>> {
    let clock = Arc::new(SystemClock);
    let node = |number| Arc::new(MemoryNode::new(&format!("node-{number}"), clock.clone()));
    let nodes: Vec<_> = (1..=5)
        .map(|number| node(number) as Arc<dyn Node>)
        .collect();
    let cluster = Cluster::of(nodes.clone(), clock.clone(), Arc::new(SystemEntropy));
    cluster.init(None).await?;
    let (minor, major) = (
        Half::of(&nodes, "minor").await?,
        Half::of(&nodes, "major").await?,
    );

    let first = minor
        .lease
        .acquire_with_token()
        .await?
        .ok_or("it is free")?;
    let _heard = minor
        .lease
        .on_lost(Box::new(|reason| println!("minor stands down: {reason:?}")));
    println!("minor leads under {first}");
    assert!(!major.lease.acquire().await?);

    println!("the network parts: minor reaches two nodes, major three");
    minor.cut_off_but_for(0..2);
    major.cut_off_but_for(2..5);
    let second = loop {
        assert!(
            !(minor.lease.check_alive() && major.lease.check_alive()),
            "never both"
        );
        // An error is an answer, too: nobody knows, so nobody leads here.
        if let Ok(Some(token)) = major.lease.acquire_with_token().await {
            break token;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("major leads under {second}");
    assert!(!minor.lease.check_alive() && major.lease.check_alive());
    assert!(second > first, "what minor may still write is refused");

    println!("the network heals");
    minor.heal();
    major.heal();
    assert!(!minor.lease.acquire().await?, "minor follows");
    major.lease.release().await?;
    minor.lease.release().await?;
    Ok([first.to_string(), second.to_string()])
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "tests run the parts of it")]
async fn main() -> Result<(), Box<dyn Error>> {
    demonstrate().await.map(drop)
}
