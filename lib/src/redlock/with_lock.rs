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
    /// How the release ended.
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
        let guard = self.lock(resource, options).await?;
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
