//! Real `redis-server` processes: how one is configured, one that runs, and several at once.

mod builder;
mod cluster;
mod program;
mod resp;
mod server;
mod shim;

pub use builder::RedisBuilder;
pub use cluster::RedisCluster;
pub use resp::Reply;
pub use server::RedisServer;
