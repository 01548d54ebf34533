//! `POST /lock/extend` and `POST /lock/release`: what a holder does with its lock.

use std::time::Duration;

use everlock::{MAX_OWNER_BYTES, OwnerId};
use serde::Serialize;

use super::{Fields, MAX_KEY_BYTES, millis};
use crate::problem::Problem;

/// A request to extend, within its bounds.
#[derive(Debug)]
pub(crate) struct ExtendRequest {
    pub(crate) held: ReleaseRequest,
    pub(crate) by: Duration,
}

impl ExtendRequest {
    pub(crate) fn read(fields: &Fields, max_lease: Duration) -> Result<Self, Problem> {
        let held = ReleaseRequest::read(fields)?;
        let by = fields.required_whole("extendBy", &(1..=millis(max_lease)))?;
        let by = Duration::from_millis(by);
        Ok(Self { held, by })
    }
}

/// A request to release; also the part that it shares with a request to extend.
#[derive(Debug)]
pub(crate) struct ReleaseRequest {
    pub(crate) key: String,
    pub(crate) owner: OwnerId,
    pub(crate) soft_fail: bool,
}

impl ReleaseRequest {
    pub(crate) fn read(fields: &Fields) -> Result<Self, Problem> {
        let key = fields.required_text("key", MAX_KEY_BYTES)?.to_owned();
        let uuid = fields.required_text("uuid", MAX_OWNER_BYTES)?;
        let owner = OwnerId::new(uuid).expect("its bytes were counted");
        let soft_fail = fields.flag("softFail")?;
        Ok(Self {
            key,
            owner,
            soft_fail,
        })
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExtendAnswer {
    pub(crate) extended: bool,
    pub(crate) message: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) validity: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReleaseAnswer {
    pub(crate) released: bool,
    pub(crate) message: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
}
