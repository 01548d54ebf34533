//! Leases: something that one holder owns for a bounded time, and keeps by renewing it.
//!
//! One contract, [`Lease`], and three backends that keep it: [`memory`] (in this
//! process, the reference), [`redlock`] (a quorum of Redis nodes) and, with the
//! feature `kubernetes`, `kubernetes` (a `coordination.k8s.io` Lease). What each
//! promises is in `docs/lease.md`; whoever writes another one implements
//! [`Backend`] and hands it to a [`Keeper`], which does all the rest, and runs the
//! contract's suite (feature `test-util`) on it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use everlock::lease::{Lease, LeaseOptions, memory::MemoryLeases};
//! use std::time::Duration;
//!
//! let leases = MemoryLeases::new(); // shared by all who contend
//! let options = |owner| LeaseOptions::builder("scheduler", owner).ttl(Duration::from_secs(15));
//! let ours = leases.lease(options("node-a").build()?);
//! let theirs = leases.lease(options("node-b").build()?);
//!
//! let token = ours.acquire_with_token().await?.expect("nobody else holds it");
//! let _heard = ours.on_lost(Box::new(|reason| eprintln!("stop: lost ({reason:?})")));
//! assert!(ours.check_alive()); // asks nobody, so ask it before each step of the work
//! assert!(!theirs.acquire().await?);
//!
//! ours.release().await?;
//! let later = theirs.acquire_with_token().await?.expect("it was released");
//! assert!(later > token);
//! # Ok(())
//! # }
//! ```

mod backend;
#[cfg(feature = "test-util")]
pub mod contract;
mod error;
#[cfg(feature = "test-util")]
pub mod faulty;
mod keeper;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
mod ledger;
pub mod memory;
mod options;
pub mod redlock;
mod subscription;
mod token;

use std::fmt;
use std::pin::Pin;

pub use backend::{Answer, Backend, Habits, Lasts, Won};
pub use error::LeaseError;
pub use keeper::Keeper;
pub use options::{
    DEFAULT_TTL, LeaseOptions, LeaseOptionsBuilder, MAX_ATTEMPTS, MAX_RETRY_DELAY, MAX_TTL, MIN_TTL,
};
pub use subscription::{LostHandler, Subscription};
pub use token::LeaseToken;

/// What a lease's operations give: a future that may be sent between threads.
pub type LeaseFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, LeaseError>> + Send + 'a>>;

/// A lease: owned by a single holder for a bounded time, and renewed while it is held.
///
/// A *tenure* is the time from an acquire that won to the loss or the release. The
/// holder is named by the owner of the options: the same owner is the same holder,
/// so give each process (or each whatever may hold) an owner of its own.
///
/// All futures may be dropped at any await point. An acquire that is dropped takes
/// its course in the background, and what it wins is released, unless another
/// acquire of the same lease was told of it; a release that is dropped takes its
/// course. Dropping the lease ends the renewal and releases in the background.
pub trait Lease: Send + Sync + fmt::Debug {
    /// What the lease was built with.
    fn options(&self) -> &LeaseOptions;

    /// Acquires the lease. `true`: it is ours, and renewed from now on. `false`: it
    /// is definitely held by another. An error: it is not known whether it is ours;
    /// if it was, the tenure goes on to its own deadline, and if it was not, it is
    /// not treated as ours.
    ///
    /// Acquiring again while it is held renews it, in the same tenure and under the
    /// same token. If it shows then that the lease is not ours any more, that is a
    /// loss like any other.
    fn acquire(&self) -> LeaseFuture<'_, bool>;

    /// Whether the backend has fencing tokens. If not, use [`Lease::acquire`].
    fn supports_tokens(&self) -> bool;

    /// As [`Lease::acquire`], with the fencing token of the tenure; `None` for `false`.
    ///
    /// Each tenure's token is later than those of all before it, whoever held
    /// them, also across releases, takeovers and restarts that the backend outlives.
    fn acquire_with_token(&self) -> LeaseFuture<'_, Option<LeaseToken>>;

    /// Releases the lease; does nothing if it is not held. Before anything is sent
    /// the renewal has stopped and [`Lease::check_alive`] is false. An error says
    /// that the backend could not be told: others may have to wait until the lease
    /// runs out. It may be called again then. Never tells the handlers of a loss.
    ///
    /// What an acquire that is under way wins is released with it; that one ends
    /// with [`LeaseError::Superseded`], or was told before that it had won.
    fn release(&self) -> LeaseFuture<'_, ()>;

    /// Whether the lease may be relied on at this moment. Asks nobody. False as soon
    /// as the deadline has passed, which is measured from the start of the request
    /// that won or renewed it, on a clock that counts suspended time.
    fn check_alive(&self) -> bool;

    /// The token of the present tenure; `None` when the lease is not alive. Asks
    /// nobody. Tells the result of an acquire that was overtaken from the present one.
    fn token(&self) -> Option<LeaseToken>;

    /// Has the handler called once for each loss, with the reason, and not for a
    /// release. [`Lease::check_alive`] is false by then. Handlers are called in the
    /// order in which they were added, until their subscription is dropped, and
    /// should not block. One that is added after the loss of the latest tenure, when
    /// nothing was acquired or released since, is called at once. A panic of a
    /// handler harms nobody.
    fn on_lost(&self, handler: LostHandler) -> Subscription;
}

/// Its examples are compiled here.
#[cfg(all(doctest, feature = "kubernetes"))]
#[doc = include_str!("../../docs/lease.md")]
struct Manual;
