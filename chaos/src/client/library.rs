//! Locks through the library, in the client's own process.

use std::sync::Arc;
use std::time::Duration;

use everlock::{AcquireOptions, Error, Grant, OwnerId, Redlock, Resource};

use super::places::Places;
use super::{Ask, DELAY, JITTER, Locks, Miss, Told, WORKERS};
use crate::record::Stay;
use crate::{LEASE, micros};

pub(crate) struct Library {
    shared: Redlock,
    /// One for each worker: whose place it is that nodes answer of, only its own client can tell.
    in_turn: Vec<(Redlock, Arc<Places>)>,
}

impl Library {
    /// The nodes may be in any state: tried until a client comes about.
    pub(crate) async fn connect(nodes: &[String]) -> Self {
        let mut in_turn = Vec::new();
        for _ in 0..WORKERS {
            let places = Arc::new(Places::default());
            let client = connect(nodes, Some(&places)).await;
            in_turn.push((client, places));
        }
        let shared = connect(nodes, None).await;
        Self { shared, in_turn }
    }
}

async fn connect(nodes: &[String], places: Option<&Arc<Places>>) -> Redlock {
    loop {
        let mut builder = Redlock::builder().node_urls(nodes);
        if let Some(places) = places {
            builder = builder.observer(Arc::<Places>::clone(places));
        }
        match builder.connect().await {
            Ok(redlock) => return redlock,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Locks for Library {
    /// With the client that has it.
    type Grant = (Grant, Redlock);

    async fn acquire(&self, ask: &Ask<'_>) -> Result<(Self::Grant, Told), Miss> {
        let options = AcquireOptions::new()
            .lease(LEASE)
            .retries(ask.retries)
            .delay(DELAY)
            .jitter(JITTER)
            .fifo(ask.in_turn)
            .owner(OwnerId::new(ask.owner).unwrap());
        // The name that the proxies give to the same key.
        let resource = Resource::new(format!("Evermind:anonymous:chaos-{}", ask.key)).unwrap();
        let own = self.in_turn.get(ask.worker).filter(|_| ask.in_turn);
        let redlock = own.map_or(&self.shared, |(redlock, _)| redlock);
        match redlock.acquire(resource, options).await {
            Ok(grant) => {
                let told = Told {
                    token: grant.token().as_u64(),
                    valid_until: micros(grant.valid_until()),
                };
                Ok(((grant, redlock.clone()), told))
            }
            Err(Error::Contended { .. }) => Err("contended"),
            Err(Error::Unavailable { .. }) => Err("unavailable"),
            Err(error) => panic!("{error}"),
        }
    }

    fn asks(&self, worker: usize, at: u64) {
        self.in_turn[worker].1.begin(at);
    }

    fn stood(&self, worker: usize) -> Vec<Stay> {
        self.in_turn[worker].1.end()
    }

    async fn extend(&self, (grant, redlock): &Self::Grant) -> Option<u64> {
        let extension = redlock.extend(grant, LEASE).await.ok()?;
        Some(micros(extension.valid_until()))
    }

    async fn release(&self, (grant, redlock): Self::Grant) {
        let _ = redlock.release(&grant).await;
    }

    /// A grant's release leaves what the owner was granted after it.
    fn released_up_to((grant, _): &Self::Grant) -> u64 {
        grant.token().as_u64()
    }
}
