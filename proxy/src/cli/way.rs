//! How a command of this machine reaches its locks: on the nodes themselves, or through a proxy.
//!
//! Both ways keep one promise: what [`Won`] and [`Way::extend`] tell counts from before the request
//! was sent, on the clock that goes on while the machine is suspended. Renewal, deadlines and what
//! is done about a loss are not theirs.

mod args;
mod nodes;
mod proxy;

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use everlock::clock::Moment;
use everlock::protocol::SHORTEST_DELAY;
use everlock::{Grant, OwnerId};

pub(super) use self::args::{Chosen, WayArgs, optional_nodes};
use self::nodes::Nodes;
use self::proxy::Proxy;

/// Done.
pub(super) const DONE: u8 = 0;
/// It could not be done: nobody answers, or the answer was no.
pub(super) const FAILED: u8 = 1;
/// The command line, or a value in it, was not understood.
pub(super) const MISUSED: u8 = 2;
/// Others held the lock until the wait was over: `EX_TEMPFAIL` of sysexits.h, try again later.
pub(super) const HELD_BY_OTHERS: u8 = 75;
/// The lock is not held any more, or never was.
pub(super) const NOT_HELD: u8 = 76;

/// Which lock, and under which id.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    pub(super) key: String,
    pub(super) uuid: OwnerId,
}

/// What an acquire asks for, within its bounds.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) lease: Duration,
    /// How long to try while others hold it; without end if there is none.
    pub(super) wait: Option<Duration>,
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) fifo: bool,
    /// For how long it is borne that nobody answers.
    pub(super) patience: Duration,
}

/// A lock that was acquired.
#[derive(Debug)]
pub(super) struct Won {
    /// The fencing token, where the service has them.
    pub(super) token: Option<u64>,
    pub(super) valid_until: Moment,
    pub(super) attempts: u32,
    pub(super) hold: Hold,
}

/// A lock to extend and to release: as it was granted, where that is known.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) lock: Lock,
    grant: Option<Grant>,
}

impl Hold {
    pub(super) const fn named(lock: Lock) -> Self {
        Self { lock, grant: None }
    }
}

/// Why something was not done; each has an exit code of its own.
#[derive(Debug)]
pub(super) enum Failure {
    /// Others held it until the wait was over.
    Held {
        why: String,
        retry_after: Option<Duration>,
        position: Option<u32>,
        attempts: u32,
    },
    /// It is not held, or held under another id.
    NotHeld(String),
    /// Nobody answers, or refuses for good. What was asked may have been done.
    Unavailable(String),
    /// What was asked for is out of bounds.
    Misused(String),
}

impl Failure {
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Held { .. } => HELD_BY_OTHERS,
            Self::NotHeld(_) => NOT_HELD,
            Self::Unavailable(_) => FAILED,
            Self::Misused(_) => MISUSED,
        }
    }

    /// Says why, and gives the exit code.
    pub(super) fn told(&self) -> ExitCode {
        super::complain(self);
        ExitCode::from(self.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { why, .. }
            | Self::NotHeld(why)
            | Self::Unavailable(why)
            | Self::Misused(why) => f.write_str(why),
        }
    }
}

/// One of both ways.
pub(super) enum Way {
    Nodes(Nodes),
    Proxy(Box<Proxy>),
}

impl Way {
    /// Acquires the lock. Whoever drops the future calls [`Way::abandon`].
    pub(super) async fn acquire(&self, lock: &Lock, wanted: &Wanted) -> Result<Won, Failure> {
        let mut wanted = wanted.clone();
        wanted.delay = wanted.delay.max(SHORTEST_DELAY);
        match self {
            Self::Nodes(nodes) => nodes.acquire(lock, &wanted).await,
            Self::Proxy(proxy) => proxy.acquire(lock, &wanted).await,
        }
    }

    /// Adds to the lease, and says until when the lock may be relied on. The answer is awaited for
    /// `within` at most.
    pub(super) async fn extend(
        &self,
        hold: &Hold,
        by: Duration,
        within: Duration,
    ) -> Result<Moment, Failure> {
        match self {
            Self::Nodes(nodes) => nodes.extend(hold, by).await,
            Self::Proxy(proxy) => proxy.extend(&hold.lock, by, within).await,
        }
    }

    pub(super) async fn release(&self, hold: &Hold) -> Result<(), Failure> {
        match self {
            Self::Nodes(nodes) => nodes.release(hold).await,
            Self::Proxy(proxy) => proxy.release(&hold.lock).await,
        }
    }

    /// After an acquire that was given up, or whose outcome is not known: sees to it, for a short
    /// time, that nothing is left of it.
    pub(super) async fn abandon(&self, lock: &Lock) {
        match self {
            Self::Nodes(nodes) => nodes.settle(lock).await,
            Self::Proxy(proxy) => proxy.abandon(lock).await,
        }
    }

    /// How many stand in line, where that can be told.
    pub(super) async fn queue(&self, key: &str) -> Option<u32> {
        match self {
            Self::Nodes(nodes) => nodes.queue(key).await,
            Self::Proxy(_) => None,
        }
    }
}
