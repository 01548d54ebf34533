//! One node for one resource, small enough to be explored: the rules of
//! `lib/src/core/register.rs` without a clock.
//!
//! Time is left out: the node's clock stands still, and that a lease ends is a
//! step of the model. `tests/register.rs` holds this node to the real `Register`
//! in every state that it can reach.

/// The most extensions of one lease: further ones change nothing (the maximum lease).
pub const LONGEST: u8 = 2;
const MAX_SHARES: usize = 4;

/// A token, tiny; zero is below all.
pub type Token = u8;

/// Which mechanisms are on. All are, except where a test wants to see what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, and every combination means something"
)]
pub struct Rules {
    /// A token at or below the floor is *stale*.
    pub floor_test: bool,
    /// Undo lifts the floor to its token.
    pub undo_lifts: bool,
    /// No floor is lifted beyond what may be granted.
    pub lifts_bounded: bool,
    /// What an undo takes.
    pub undo: Undoing,
    /// A node that lost its data is guarded.
    pub guard: bool,
    /// A guarded node does not grant.
    pub guarded_grants_nothing: bool,
    /// A repair stands acquire's floor test.
    pub repair_floor_test: bool,
    /// A release settles the nodes that did not delete.
    pub settle: bool,
    /// Calls that ask again share the grant.
    pub shares: bool,
    /// What is reserved with a grant nobody else is granted.
    pub reserves: bool,
    /// A lock is handed on to those alone who had asked before its grant was.
    pub cohort: bool,
}

/// What an undo takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undoing {
    /// The call's share as of its attempt: the rule.
    Attempt,
    /// The call's share, whichever attempt it is of.
    Call,
    /// Whatever the owner holds under that token or an older one, by whatever call.
    Token,
    /// Whatever the owner holds.
    Owner,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            floor_test: true,
            undo_lifts: true,
            lifts_bounded: true,
            undo: Undoing::Attempt,
            guard: true,
            guarded_grants_nothing: true,
            repair_floor_test: true,
            settle: true,
            shares: true,
            reserves: true,
            cohort: true,
        }
    }
}

/// A call and its attempt, in one byte that is never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call(u8);

impl Call {
    /// Attempt `attempt`, 1 to 7, of call `call`, 0 to 30.
    pub const fn new(call: u8, attempt: u8) -> Self {
        Self(call << 3 | attempt)
    }

    /// The call's number.
    pub const fn call(self) -> u8 {
        self.0 >> 3
    }

    /// The attempt's number.
    pub const fn attempt(self) -> u8 {
        self.0 & 7
    }

    const fn is_of(self, other: Self) -> bool {
        self.call() == other.call()
    }
}

/// The calls that rest on a grant, in descending order; all bits set when pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shares([Call; MAX_SHARES]);

const PINNED: Shares = Shares([Call(u8::MAX); MAX_SHARES]);
const NOBODY: Call = Call(0);

impl Shares {
    fn of(call: Call) -> Self {
        let mut shares = Self::default();
        shares.0[0] = call;
        shares
    }

    /// Whether the call rests on the grant, as of this very attempt.
    pub fn have(self, call: Call) -> bool {
        self == PINNED || self.0.contains(&call)
    }

    fn is_only(self, call: Call) -> bool {
        self != PINNED && self.0[0].is_of(call) && self.0[0] != NOBODY && self.0[1] == NOBODY
    }

    fn have_later(self, call: Call) -> bool {
        let later = |one: &Call| *one != NOBODY && one.is_of(call) && *one > call;
        self != PINNED && self.0.iter().any(later)
    }

    fn join(&mut self, call: Call) {
        if *self == PINNED {
            return;
        }
        let own = |one: &&mut Call| **one != NOBODY && one.is_of(call);
        if let Some(share) = self.0.iter_mut().find(own) {
            *share = (*share).max(call);
        } else if let Some(free) = self.0.iter_mut().find(|one| **one == NOBODY) {
            *free = call;
        } else {
            *self = PINNED;
        }
        self.0.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Takes back the call's share. Whether it was the last.
    fn leave(&mut self, call: Call, later_too: bool) -> bool {
        if *self == PINNED || *self == Self::default() {
            return false;
        }
        for share in &mut self.0 {
            if *share != NOBODY && share.is_of(call) && (later_too || *share <= call) {
                *share = NOBODY;
            }
        }
        self.0.sort_unstable_by(|a, b| b.cmp(a));
        *self == Self::default()
    }
}

/// A lock and the grant under which it is held; owner 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lock {
    /// Who holds it; zero if nobody does.
    pub owner: u8,
    /// Under which token.
    pub token: Token,
    /// How often the lease was extended.
    pub lease: u8,
    /// Which calls rest on it.
    pub shares: Shares,
}

/// A node's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The lock.
    pub lock: Lock,
    /// The floor.
    pub floor: Token,
    /// Whether the node may not vote.
    pub guarded: bool,
}

