//! What the nodes' answers to a release and to an extension add up to.
//!
//! Both are functions of four counts. While nodes have not answered, an outcome
//! is settled only if it is the same whatever they may still say: that is
//! computed by trying everything they may say, so early return cannot differ
//! from waiting.

use std::time::Duration;

use super::quorum::{Vote, majority};
use super::safeguards::Safeguard;
use super::token::FencingToken;

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseOutcome {
    /// It may have been held, and cannot be any longer.
    Released,
    /// So few nodes answered that it may still be held.
    Unavailable,
    /// A majority knows another owner.
    HeldByAnother,
    /// Nobody held it under this owner.
    NotHeld,
}

/// How an extension ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtendOutcome {
    /// A majority confirmed.
    Extended,
    /// A majority may have it, but did not say so.
    Unavailable,
    /// A majority knows another owner.
    HeldByAnother,
    /// Nobody holds it under this owner.
    NotHeld,
}

/// How many nodes said what. `unknown` counts nodes that failed or may not vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Did what was asked.
    pub done: usize,
    /// Know the lock under another owner.
    pub other: usize,
    /// Know no lock.
    pub absent: usize,
    /// Did not say.
    pub unknown: usize,
    /// May still answer.
    pub pending: usize,
}

impl Counts {
    /// Counts the answers; `None` stands for a node that may still answer.
    pub fn of<'a>(votes: impl IntoIterator<Item = Option<&'a Vote>>) -> Self {
        let mut counts = Self::default();
        for vote in votes {
            *match vote {
                None => &mut counts.pending,
                Some(Vote::Released { .. } | Vote::Extended { .. }) => &mut counts.done,
                Some(Vote::Held { .. }) => &mut counts.other,
                // Released under an older grant: that one is over.
                Some(Vote::Absent | Vote::Newer { .. }) => &mut counts.absent,
                Some(_) => &mut counts.unknown,
            } += 1;
        }
        counts
    }

    const fn nodes(self) -> usize {
        self.done + self.other + self.absent + self.unknown + self.pending
    }

    fn final_release(self) -> ReleaseOutcome {
        let quorum = majority(self.nodes());
        if self.unknown >= quorum && Safeguard::ReleaseCountsUnknown.is_on() {
            ReleaseOutcome::Unavailable
        } else if self.done >= 1 && self.done + self.unknown >= quorum {
            ReleaseOutcome::Released
        } else if self.other >= quorum {
            ReleaseOutcome::HeldByAnother
        } else {
            ReleaseOutcome::NotHeld
        }
    }

    fn final_extend(self) -> ExtendOutcome {
        let quorum = majority(self.nodes());
        if self.done >= quorum {
            ExtendOutcome::Extended
        } else if self.done + self.unknown >= quorum {
            ExtendOutcome::Unavailable
        } else if self.other >= quorum {
            ExtendOutcome::HeldByAnother
        } else {
            ExtendOutcome::NotHeld
        }
    }

    /// The release's outcome, once nothing that is pending can change it.
    #[must_use]
    pub fn release(self) -> Option<ReleaseOutcome> {
        self.settled(Self::final_release)
    }

    /// The extension's outcome, once nothing that is pending can change it.
    #[must_use]
    pub fn extend(self) -> Option<ExtendOutcome> {
        self.settled(Self::final_extend)
    }

    fn settled<T: PartialEq + Copy>(self, outcome: fn(Self) -> T) -> Option<T> {
        let mut settled = None;
        for done in 0..=self.pending {
            for other in 0..=self.pending - done {
                for absent in 0..=self.pending - done - other {
                    let imagined = outcome(Self {
                        done: self.done + done,
                        other: self.other + other,
                        absent: self.absent + absent,
                        unknown: self.unknown + self.pending - done - other - absent,
                        pending: 0,
                    });
                    if *settled.get_or_insert(imagined) != imagined {
                        return None;
                    }
                }
            }
        }
        settled
    }
}

/// The answers to an extension that are about one and the same grant.
///
/// An owner may have grants of several calls on the nodes. Only those of one
/// count together; a grant of another is as good as another holder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grantees {
    token: Option<FencingToken>,
}

