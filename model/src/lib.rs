//! The quorum protocol, explored exhaustively: every order of messages, losses
//! and expiries, on three nodes, with few clients and tiny tokens.
//!
//! [`node`] is one node's rules, held to the library's `Register` by
//! `tests/register.rs`; [`locks`] is what clients do with three of them. A rule
//! that is switched off must be found: `tests/locks.rs` says which promise it
//! breaks.

pub mod configs;
pub mod fifo;
pub mod locks;
pub mod node;
pub mod run;

/// A node's name, for people: states that differ in names only are one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Name(pub(crate) u8);

impl PartialEq for Name {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}
