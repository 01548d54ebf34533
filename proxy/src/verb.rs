//! The lock operations by name.

/// A lock operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Acquire,
    Extend,
    Release,
}

impl Verb {
    /// The field that says whether it worked.
    pub(crate) const fn outcome_field(self) -> &'static str {
        match self {
            Self::Acquire => "acquired",
            Self::Extend => "extended",
            Self::Release => "released",
        }
    }
}
