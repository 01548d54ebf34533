//! Who is let in, and by which licence.

use std::sync::Arc;

use everlock::AttemptCounter;

use super::licence::{Bounds, Licence, LicenceKey, Unlicensed};
use super::licences::Licences;
use super::reporting::Reporter;
use super::usage::{Metered, Meters, OverUsage, Usage};
use super::{
    Accounts, ApiKey, Identity, Keeper, OverLimit, Revocations, RevokeError, Secrets, Verified,
};

/// Who a request acts for.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// By which licence; none where the operator made the key, or nobody has to authenticate.
    pub(crate) licence: Option<Arc<Licence>>,
}

impl Caller {
    /// Bounds of its own.
    pub(crate) fn bounds(&self) -> Bounds {
        let licence = self.licence.as_ref();
        licence.map_or_else(Bounds::default, |licence| licence.bounds)
    }
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no API key, or none that is valid; which of these is told to nobody.
    Unauthenticated,
    /// Whether the key was deleted can't be told: no majority of nodes was read lately.
    Unsure,
    /// The key is valid; its licence is not, or can't be looked up.
    Unlicensed(Unlicensed),
}

/// An identity may delete this many API keys a second on one proxy: enough to clean up, too few to
/// fill the set of deleted keys within a day.
const DELETIONS: u32 = 5;

/// Why an API key was not deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeleteError {
    /// The licence is none, or can't be looked up.
    Unlicensed(Unlicensed),
    /// The API key is not of this licence, or not valid at all.
    NotYours,
    /// No majority of nodes took it in time: it may be deleted.
    Unavailable,
    /// As many keys are deleted as can be.
    Full,
    /// Its identity deletes keys too fast.
    TooFast(OverLimit),
}

/// Decides who a request acts for.
#[derive(Clone)]
pub struct Gate(Option<Arc<Guarded>>);

struct Guarded {
    secrets: Secrets,
    revocations: Revocations,
    licensing: Option<Licensing>,
    deletions: Accounts,
}

/// What there is where keys are made from licences.
pub(crate) struct Licensing {
    pub(crate) licences: Arc<Licences>,
    pub(crate) meters: Arc<Meters>,
    /// Reports as long as it lives.
    pub(crate) _reporter: Reporter,
}

impl Gate {
    /// Nobody has to authenticate: all are one identity.
    #[must_use]
    pub fn open() -> Self {
        Self(None)
    }

    /// Only those with an API key are let in, and if there are licences, only while theirs is
    /// good. Watches the nodes as long as it lives.
    pub(crate) fn guarded(
        prefix: &str,
        secrets: Secrets,
        keepers: Vec<Arc<Keeper>>,
        licensing: Option<Licensing>,
    ) -> Self {
        let revocations = Revocations::new(prefix, &secrets.names(), keepers);
        revocations.watch();
        Self(Some(Arc::new(Guarded {
            secrets,
            revocations,
            licensing,
            deletions: Accounts::new(Bounds {
                rate: Some(DELETIONS),
                ..Bounds::default()
            }),
        })))
    }

    /// Whether everybody with a valid key can be let in now.
    pub(crate) fn is_ready(&self) -> bool {
        let guarded = self.0.as_ref();
        guarded.is_none_or(|guarded| guarded.revocations.is_fresh())
    }

    /// Whether requests have to show an API key.
    pub(crate) const fn demands_keys(&self) -> bool {
        self.0.is_some()
    }

    /// Whether API keys are made from licences here.
    pub(crate) fn has_licences(&self) -> bool {
        let guarded = self.0.as_ref();
        guarded.is_some_and(|guarded| guarded.licensing.is_some())
    }

