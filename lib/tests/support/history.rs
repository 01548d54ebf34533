//! What clients were told, and when: the history that the checker judges.
//!
//! All times are true ones, in microseconds, whatever clocks the clients go by.

#![allow(dead_code, reason = "every test file uses its own part of it")]

use std::fmt;

/// One client was told that it may rely on a lock for a while: by an acquire, or
/// by an extension, which is a hold of its own under the same token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) client: usize,
    pub(crate) resource: usize,
    pub(crate) owner: String,
    pub(crate) token: u64,
    /// When the request began.
    pub(crate) asked: u64,
    /// When it was answered.
    pub(crate) acquired: u64,
    /// Until when the client was told that it may rely on the lock.
    pub(crate) valid_until: u64,
    /// When its owner began to release it.
    pub(crate) released: Option<u64>,
}

impl Hold {
    /// When it ends: by its validity or by the release.
    pub(crate) fn end(&self) -> u64 {
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

struct Release {
    resource: usize,
    owner: String,
    /// Grants up to this one are given up.
    token: u64,
    at: u64,
}

/// Everything that clients were told and did.
#[derive(Default)]
pub(crate) struct History {
    holds: Vec<Hold>,
    releases: Vec<Release>,
}

impl History {
    pub(crate) fn held(&mut self, hold: Hold) {
        self.holds.push(hold);
    }

    /// The owner begins to give up its grants up to this token; one that another
    /// of its calls is told of later is given up with them.
    pub(crate) fn released(&mut self, resource: usize, owner: &str, token: u64, at: u64) {
        self.releases.push(Release {
            resource,
            owner: owner.to_owned(),
            token,
            at,
        });
    }

    /// The holds, each with its end.
    pub(crate) fn holds(&self) -> Vec<Hold> {
        let ended = |hold: &Hold| {
            let of_hold = self.releases.iter().filter(|release| {
                release.resource == hold.resource
                    && release.owner == hold.owner
                    && release.token >= hold.token
            });
            let released = of_hold.map(|release| release.at).min();
            Hold {
                released,
                ..hold.clone()
            }
        };
        self.holds.iter().map(ended).collect()
    }
}
