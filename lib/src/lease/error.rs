//! Why an operation on a lease did not end with an answer.

use std::sync::Arc;

use crate::error::ConfigError;

/// The cause of a failure, as the backend tells it.
type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why an operation on a lease did not end with an answer. That another holds the
/// lease is an answer, and no error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The backend did not answer, or could not: what was asked may have been done.
    #[error("the lease's backend gives no answer: {cause}")]
    Unavailable {
        /// What it said, or why it said nothing.
        cause: Cause,
    },
    /// The backend answered that this must not be asked of it: a permission that is
    /// missing, or a name that it does not take. Trying again helps nothing.
    #[error("the lease's backend refuses: {cause}")]
    Refused {
        /// What it said.
        cause: Cause,
    },
    /// The lease was released while it was being acquired; what was won is given back.
    #[error("the lease was released while it was being acquired")]
    Superseded,
    /// The backend has no tokens: [`supports_tokens`](super::Lease::supports_tokens) is false.
    #[error("the lease's backend has no fencing tokens")]
    NoTokens,
    /// What was asked for is out of bounds, or the backend can't serve it.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl LeaseError {
    /// The backend did not answer.
    pub fn unavailable(
        cause: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    ) -> Self {
        Self::Unavailable {
            cause: cause.into().into(),
        }
    }

    /// The backend refuses.
    pub fn refused(cause: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>) -> Self {
        Self::Refused {
            cause: cause.into().into(),
        }
    }
}
