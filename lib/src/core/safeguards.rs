//! What the protocol's promises rest on, each with a switch for tests.
//!
//! A mechanism that nothing notices the absence of is not tested. So the place
//! where each decides asks [`Safeguard::is_on`]: the constant `true` in a
//! library that is built for use. Under the feature `test-util` a test may
//! switch one off, for its own thread, and the very code that runs in
//! production does without it.

#![cfg_attr(
    not(feature = "test-util"),
    allow(
        unreachable_pub,
        clippy::unused_self,
        reason = "only tests name them, and only there is there a switch to look at"
    )
)]

/// A mechanism that a promise rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safeguard {
    /// Something is taken off every lease, since clocks differ.
    DriftMargin,
    /// Too little validity left is no acquisition, whoever granted.
    ValidityCheck,
    /// A node that may have forgotten grants waits for the longest lease.
    RestartGuard,
    /// Votes count together only if the nodes' clocks agree.
    ClockGuard,
    /// A node grants nothing at or below its floor.
    FloorTest,
    /// What was lost or given up is undone.
    Undo,
    /// An undo lifts the floor, so that the attempt can't arrive later.
    UndoLiftsFloor,
    /// Nobody is granted the lock under a token that is reserved for another's successors.
    ReservedTokens,
    /// A lock that was handed on counts only if enough of it is left when that is read.
    HandedOnInTime,
    /// An undo takes back its own call's share of a grant.
    Shares,
    /// An undo leaves a later attempt of its own call.
    UndoOfOneAttempt,
    /// A release settles the nodes that did not delete the lock.
    Settle,
    /// A node is repaired under the confirmed token, which its floor may refuse.
    RepairFloorTest,
    /// A release that a quorum of nodes did not answer is no release.
    ReleaseCountsUnknown,
    /// A ticket at or below the ticket floor enters no line.
    TicketFloorTest,
    /// Only the lowest ticket of a line is granted the lock.
    LowestTicketFirst,
    /// A ticket stays in line when its owner is granted the lock.
    GrantKeepsTicket,
    /// Only a ticket that a quorum accepted enters where it is too low.
    TicketQuorum,
}

#[cfg(not(feature = "test-util"))]
impl Safeguard {
    pub(crate) const fn is_on(self) -> bool {
        true
    }
}

#[cfg(feature = "test-util")]
pub use switches::SwitchedOff;

#[cfg(feature = "test-util")]
mod switches {
    use super::Safeguard;
    use std::cell::Cell;
    use std::marker::PhantomData;

    thread_local! {
        /// One bit for each safeguard that is switched off on this thread.
        static OFF: Cell<u32> = const { Cell::new(0) };
    }

    impl Safeguard {
        /// All of them.
        pub const ALL: [Self; 18] = [
            Self::DriftMargin,
            Self::ValidityCheck,
            Self::RestartGuard,
            Self::ClockGuard,
            Self::FloorTest,
            Self::Undo,
            Self::UndoLiftsFloor,
            Self::ReservedTokens,
            Self::HandedOnInTime,
            Self::Shares,
            Self::UndoOfOneAttempt,
            Self::Settle,
            Self::RepairFloorTest,
            Self::ReleaseCountsUnknown,
            Self::TicketFloorTest,
            Self::LowestTicketFirst,
            Self::GrantKeepsTicket,
            Self::TicketQuorum,
        ];

        pub(crate) fn is_on(self) -> bool {
            OFF.get() & self.bit() == 0
        }

        /// Switches it off for this thread, until what is returned is dropped.
        #[must_use]
        pub fn switch_off(self) -> SwitchedOff {
            let before = OFF.get();
            OFF.set(before | self.bit());
            SwitchedOff {
                before,
                thread: PhantomData,
            }
        }

        const fn bit(self) -> u32 {
            1 << self as u32
        }
    }

    /// A safeguard that is switched off on this thread while this lives.
    #[derive(Debug)]
    pub struct SwitchedOff {
        before: u32,
        /// Not to be taken to another thread.
        thread: PhantomData<*const ()>,
    }

    impl Drop for SwitchedOff {
        fn drop(&mut self) {
            OFF.set(self.before);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn one_is_off_for_as_long_as_its_handle_lives_and_on_this_thread_only() {
            let off = Safeguard::Undo.switch_off();
            assert!(!Safeguard::Undo.is_on() && Safeguard::Settle.is_on());
            let elsewhere = std::thread::spawn(|| Safeguard::Undo.is_on());
            assert!(elsewhere.join().unwrap());
            drop(off);
            assert!(Safeguard::ALL.into_iter().all(Safeguard::is_on));
        }
    }
}
