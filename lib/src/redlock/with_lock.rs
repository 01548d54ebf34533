//! Running a piece of work under a lock.

use std::sync::Arc;

use super::{Grant, Holding, Inner, Redlock};
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
    /// Acquires the lock, runs the work with the grant, and releases the lock.
    ///
    /// The lock is released also if the work panics or the future is dropped, in
    /// the background then. It is not renewed: choose the lease for the work, or
    /// extend it from within.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use everlock::{AcquireOptions, Redlock};
    ///
    /// // In-memory nodes; in production `.node_urls(["redis://…", …])`.
    /// let redlock = Redlock::builder().memory_nodes(5).connect().await?;
    /// let outcome = redlock
    ///     .with_lock("orders:42", AcquireOptions::new(), async |grant| {
    ///         // Hand the token to the storage, which refuses lower ones.
    ///         format!("written under token {}", grant.token())
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
        F: AsyncFnOnce(Grant) -> T,
    {
        let grant = self.acquire(resource, options).await?;
        let mut leaving = ReleaseOnDrop {
            inner: &self.inner,
            held: Some(Holding::from(&grant)),
        };
        let value = work(grant.clone()).await;
        let valid_to_the_end = grant.is_valid();
        let release = self.release(&grant).await;
        // The release was sent to all nodes; from here on it takes its own course.
        leaving.held = None;
        Ok(Outcome {
            value,
            valid_to_the_end,
            release,
        })
    }
}

/// Releases in the background what nobody released.
struct ReleaseOnDrop<'a> {
    inner: &'a Arc<Inner>,
    held: Option<Holding>,
}

impl Drop for ReleaseOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            self.inner.let_go(held);
        }
    }
}
