//! Leases over a quorum of Redis nodes: the token is the quorum's fencing token.
//!
//! Each tenure is a lock of the quorum client under an id of its own, made of the
//! owner and a fresh part: what is still on its way for an earlier tenure can
//! never touch a later one, and a tenure that the same owner left behind (its
//! process was restarted) is told from another owner's, released and followed by a
//! later token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::LeaseError;
use super::backend::{Answer, Backend, Lasts, Won};
use super::keeper::Keeper;
use super::options::{LeaseOptions, bounded};
use super::token::LeaseToken;
use crate::clock::Clock;
use crate::config::{AcquireOptions, MIN_LEASE};
use crate::core::quorum::{Vote, majority};
use crate::core::types::{MAX_OWNER_BYTES, OwnerId, Resource};
use crate::entropy;
use crate::error::{ConfigError, Error};
use crate::redlock::{Grant, Redlock};

/// A lease over a quorum of nodes.
pub type RedlockLease = Keeper<RedlockBackend>;

/// Stands between the owner and the fresh part of a tenure's id.
const MARK: char = '#';
/// A mark and a UUID.
const FRESH_BYTES: usize = 37;
/// The longest owner of a lease over a quorum, in bytes: with the fresh part it is
/// an owner id of the nodes.
pub const MAX_LEASE_OWNER_BYTES: usize = MAX_OWNER_BYTES - FRESH_BYTES;
/// So often an attempt is made again at once, when rivals split the votes or the
/// owner's earlier tenure was in the way.
const MAX_ROUNDS: u32 = 12;
/// Rivals that split the votes try again within this time of one another, and
/// twice of it after each round more, up to sixteen times.
const SPREAD: Duration = Duration::from_millis(4);

impl Redlock {
    /// A lease that is kept by these nodes, under the options' name as the resource.
    ///
    /// The ttl is bounded as leases of locks are, the owner by
    /// [`MAX_LEASE_OWNER_BYTES`](crate::lease::redlock::MAX_LEASE_OWNER_BYTES).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use everlock::Redlock;
    /// use everlock::lease::{Lease, LeaseOptions};
    ///
    /// let redlock = Redlock::builder().memory_nodes(5).connect().await?;
    /// let lease = redlock.lease(LeaseOptions::builder("scheduler", "node-a").build()?)?;
    /// assert!(lease.acquire().await?);
    /// lease.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Must be called within a tokio runtime, which then runs the renewals.
    pub fn lease(&self, options: LeaseOptions) -> Result<RedlockLease, ConfigError> {
        let backend = self.lease_backend(&options)?;
        Ok(Keeper::new(backend, options))
    }

    /// What such a lease asks: to be wrapped, in tests.
    pub fn lease_backend(&self, options: &LeaseOptions) -> Result<RedlockBackend, ConfigError> {
        bounded("owner", options.owner(), MAX_LEASE_OWNER_BYTES)?;
        let max_lease = self.max_lease();
        let longest = max_lease.unwrap_or(crate::core::marker::MAX_MAX_LEASE);
        if !(MIN_LEASE..=longest).contains(&options.ttl()) {
            let ttl = options.ttl();
            return Err(ConfigError::bounds("ttl", ttl, MIN_LEASE, longest));
        }
        Ok(RedlockBackend {
            redlock: self.clone(),
            resource: Resource::new(options.name())?,
            owner: options.owner().into(),
            ttl: options.ttl(),
        })
    }
}

/// One owner's way to one lease over a quorum.
pub struct RedlockBackend {
    redlock: Redlock,
    resource: Resource,
    owner: Arc<str>,
    ttl: Duration,
}

/// Who stands in the way of an acquire.
enum InTheWay {
    /// Another owner, on a quorum of nodes.
    Another,
    /// An earlier tenure of the same owner.
    Ourselves(OwnerId),
    /// Nobody on a quorum: rivals split the votes, or the lock has just been let go.
    Nobody,
    /// So few nodes answered that nobody can say.
    Unknown,
}

impl RedlockBackend {
    /// An owner id for one tenure.
    fn tenure_id(&self) -> OwnerId {
        let entropy = &**self.redlock.entropy();
        let fresh = entropy::uuid_v7(entropy, self.redlock.clock().wall());
        let id = format!("{}{MARK}{fresh}", self.owner);
        OwnerId::new(id).expect("the owner leaves room for the fresh part")
    }

    fn is_ours(&self, id: &str) -> bool {
        let owner = id.rsplit_once(MARK).map(|(owner, _)| owner);
        owner == Some(&*self.owner)
    }

