//! `POST /lock/extend` and `POST /lock/release`: what a holder does with its lock.

use std::time::Duration;

use everlock::protocol::MAX_MAX_LEASE;
use everlock::{MAX_OWNER_BYTES, OwnerId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Always, Field, Fields, KEY, Nothing, SOFT_FAIL, Shape, Text, Whole, millis};
use crate::problem::Problem;

const UUID: Text = Text {
    name: "uuid",
    most: MAX_OWNER_BYTES,
    about: "The uuid with which the lock was acquired: 1 to 128 bytes of UTF-8.",
};
const EXTEND_BY: Whole = Whole {
    name: "extendBy",
    least: 1,
    most: millis(MAX_MAX_LEASE),
    default: None,
    about: "Milliseconds that are added to the lock's present expiry. A deployment may take less \
            than the maximum given here.",
};

/// A request to extend, within its bounds.
#[derive(Debug)]
pub(crate) struct ExtendRequest {
    pub(crate) held: ReleaseRequest,
    pub(crate) by: Duration,
}

impl ExtendRequest {
    pub(crate) const SHAPE: Shape = Shape {
        name: "ExtendRequest",
        about: "Which lock, and by how much.",
        fields: &[
            Field::Text(&KEY),
            Field::Text(&UUID),
            Field::Whole(&EXTEND_BY),
            Field::Flag(&SOFT_FAIL),
        ],
    };

    pub(crate) fn read(fields: &Fields, max_lease: Duration) -> Result<Self, Problem> {
        let held = ReleaseRequest::read(fields)?;
        let by = EXTEND_BY.read_up_to(fields, millis(max_lease))?;
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
    pub(crate) const SHAPE: Shape = Shape {
        name: "ReleaseRequest",
        about: "Which lock.",
        fields: &[
            Field::Text(&KEY),
            Field::Text(&UUID),
            Field::Flag(&SOFT_FAIL),
        ],
    };

    pub(crate) fn read(fields: &Fields) -> Result<Self, Problem> {
        let key = KEY.read(fields)?.to_owned();
        let uuid = UUID.read(fields)?;
        let owner = OwnerId::new(uuid).expect("its bytes were counted");
        let soft_fail = SOFT_FAIL.read(fields)?;
        Ok(Self {
            key,
            owner,
            soft_fail,
        })
    }
}

/// The lock is held for longer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(
    clippy::struct_field_names,
    reason = "the name of the field is the protocol's"
)]
pub(crate) struct Extended {
    #[schema(inline)]
    pub(crate) extended: Always<true>,
    #[schema(inline)]
    pub(crate) message: Nothing,
    /// Milliseconds that the holder may rely on, from the time of answering.
    pub(crate) validity: u64,
}

/// The lock was not extended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotExtended {
    #[schema(inline)]
    pub(crate) extended: Always<false>,
    pub(crate) message: &'static str,
    /// Milliseconds until the lease of whoever holds the lock ends, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) retry_after: Option<u64>,
}

/// The lock is nobody's.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(
    clippy::struct_field_names,
    reason = "the name of the field is the protocol's"
)]
pub(crate) struct Released {
    #[schema(inline)]
    pub(crate) released: Always<true>,
    #[schema(inline)]
    pub(crate) message: Nothing,
}

/// The lock was not released.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotReleased {
    #[schema(inline)]
    pub(crate) released: Always<false>,
    pub(crate) message: &'static str,
    /// Milliseconds until the lease of whoever holds the lock ends, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) retry_after: Option<u64>,
}
