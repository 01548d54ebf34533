//! Waiting for a condition with a deadline, instead of sleeping for a guess.

use std::time::{Duration, Instant};

/// Short enough not to show in a test's duration, long enough to leave the processor to others.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// By then everything that goes on in the background is done, on a slow and busy machine too.
///
/// A test that waits so long has failed; one that passes hardly waits at all. It is less than the
/// leases of tests that look for leftovers, so that no expiry can pass for a clean-up.
pub const SETTLED: Duration = Duration::from_secs(8);

/// Polls `condition` until it is true or `timeout` is over; says whether it became true.
///
/// It is asked at once, and a last time at the deadline. The time is tokio's, so under a paused
/// clock the wait costs nothing, and only conditions of that simulated time make sense.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
///
/// let mut asked = 0;
/// let came_true = everlock_testkit::eventually(Duration::from_secs(1), || {
///     asked += 1;
///     let enough = asked == 3;
///     async move { enough }
/// });
/// assert!(came_true.await);
/// # }
/// ```
pub async fn eventually<F>(timeout: Duration, mut condition: impl FnMut() -> F) -> bool
where
    F: Future<Output = bool>,
{
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        let last = tokio::time::Instant::now() >= deadline;
        if condition().await {
            return true;
        }
        if last {
            return false;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// The same for code that blocks: polls `attempt` until it answers something.
///
/// It reads the system's clock, since a paused clock of tokio would never reach the deadline.
#[allow(
    clippy::disallowed_methods,
    reason = "waits for real processes, outside of any runtime"
)]
pub(crate) fn poll<T>(timeout: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let last = started.elapsed() >= timeout;
        match attempt() {
            Some(outcome) => return Some(outcome),
            None if last => return None,
            None => std::thread::sleep(POLL_EVERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_stays_false_ends_at_the_deadline() {
        let started = tokio::time::Instant::now();
        assert!(!eventually(Duration::from_millis(30), || async { false }).await);
        assert!(started.elapsed() >= Duration::from_millis(30));
    }

    #[tokio::test]
    async fn a_condition_that_holds_is_asked_once() {
        let mut asked = 0;
        let came_true = eventually(Duration::ZERO, || {
            asked += 1;
            async { true }
        });
        assert!(came_true.await);
        assert_eq!(asked, 1);
    }
}