    /// Asks the nodes who holds the lock.
    async fn in_the_way(&self, present: &OwnerId) -> InTheWay {
        let votes = self.redlock.inspect(&self.resource).await;
        let quorum = majority(votes.len());
        let answered = |(_, vote): &&(_, Vote)| !matches!(vote, Vote::Failed(_));
        if votes.iter().filter(answered).count() < quorum {
            return InTheWay::Unknown;
        }
        // What is left of the attempt just made is being undone.
        let other = |owner: &Arc<str>| **owner != *present.as_str();
        let holders: Vec<_> = votes
            .into_iter()
            .filter_map(|(_, vote)| match vote {
                Vote::Holder { owner, .. } => Some(owner).filter(other),
                _ => None,
            })
            .collect();
        let on = |id: &Arc<str>| holders.iter().filter(|other| *other == id).count();
        let anothers = |id: &Arc<str>| !self.is_ours(id) && on(id) >= quorum;
        if holders.iter().any(anothers) {
            return InTheWay::Another;
        }
        let ours = holders.iter().find(|id| self.is_ours(id));
        let ours = ours.and_then(|id| OwnerId::new(Arc::clone(id)).ok());
        ours.map_or(InTheWay::Nobody, InTheWay::Ourselves)
    }

    fn won(&self, grant: Grant) -> Won<RedlockHold> {
        let valid_until = grant.valid_until();
        Won {
            token: Some(LeaseToken::of_numbers(&[grant.token().as_u64()])),
            lasts: Lasts {
                valid_until,
                expires: valid_until + self.redlock.drift().of(self.ttl),
            },
            hold: RedlockHold(grant),
        }
    }

    /// Lets rivals go apart.
    async fn spread(&self, round: u32) {
        let longest = SPREAD * (1 << round.min(4));
        let pause = longest.mul_f64(entropy::roll(&**self.redlock.entropy()));
        tokio::time::sleep(pause).await;
    }
}

/// A tenure: a lock that the quorum granted.
#[derive(Clone, Debug)]
pub struct RedlockHold(Grant);

impl Backend for RedlockBackend {
    type Hold = RedlockHold;

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(self.redlock.clock())
    }

    async fn acquire(&self) -> Answer<RedlockHold> {
        let id = self.tenure_id();
        for round in 0..MAX_ROUNDS {
            let options = AcquireOptions::new()
                .lease(self.ttl)
                .retries(0)
                .owner(id.clone());
            match self.redlock.acquire(&self.resource, options).await {
                Ok(grant) => return Answer::Won(self.won(grant)),
                Err(Error::Contended { .. } | Error::QueueFull { .. }) => {}
                // What it had begun, the client undoes.
                Err(error) => {
                    let (error, maybe) = (unknown(error), None);
                    return Answer::Unknown { error, maybe };
                }
            }
            match self.in_the_way(&id).await {
                InTheWay::Another => return Answer::Held,
                InTheWay::Ourselves(earlier) => {
                    // Whether that worked shows in the next round.
                    let _ = self.redlock.release((&self.resource, &earlier)).await;
                }
                InTheWay::Nobody => self.spread(round).await,
                InTheWay::Unknown => {
                    let error = LeaseError::unavailable("no quorum of nodes says who holds it");
                    return Answer::Unknown { error, maybe: None };
                }
            }
        }
        Answer::Raced
    }

    async fn renew(
        &self,
        hold: &RedlockHold,
        missing: Duration,
    ) -> Result<Option<Lasts>, LeaseError> {
        match self.redlock.extend(&hold.0, missing).await {
            Ok(extension) => Ok(Some(Lasts {
                valid_until: extension.valid_until(),
                expires: extension.expires(),
            })),
            Err(Error::NotHeld { .. } | Error::HeldByAnother { .. }) => Ok(None),
            Err(error) => Err(unknown(error)),
        }
    }

    async fn release(&self, hold: &RedlockHold) -> Result<(), LeaseError> {
        match self.redlock.release(&hold.0).await {
            Ok(()) | Err(Error::NotHeld { .. } | Error::HeldByAnother { .. }) => Ok(()),
            Err(error) => Err(unknown(error)),
        }
    }
}

fn unknown(error: Error) -> LeaseError {
    match error {
        Error::Config(error) => LeaseError::Config(error),
        error => LeaseError::unavailable(error),
    }
}

impl fmt::Debug for RedlockBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedlockBackend")
            .field("redlock", &self.redlock)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
