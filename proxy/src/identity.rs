//! Whose locks: the account that a request acts for.

/// The owner of an account, the second segment of its keys on the nodes:
/// 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity(&'static str);

impl Identity {
    /// Everybody, where nobody has to authenticate.
    pub(crate) const ANONYMOUS: Self = Self("anonymous");

    pub(crate) const fn as_str(&self) -> &str {
        self.0
    }
}
