//! What many programs do by themselves: a pool for each node, a connection
//! checked out for each command, all nodes asked, all answers waited for.

use std::sync::Arc;

use deadpool_redis::{Config, Pool, Runtime};
use everlock_testkit::RedisCluster;
use tokio::task::JoinSet;

use crate::LEASE;

const DELETE: &str =
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end return 0";

/// A client that checks a connection out for each command.
#[derive(Clone)]
pub struct Naive {
    pools: Arc<[Pool]>,
    delete: Arc<redis::Script>,
}

impl Naive {
    /// Over these nodes, with as many connections to each as there may be tasks.
    ///
    /// # Panics
    ///
    /// When a pool can't be built.
    #[must_use]
    pub fn over(nodes: &RedisCluster, connections: usize) -> Self {
        let pool = |url: String| {
            let mut config = Config::from_url(url);
            config.pool = Some(deadpool_redis::PoolConfig::new(connections));
            let pool = config.create_pool(Some(Runtime::Tokio1));
            pool.expect("the URL of a node is one")
        };
        Self {
            pools: nodes.urls().into_iter().map(pool).collect(),
            delete: Arc::new(redis::Script::new(DELETE)),
        }
    }

    /// Whether a quorum set the key.
    pub async fn acquire(&self, key: &str, owner: &str) -> bool {
        let set = redis::cmd("SET")
            .arg(&[key, owner, "NX", "PX"])
            .arg(LEASE.as_secs() * 1_000)
            .to_owned();
        self.ask(move |mut connection| {
            let set = set.clone();
            async move {
                let done: Result<Option<String>, _> = set.query_async(&mut connection).await;
                done.is_ok_and(|done| done.is_some())
            }
        })
        .await
    }

    /// Whether a quorum deleted it.
    pub async fn release(&self, key: &str, owner: &str) -> bool {
        let (script, key, owner) = (Arc::clone(&self.delete), key.to_owned(), owner.to_owned());
        self.ask(move |mut connection| {
            let (script, key, owner) = (Arc::clone(&script), key.clone(), owner.clone());
            async move {
                let mut call = script.key(key);
                let done: Result<u64, _> = call.arg(owner).invoke_async(&mut connection).await;
                done.is_ok_and(|done| done == 1)
            }
        })
        .await
    }

    async fn ask<F: Future<Output = bool> + Send + 'static>(
        &self,
        what: impl Fn(deadpool_redis::Connection) -> F,
    ) -> bool {
        let mut asked = JoinSet::new();
        for pool in self.pools.iter() {
            if let Ok(connection) = pool.get().await {
                asked.spawn(what(connection));
            }
        }
        let yes = asked.join_all().await.into_iter().filter(|yes| *yes);
        yes.count() > self.pools.len() / 2
    }
}
