//! Running a piece of work under a lock.

use super::{Held, Redlock};
use crate::config::AcquireOptions;
use crate::core::types::Resource;
use crate::error::Error;

/// What the work gave, and how its lock fared.
#[derive(Debug)]
#[must_use]
pub struct Outcome<T> {
    /// The work's result; it is never hidden behind a failed release.
    pub value: T,
    /// Whether the lock was valid to the end of the work. If not, another holder
    /// may have begun meanwhile: fencing tokens tell which of the two came later.
    pub valid_to_the_end: bool,
    /// How the release ended; `Ok` also if the lock was handed on to the next section.
    pub release: Result<(), Error>,
}

impl Redlock {
    /// Acquires the lock, runs the work under it, and releases the lock.
    ///
    /// The lock is renewed while the work runs, for `max_hold` at most. The work
    /// is told when the lock is lost ([`Held::lost`]) but not ended: it knows best
    /// how to stop. The lock is released also if the work panics or the future is
    /// dropped, in the background then.
    ///
    /// # Sections of one process
    ///
    /// Where others of this client wait for the lock with `with_lock` when a section ends,
    /// the lock is handed on to the first of them without asking the nodes, which makes
    /// many short sections some ten times as fast. Every section has a fencing token of
    /// its own, higher than those before it and lower than that of whoever comes after,
    /// its own signal of loss, and at least two thirds of its lease when it is handed on; who
    /// comes to it so late that less than half is left asks the nodes. It is handed on
    /// only to those who waited already when it was acquired, eight times in a row or for
    /// 20 ms, whichever is longer, and not to those who ask for another lease; then it is
    /// released, and other processes have their turn.
    ///
    /// The nodes know such a lock by the first section's owner id and token:
    /// [`Held::owner`](super::Grant::owner) is the same for all of them, so whoever
    /// releases it by that name takes it from the section that has it at that time. A
    /// section that names its [owner](AcquireOptions::owner), or waits in strict order
    /// ([`fifo`](AcquireOptions::fifo)), shares its lock with nobody.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use everlock::{AcquireOptions, Redlock};
    ///
    /// // In-memory nodes; in production `.node_urls(["redis://…", …])`.
    /// let redlock = Redlock::builder().memory_nodes(5).connect().await?;
    /// let outcome = redlock
    ///     .with_lock("orders:42", AcquireOptions::new(), async |held| {
    ///         // Hand the token to the storage, which refuses lower ones.
    ///         format!("written under token {}", held.token())
    ///     })
    ///     .await?;
    /// assert!(outcome.valid_to_the_end && outcome.release.is_ok());
    /// println!("{}", outcome.value);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn with_lock<R, T, F>(
        &self,
        resource: R,
        options: AcquireOptions,
        work: F,
    ) -> Result<Outcome<T>, Error>
    where
        R: TryInto<Resource, Error: Into<Error>>,
        F: AsyncFnOnce(Held) -> T,
    {
        let resource = resource.try_into().map_err(Into::into)?;
        let (lease, max_hold) = (options.lease, options.max_hold);
        let (grant, cohort) = self.acquire_for(resource, options, true).await?;
        let guard = self.guard(grant, lease, max_hold).with_cohort(cohort);
        let value = work(guard.held()).await;
        let valid_to_the_end = guard.is_valid();
        let release = guard.release().await;
        Ok(Outcome {
            value,
            valid_to_the_end,
            release,
        })
    }
}