impl Grantees {
    /// Those of `known`, or, where that is not known, of the grant that most nodes confirmed.
    pub(crate) fn of<'a>(
        known: Option<FencingToken>,
        votes: impl IntoIterator<Item = Option<&'a Vote>>,
    ) -> Self {
        let confirmed: Vec<_> = votes
            .into_iter()
            .filter_map(|vote| match vote {
                Some(Vote::Extended { token, .. }) => Some(*token),
                _ => None,
            })
            .collect();
        let count = |of| confirmed.iter().filter(|token| **token == of).count();
        let most = confirmed.iter().copied().max_by_key(|token| count(*token));
        Self {
            token: known.or(most.flatten()),
        }
    }

    /// The grant's token; `None` if another client set the lock.
    #[must_use]
    pub(crate) const fn token(self) -> Option<FencingToken> {
        self.token
    }

    fn confirms(self, vote: &Vote) -> Option<Duration> {
        match vote {
            Vote::Extended { token, remaining } if *token == self.token => Some(*remaining),
            _ => None,
        }
    }

    /// Counts the answers.
    pub(crate) fn counts<'a>(self, votes: impl IntoIterator<Item = Option<&'a Vote>>) -> Counts {
        let mut counts = Counts::default();
        for vote in votes {
            let one = match vote {
                Some(vote @ Vote::Extended { .. }) if self.confirms(vote).is_none() => Counts {
                    other: 1,
                    ..Counts::default()
                },
                vote => Counts::of([vote]),
            };
            counts = Counts {
                done: counts.done + one.done,
                other: counts.other + one.other,
                absent: counts.absent + one.absent,
                unknown: counts.unknown + one.unknown,
                pending: counts.pending + one.pending,
            };
        }
        counts
    }

    /// For how long a quorum of so many nodes confirmed the lock: the quorum-th
    /// longest of the confirmed times.
    #[must_use]
    pub(crate) fn confirmed_for<'a>(
        self,
        votes: impl IntoIterator<Item = Option<&'a Vote>>,
        nodes: usize,
    ) -> Option<Duration> {
        let mut confirmed: Vec<_> = votes
            .into_iter()
            .flatten()
            .filter_map(|vote| self.confirms(vote))
            .collect();
        confirmed.sort_unstable_by(|a, b| b.cmp(a));
        confirmed.get(majority(nodes) - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way in which `nodes` nodes can be spread over the five counts.
    fn every(nodes: usize) -> impl Iterator<Item = Counts> {
        let up_to = move |n: usize| 0..=n;
        up_to(nodes).flat_map(move |done| {
            up_to(nodes - done).flat_map(move |other| {
                up_to(nodes - done - other).flat_map(move |absent| {
                    up_to(nodes - done - other - absent).map(move |unknown| Counts {
                        done,
                        other,
                        absent,
                        unknown,
                        pending: nodes - done - other - absent - unknown,
                    })
                })
            })
        })
    }

    #[test]
    fn a_release_is_never_called_done_while_a_quorum_may_still_hold() {
        for nodes in 1..=7 {
            for counts in every(nodes) {
                if counts.release() == Some(ReleaseOutcome::Released) {
                    let may_still_hold = counts.unknown + counts.pending;
                    let quorum = majority(nodes);
                    assert!(
                        may_still_hold < quorum || counts.done + may_still_hold > nodes - quorum
                    );
                    assert!(counts.unknown < quorum, "{counts:?}");
                }
            }
        }
    }

    #[test]
    fn an_extension_needs_a_quorum_of_the_configured_nodes() {
        for nodes in 1..=7 {
            for counts in every(nodes) {
                let extended = counts.extend() == Some(ExtendOutcome::Extended);
                assert_eq!(extended, counts.done >= majority(nodes), "{counts:?}");
            }
        }
    }

    #[test]
    fn an_early_outcome_is_the_one_that_waiting_would_have_given() {
        for nodes in 1..=5 {
            for counts in every(nodes).filter(|counts| counts.pending > 0) {
                for next in [
                    Counts {
                        done: counts.done + 1,
                        ..counts
                    },
                    Counts {
                        other: counts.other + 1,
                        ..counts
                    },
                    Counts {
                        absent: counts.absent + 1,
                        ..counts
                    },
                    Counts {
                        unknown: counts.unknown + 1,
                        ..counts
                    },
                ] {
                    let next = Counts {
                        pending: counts.pending - 1,
                        ..next
                    };
                    if let Some(early) = counts.release() {
                        assert_eq!(next.release(), Some(early), "{counts:?} then {next:?}");
                    }
                    if let Some(early) = counts.extend() {
                        assert_eq!(next.extend(), Some(early), "{counts:?} then {next:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn three_of_five_gone_leaves_both_undecided_not_denied() {
        let counts = Counts {
            done: 2,
            unknown: 3,
            ..Counts::default()
        };
        assert_eq!(counts.release(), Some(ReleaseOutcome::Unavailable));
        assert_eq!(counts.extend(), Some(ExtendOutcome::Unavailable));
    }

    fn extended(token: u64, millis: u64) -> Vote {
        let remaining = Duration::from_millis(millis);
        Vote::Extended {
            token: Some(FencingToken::new(token)),
            remaining,
        }
    }

    #[test]
    fn a_quorum_relies_on_its_shortest_member() {
        let votes = [
            Some(extended(7, 900)),
            None,
            Some(extended(7, 100)),
            Some(extended(7, 500)),
            Some(extended(7, 700)),
        ];
        let all = Grantees::of(None, votes.iter().map(Option::as_ref));
        assert_eq!(
            all.confirmed_for(votes.iter().map(Option::as_ref), 5),
            Some(Duration::from_millis(500))
        );
        let few = [
            Some(extended(7, 900)),
            None,
            Some(extended(7, 100)),
            None,
            None,
        ];
        assert_eq!(all.confirmed_for(few.iter().map(Option::as_ref), 5), None);
    }

    #[test]
    fn grants_of_other_calls_do_not_count() {
        let votes = [
            Some(extended(7, 900)),
            Some(extended(8, 900)),
            Some(Vote::Absent),
        ];
        let ours = Grantees::of(Some(FencingToken::new(7)), votes.iter().map(Option::as_ref));
        let counts = ours.counts(votes.iter().map(Option::as_ref));
        assert_eq!((counts.done, counts.other, counts.absent), (1, 1, 1));
        assert_eq!(counts.extend(), Some(ExtendOutcome::NotHeld));
        let votes = [
            Some(extended(7, 900)),
            Some(extended(8, 900)),
            Some(extended(8, 800)),
        ];
        let most = Grantees::of(None, votes.iter().map(Option::as_ref));
        assert_eq!(most.token(), Some(FencingToken::new(8)));
        assert_eq!(
            most.confirmed_for(votes.iter().map(Option::as_ref), 3),
            Some(Duration::from_millis(800))
        );
    }
}
