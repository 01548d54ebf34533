//! Ends a lock by hand: a release under the holder's own uuid and token.
//!
//! What it means: the nodes forget the grant, and each settles with its token, so that no late
//! message brings it back. Whoever acquires next has a higher token. The holder is not told: until
//! its validity ends, or an extension of it is refused, it may go on, and only storage that refuses
//! lower tokens is safe from it. Exclusion by time is given up; that is what the word force is for.
//!
//! Invariant: only the grant that the operator has seen is ended, never one after it; and it is
//! written to the log, with neither key nor uuid.

use everlock::{Error, FencingToken, Holding, OwnerId, Resource};
use hyper::StatusCode;
use serde::Serialize;

use super::inspect::{self, fingerprint};
use crate::answer::Answer;
use crate::api::{Fields, MAX_KEY_BYTES};
use crate::app::App;
use crate::identity::Identity;
use crate::insights::TroubleKind;
use crate::problem::{Kind, Problem};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended {
    released: bool,
    message: String,
}

pub(super) async fn release(
    app: &App,
    fields: &Fields,
    identity: &Identity,
    key: &str,
    resource: &Resource,
) -> Result<Answer, Problem> {
    if fields.text("confirm", MAX_KEY_BYTES)? != Some(key) {
        let message = "confirm is not the key: nothing was done";
        return Err(Problem::bad_request(message));
    }
    let seen = inspect::look(&app.redlock, resource).await;
    let changed = || {
        let message = "the lock is not held any more as it was seen: nothing was done";
        Problem::new(Kind::Changed, message)
    };
    let grant = seen.held().ok_or_else(changed)?;
    let holder = fingerprint(&grant.owner);
    let token = grant.token.map(FencingToken::as_u64);
    let seen = (
        fields.text("holder", MAX_KEY_BYTES)?,
        fields.whole("token", &(0..=u64::MAX))?,
    );
    if seen != (Some(holder.as_str()), token) {
        return Err(changed());
    }
    let owner = OwnerId::new(grant.owner).map_err(|_| changed())?;
    let held = match grant.token {
        Some(token) => Holding::under(resource, &owner, token),
        // Another client's lock, which has no token to name it by.
        None => Holding::from((resource, &owner)),
    };
    // Before anything is sent: the operator may be gone before the end of it, and it is done then.
    audit(identity, key, &holder, token, "is being ended by force");
    let released = app.redlock.release_timed(held).await;
    let outcome = if released.is_ok() {
        "was ended by force"
    } else {
        "could not be ended by force"
    };
    audit(identity, key, &holder, token, outcome);
    match released {
        Ok(_) => {
            let about = format!("{} {key}", identity.as_str());
            let what = format!("was ended by force, from holder {holder}");
            app.insights.trouble(TroubleKind::Forced, about, what);
            app.insights
                .released(identity.as_str(), key, owner.as_str(), None);
            let message = match token {
                Some(token) => format!("Ended. The next holder’s token is above {token}."),
                None => "Ended.".to_owned(),
            };
            let body = Ended {
                released: true,
                message,
            };
            Ok(Answer::json(StatusCode::OK, &body))
        }
        Err(Error::Unavailable { .. }) => {
            let message =
                "no quorum of nodes could be told: the lock may be held until its lease ends";
            Err(Problem::new(Kind::Unsure, message))
        }
        Err(_) => Err(changed()),
    }
}

/// The key may name a customer; its fingerprint tells whoever knows the key that it was this one.
fn audit(identity: &Identity, key: &str, holder: &str, token: Option<u64>, what: &str) {
    tracing::warn!(
        identity = identity.as_str(),
        key_sha256 = fingerprint(key),
        holder_sha256 = holder,
        token,
        "a lock {what}, from the console"
    );
}
