//! Who was in the section, and under which token.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Nobody is ever in the section beside another, and tokens rise.
#[derive(Debug, Default)]
pub struct Witness {
    inside: AtomicUsize,
    last_token: AtomicU64,
}

impl Witness {
    /// Enters and leaves the section. Lockers without tokens say `None`.
    ///
    /// # Panics
    ///
    /// When somebody else is inside, or the token is not above the last one.
    pub async fn section(&self, token: Option<u64>, hold: Duration) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst);
        assert_eq!(inside, 0, "two holders at once");
        if let Some(token) = token {
            let last = self.last_token.swap(token, Ordering::SeqCst);
            assert!(token > last, "token {token} after {last}");
        }
        if !hold.is_zero() {
            tokio::time::sleep(hold).await;
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}
