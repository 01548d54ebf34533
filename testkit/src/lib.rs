//! The test kit of everlock: what its tests and benchmarks need around them.
//!
//! - [`RedisServer`] and [`RedisCluster`]: real `redis-server` processes on free loopback ports,
//!   which can be paused, killed and restarted, whose clocks can be thrown, whose power can
//!   fail, and which never outlive the test process.
//! - [`TlsFiles`]: certificates for such servers.
//! - [`FaultProxy`]: a TCP proxy in front of one address that loses, delays, stalls, cuts or
//!   refuses traffic on command.
//! - [`ProcessUnderTest`]: a program with its output, its signals and its exit status.
//! - [`Terminal`]: a pseudo-terminal with a program in it: keys, job control, size, hang-up.
//! - [`history`]: what clients were told, and the judge of it.
//! - [`FakePolar`]: the part of Polar's API that licences need, over TLS, with faults to order.
//! - [`replay_seeds`]: the fuzzers' seeds and mutations of them, for an ordinary test.
//! - [`TempDir`]: a directory that goes with the test.
//! - [`eventually`]: waits for a condition instead of sleeping for a guess.
//!
//! The kit panics where a test should fail: a server that does not start is not an outcome that a
//! test wants to handle. It shares no code with the locks, so that it can't hide a fault of theirs.

#![allow(
    clippy::missing_panics_doc,
    reason = "a test kit panics where a test should fail"
)]

mod fault_proxy;
pub mod history;
mod polar;
mod port;
mod process;
mod redis;
mod seeds;
mod temp_dir;
mod terminal;
mod tls;
mod wait;
mod watchdog;

pub use fault_proxy::{Door, FaultProxy, Flow};
pub use polar::{FakePolar, Fault as PolarFault, Licence as PolarLicence};
pub use port::ReservedPort;
pub use process::{ProcessUnderTest, Signal};
pub use redis::{RedisBuilder, RedisCluster, RedisServer, Reply};
pub use seeds::replay_seeds;
pub use temp_dir::TempDir;
pub use terminal::Terminal;
pub use tls::TlsFiles;
pub use wait::{SETTLED, eventually};
