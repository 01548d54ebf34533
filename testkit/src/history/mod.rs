//! What clients were told, and when: the history that the checker judges.
//!
//! All times are true ones, in microseconds, whatever clocks the clients go by.

mod checker;
mod turns;

use std::collections::HashMap;
use std::fmt;

pub use checker::{Violation, judge};
pub use turns::{Order, Overtaking, Stood, Turn, Waiter, judge_order};

/// One client was told that it may rely on a lock for a while: by an acquire, or
/// by an extension, which is a hold of its own under the same token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who was told; only shown.
    pub client: usize,
    /// Which lock.
    pub resource: usize,
    /// Under which owner id.
    pub owner: String,
    /// The fencing token.
    pub token: u64,
    /// When the request began.
    pub asked: u64,
    /// When it was answered.
    pub acquired: u64,
    /// Until when the client was told that it may rely on the lock.
    pub valid_until: u64,
    /// When its owner began to release it.
    pub released: Option<u64>,
}

impl Hold {
    /// When it ends: by its validity or by the release.
    pub fn end(&self) -> u64 {
        let released = self.released.unwrap_or(u64::MAX);
        self.valid_until.min(released)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, end) = (self.acquired, self.end());
        write!(
            f,
            "client {} as {} holds r{} from {from} to {end} (asked {}) under {}",
            self.client, self.owner, self.resource, self.asked, self.token
        )
    }
}

#[derive(Debug)]
struct Release {
    /// Grants up to this one are given up.
    token: u64,
    at: u64,
}

/// Everything that clients were told and did.
#[derive(Debug, Default)]
pub struct History {
    holds: Vec<Hold>,
    /// By resource and owner.
    releases: HashMap<(usize, String), Vec<Release>>,
}

impl History {
    /// A client was told that it holds.
    pub fn held(&mut self, hold: Hold) {
        self.holds.push(hold);
    }

    /// The owner begins to give up its grants up to this token; one that another
    /// of its calls is told of later is given up with them.
    pub fn released(&mut self, resource: usize, owner: &str, token: u64, at: u64) {
        let of_owner = self.releases.entry((resource, owner.to_owned()));
        of_owner.or_default().push(Release { token, at });
    }

    /// The holds, each with its end.
    pub fn holds(&self) -> Vec<Hold> {
        let ended = |hold: &Hold| {
            let of_owner = self.releases.get(&(hold.resource, hold.owner.clone()));
            let of_hold = of_owner
                .into_iter()
                .flatten()
                .filter(|release| release.token >= hold.token);
            let released = of_hold.map(|release| release.at).min();
            Hold {
                released,
                ..hold.clone()
            }
        };
        self.holds.iter().map(ended).collect()
    }
}