    /// Who this API key is of. Asks the backend of licences only about one that it was not asked
    /// about for long; nothing is left behind if the future is dropped.
    pub(crate) async fn admit(&self, key: Option<&str>) -> Result<Caller, Refusal> {
        let Some(guarded) = &self.0 else {
            let (identity, licence) = (Identity::anonymous(), None);
            return Ok(Caller { identity, licence });
        };
        let verified = key.and_then(|key| guarded.secrets.verify(key));
        let verified = verified.ok_or(Refusal::Unauthenticated)?;
        if guarded.is_revoked(&verified) {
            return Err(Refusal::Unauthenticated);
        }
        if !guarded.revocations.is_fresh() {
            return Err(Refusal::Unsure);
        }
        let licence = match (&guarded.licensing, &verified.licence) {
            (Some(licensing), Some(claim)) => {
                let licence = licensing.licences.look_up(&claim.reference).await;
                Some(licence.map_err(Refusal::Unlicensed)?)
            }
            _ => None,
        };
        let identity = verified.identity;
        // The file may have given the licence to somebody else meanwhile.
        if licence
            .as_ref()
            .is_some_and(|licence| licence.identity != identity)
        {
            return Err(Refusal::Unlicensed(Unlicensed::Refused));
        }
        Ok(Caller { identity, licence })
    }

    /// A new API key from a licence.
    pub(crate) async fn make_key(&self, key: &LicenceKey) -> Result<ApiKey, Unlicensed> {
        let guarded = self.0.as_ref().ok_or(Unlicensed::Refused)?;
        let licensing = guarded.licensing.as_ref().ok_or(Unlicensed::Refused)?;
        let licence = licensing.licences.validate(key).await?;
        let from = (licence.reference.as_str(), key.reveal());
        Ok(guarded.secrets.issue(&licence.identity, Some(from)))
    }

    /// Deletes an API key, for whoever has the licence key that it was made from: that is known
    /// from the API key alone, so it works while the backend is down and after the licence ended.
    pub(crate) async fn delete_key(
        &self,
        key: &LicenceKey,
        api_key: &str,
    ) -> Result<(), DeleteError> {
        let guarded = self.0.as_ref().ok_or(DeleteError::NotYours)?;
        let licensing = guarded.licensing.as_ref().ok_or(DeleteError::NotYours)?;
        let verified = guarded.secrets.verify(api_key);
        let own = |verified: &Verified| guarded.secrets.is_of_licence(verified, key.reveal());
        let Some(verified) = verified.filter(own) else {
            let licensed = licensing.licences.validate(key).await;
            licensed.map_err(DeleteError::Unlicensed)?;
            return Err(DeleteError::NotYours);
        };
        if guarded.is_revoked(&verified) && guarded.revocations.is_fresh() {
            return Ok(());
        }
        let entered = guarded
            .deletions
            .enter(&verified.identity, &Bounds::default());
        entered.map_err(DeleteError::TooFast)?;
        let revoked = guarded.revocations.revoke(verified.secret, verified.id);
        revoked.await.map_err(|error| match error {
            RevokeError::Unavailable => DeleteError::Unavailable,
            RevokeError::Full => DeleteError::Full,
        })
    }
}

impl Gate {
    /// Begins to count an acquire of this caller; none where nothing is counted.
    pub(crate) async fn meter(
        &self,
        caller: &Caller,
        attempts: &AttemptCounter,
    ) -> Result<Option<Metered>, OverUsage> {
        match (self.meters(), &caller.licence) {
            (Some(meters), Some(licence)) => meters.begin(licence, attempts).await.map(Some),
            _ => Ok(None),
        }
    }

    /// What this caller has used; none where nothing is counted.
    pub(crate) async fn usage(&self, caller: &Caller) -> Result<Option<Usage>, OverUsage> {
        match (self.meters(), &caller.licence) {
            (Some(meters), Some(licence)) => meters.usage(licence).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Tells the nodes what was counted: the last word of a proxy that ends.
    pub(crate) async fn flush(&self) {
        if let Some(meters) = self.meters() {
            meters.flush().await;
        }
    }

    fn meters(&self) -> Option<&Meters> {
        let licensing = self.0.as_ref()?.licensing.as_ref()?;
        Some(&licensing.meters)
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
