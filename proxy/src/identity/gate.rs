//! Who is let in.

use std::sync::Arc;

use super::{Identity, Keeper, Revocations, Secrets, Verified};

/// Who a request acts for.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no API key, or none that is valid; which of these is told to nobody.
    Unauthenticated,
    /// Whether the key was deleted can't be told: no majority of nodes was read lately.
    Unsure,
}

/// Decides who a request acts for.
#[derive(Clone)]
pub struct Gate(Option<Arc<Guarded>>);

struct Guarded {
    secrets: Secrets,
    revocations: Revocations,
}

impl Gate {
    /// Nobody has to authenticate: all are one identity.
    #[must_use]
    pub fn open() -> Self {
        Self(None)
    }

    /// Only those with an API key are let in. Watches the nodes as long as it lives.
    pub(crate) fn guarded(prefix: &str, secrets: Secrets, keepers: Vec<Keeper>) -> Self {
        let revocations = Revocations::new(prefix, &secrets.names(), keepers);
        revocations.watch();
        Self(Some(Arc::new(Guarded {
            secrets,
            revocations,
        })))
    }

    /// Whether everybody with a valid key can be let in now.
    pub(crate) fn is_ready(&self) -> bool {
        let guarded = self.0.as_ref();
        guarded.is_none_or(|guarded| guarded.revocations.is_fresh())
    }

    /// Who this API key is of.
    pub(crate) fn admit(&self, key: Option<&str>) -> Result<Caller, Refusal> {
        let Some(guarded) = &self.0 else {
            let identity = Identity::anonymous();
            return Ok(Caller { identity });
        };
        let verified = key.and_then(|key| guarded.secrets.verify(key));
        let verified = verified.ok_or(Refusal::Unauthenticated)?;
        if guarded.is_revoked(&verified) {
            return Err(Refusal::Unauthenticated);
        }
        if !guarded.revocations.is_fresh() {
            return Err(Refusal::Unsure);
        }
        let identity = verified.identity;
        Ok(Caller { identity })
    }
}

impl Guarded {
    fn is_revoked(&self, key: &Verified) -> bool {
        self.revocations.is_revoked(key.secret, &key.id)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let guarded = self.0.is_some();
        f.debug_struct("Gate")
            .field("guarded", &guarded)
            .finish_non_exhaustive()
    }
}