/// What a node is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Acquire, or repair: acquire under an old token for an extended lease.
    Acquire {
        /// Who asks.
        owner: u8,
        /// By which call.
        call: Call,
        /// The proposed token.
        token: Token,
        /// So many tokens above it are reserved.
        reserve: u8,
        /// How long the lease is, in extensions.
        lease: u8,
        /// Whether this repairs.
        repair: bool,
    },
    /// Extend.
    Extend {
        /// Who holds it.
        owner: u8,
    },
    /// Release.
    Release {
        /// Who holds it.
        owner: u8,
        /// Up to which grant.
        token: Token,
    },
    /// Undo one attempt.
    Undo {
        /// Who asked.
        owner: u8,
        /// The attempt.
        call: Call,
        /// What it proposed.
        token: Token,
    },
    /// See that a released grant is gone and stays so.
    Settle {
        /// Who held it.
        owner: u8,
        /// The released grant.
        token: Token,
    },
}

/// What a node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// Granted under the proposed token.
    Granted,
    /// Granted before, under this token, to another call of the owner.
    Again(Token),
    /// Another owner holds it.
    Held,
    /// Not above this floor.
    Stale(Token),
    /// Further ahead than any lease.
    Ahead,
    /// May not vote.
    Guarded,
    /// Held under this token, and extended to that many extensions.
    Extended(Token, u8),
    /// Was held under this token, and is not any more.
    Released(Token),
    /// Held under this higher token.
    Newer(Token),
    /// Not held.
    Absent,
    /// Undone; whether the lock went with it.
    Undone(bool),
    /// Settled; whether the lock went with it.
    Settled(bool),
}

impl Node {
    /// One step. Tokens above `limit` lie further ahead than any lease.
    pub fn apply(&mut self, rules: &Rules, limit: Token, command: Command) -> Vote {
        match command {
            Command::Acquire { .. } | Command::Extend { .. }
                if self.guarded && rules.guarded_grants_nothing =>
            {
                Vote::Guarded
            }
            Command::Acquire {
                owner,
                call,
                token,
                reserve,
                lease,
                repair,
            } => {
                if self.lock.owner != 0 && self.lock.owner != owner {
                    return Vote::Held;
                }
                let tested = rules.floor_test && (rules.repair_floor_test || !repair);
                if tested && token <= self.floor {
                    return Vote::Stale(self.floor);
                }
                let last = token + reserve;
                if last > limit {
                    return Vote::Ahead;
                }
                let vote = self.grant(rules, owner, call, token, lease);
                if vote == Vote::Granted && rules.reserves {
                    self.floor = self.floor.max(last);
                }
                vote
            }
            Command::Extend { owner } => match self.lock.owner {
                0 => Vote::Absent,
                holder if holder != owner => Vote::Held,
                _ => {
                    self.lock.lease = (self.lock.lease + 1).min(LONGEST);
                    Vote::Extended(self.lock.token, self.lock.lease)
                }
            },
            Command::Release { owner, token } => match self.lock.owner {
                0 => Vote::Absent,
                holder if holder != owner => Vote::Held,
                _ if self.lock.token > token => Vote::Newer(self.lock.token),
                _ => Vote::Released(std::mem::take(&mut self.lock).token),
            },
            Command::Undo { owner, call, token } => {
                let deleted = self.lock.owner == owner
                    && match rules.undo {
                        Undoing::Attempt => self.lock.shares.leave(call, false),
                        Undoing::Call => self.lock.shares.leave(call, true),
                        Undoing::Token => self.lock.token <= token,
                        Undoing::Owner => true,
                    };
                self.let_go(rules, limit, rules.undo_lifts.then_some(token), deleted);
                Vote::Undone(deleted)
            }
            Command::Settle { owner, token } => {
                let deleted = self.lock.owner == owner && self.lock.token <= token;
                self.let_go(rules, limit, Some(token), deleted);
                Vote::Settled(deleted)
            }
        }
    }

    fn grant(&mut self, rules: &Rules, owner: u8, call: Call, token: Token, lease: u8) -> Vote {
        if self.lock.owner == owner {
            if self.lock.shares.have_later(call) {
                return Vote::Stale(self.floor);
            }
            if !self.lock.shares.is_only(call) {
                if rules.shares {
                    self.lock.shares.join(call);
                }
                self.lock.lease = self.lock.lease.max(lease);
                return Vote::Again(self.lock.token);
            }
        }
        self.floor = self.floor.max(token);
        self.lock = Lock {
            owner,
            token,
            lease,
            shares: Shares::of(call),
        };
        Vote::Granted
    }

    fn let_go(&mut self, rules: &Rules, limit: Token, floor: Option<Token>, delete: bool) {
        if delete {
            self.lock = Lock::default();
        }
        if let Some(floor) = floor
            && (floor <= limit || !rules.lifts_bounded)
        {
            self.floor = self.floor.max(floor);
        }
    }

    /// The lease is over.
    pub fn expire(&mut self) {
        self.lock = Lock::default();
    }

    /// All data is lost; tokens up to `base` may be forgotten.
    pub fn lose(&mut self, rules: &Rules, base: Token) {
        *self = if rules.guard {
            Self {
                floor: base,
                guarded: true,
                ..Self::default()
            }
        } else {
            Self::default()
        };
    }
}
