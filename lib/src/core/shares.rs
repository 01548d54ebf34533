//! Who rests on a grant: the call that won it, and those that asked again.
//!
//! A client that loses the answer to its acquire asks again under the same owner
//! id, while the undo of its first call may still be on its way. So one call's
//! undo takes back its own share only, and the lock goes with the last.
//!
//! Invariant: no undo takes a lock that another call, or a later attempt of the
//! same call, was told it holds.

use super::safeguards::Safeguard;
use super::types::CallId;

/// Calls beyond this many pin the grant.
pub(crate) const MAX_SHARES: usize = 4;

/// Which calls rest on a grant, each as of its latest attempt.
#[derive(Clone, Debug)]
pub(crate) enum Shares {
    /// These.
    Of(Vec<CallId>),
    /// More than are worth counting: no undo takes the lock, only release and expiry.
    Pinned,
}

impl Shares {
    pub(crate) fn of(call: CallId) -> Self {
        Self::Of(vec![call])
    }

    /// Whether this call alone rests on the grant, so that it may have it anew.
    pub(crate) fn is_only(&self, call: CallId) -> bool {
        matches!(self, Self::Of(shares) if matches!(&shares[..], [one] if one.is_call_of(call)))
    }

    /// Whether a later attempt of the call rests on the grant: then this one is late.
    pub(crate) fn have_later(&self, call: CallId) -> bool {
        let later = |share: &CallId| share.is_call_of(call) && share.attempt() > call.attempt();
        matches!(self, Self::Of(shares) if shares.iter().any(later))
    }

    /// The call rests on the grant, as of this attempt.
    pub(crate) fn join(&mut self, call: CallId) {
        let Self::Of(shares) = self else { return };
        if let Some(share) = shares.iter_mut().find(|share| share.is_call_of(call)) {
            *share = (*share).max(call);
        } else if shares.len() == MAX_SHARES {
            *self = Self::Pinned;
        } else {
            shares.push(call);
        }
    }

    /// Takes back the call's share, unless a later attempt renewed it. Whether
    /// that was the last one.
    pub(crate) fn leave(&mut self, call: CallId) -> bool {
        if !Safeguard::Shares.is_on() {
            return true;
        }
        let Self::Of(shares) = self else { return false };
        let before = shares.len();
        let renewed = |share: &CallId| {
            share.attempt() > call.attempt() && Safeguard::UndoOfOneAttempt.is_on()
        };
        shares.retain(|share| !share.is_call_of(call) || renewed(share));
        before > 0 && shares.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: CallId = CallId::new(1);
    const B: CallId = CallId::new(2);

    #[test]
    fn the_lock_goes_with_the_last_share() {
        let mut shares = Shares::of(A);
        shares.join(B);
        assert!(!shares.is_only(A) && !shares.is_only(B));
        assert!(!shares.leave(A), "the other call holds it still");
        assert!(shares.is_only(B));
        assert!(shares.leave(B));
        assert!(!shares.leave(B), "there is nothing to take any more");
    }

    #[test]
    fn an_earlier_attempts_undo_leaves_a_later_attempts_share() {
        let mut shares = Shares::of(A);
        shares.join(B);
        shares.join(A.at_attempt(3));
        shares.join(A.at_attempt(2));
        assert!(!shares.leave(B));
        assert!(!shares.leave(A.at_attempt(2)), "the third attempt is later");
        assert!(shares.leave(A.at_attempt(3)));
    }

    #[test]
    fn too_many_calls_pin_the_grant() {
        let mut shares = Shares::of(A);
        for call in 2..=5 {
            shares.join(CallId::new(call));
        }
        assert!((1..=5).all(|call| !shares.leave(CallId::new(call))));
        assert!(matches!(shares, Shares::Pinned));
    }
}
