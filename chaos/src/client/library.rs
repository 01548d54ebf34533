//! Locks through the library, in the client's own process.

use std::time::Duration;

use everlock::{AcquireOptions, Error, Grant, OwnerId, Redlock, Resource};

use super::{DELAY, JITTER, Locks, Miss, Told};
use crate::{LEASE, micros};

pub(crate) struct Library(Redlock);

impl Library {
    /// The nodes may be in any state: tried until a client comes about.
    pub(crate) async fn connect(nodes: &[String]) -> Self {
        loop {
            match Redlock::builder().node_urls(nodes).connect().await {
                Ok(redlock) => return Self(redlock),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Locks for Library {
    type Grant = Grant;

    async fn acquire(&self, key: usize, owner: &str, retries: u32) -> Result<(Grant, Told), Miss> {
        let options = AcquireOptions::new()
            .lease(LEASE)
            .retries(retries)
            .delay(DELAY)
            .jitter(JITTER)
            .owner(OwnerId::new(owner).unwrap());
        // The name that the proxies give to the same key.
        let resource = Resource::new(format!("Evermind:anonymous:chaos-{key}")).unwrap();
        match self.0.acquire(resource, options).await {
            Ok(grant) => {
                let told = Told {
                    token: grant.token().as_u64(),
                    valid_until: micros(grant.valid_until()),
                };
                Ok((grant, told))
            }
            Err(Error::Contended { .. }) => Err("contended"),
            Err(Error::Unavailable { .. }) => Err("unavailable"),
            Err(error) => panic!("{error}"),
        }
    }

    async fn extend(&self, grant: &Grant) -> Option<u64> {
        let extension = self.0.extend(grant, LEASE).await.ok()?;
        Some(micros(extension.valid_until()))
    }

    async fn release(&self, grant: Grant) {
        let _ = self.0.release(&grant).await;
    }

    /// A grant's release leaves what the owner was granted after it.
    fn released_up_to(grant: &Grant) -> u64 {
        grant.token().as_u64()
    }
}
