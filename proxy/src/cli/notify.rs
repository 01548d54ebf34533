//! What a service manager is told: that the proxy serves, and that it is about to end.
//!
//! Without `NOTIFY_SOCKET` nobody asked, and nothing is sent. A manager that does not listen is no
//! reason not to serve.

use sd_notify::NotifyState;

/// The listener is open, and locks are served as soon as a quorum of nodes votes.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The end was asked for.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
