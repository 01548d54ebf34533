//! What the API does: one entry for each method of each route.

use serde_json::{Value, json};

use super::{Schemas, problems};
use crate::api::{
    AcquireRequest, Acquired, ApiKeyAnswer, CreateKeyRequest, DeleteKeyRequest, ExtendRequest,
    Extended, NotAcquired, NotExtended, NotReleased, ReleaseRequest, Released, Shape,
};
use crate::handlers::health::{Health, Readiness};
use crate::handlers::usage::UsageAnswer;
use crate::problem::Kind;
use crate::router::Route;
use crate::verb::Verb;

/// One method of one route.
pub(super) struct Operation {
    pub(super) route: Route,
    /// In lower case, as the document has it.
    pub(super) method: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) about: &'static str,
    pub(super) request: Option<&'static Shape>,
    /// What the operation itself answers.
    pub(super) replies: &'static [Reply],
    /// What may be wrong with the request, the caller or the proxy.
    pub(super) problems: &'static [Kind],
    /// Whether it is done for an API key, where the deployment has them.
    pub(super) takes_key: bool,
}

/// An answer, and the bodies that it may have.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) about: &'static str,
    pub(super) bodies: &'static [Body],
    /// Whether a body of it may say how long a lock is valid.
    pub(super) gives_validity: bool,
    /// What kind of text the body is, if it isn't JSON.
    pub(super) kind: Option<&'static str>,
}

impl Reply {
    /// One that says nothing of validity.
    const fn plain(status: u16, about: &'static str, bodies: &'static [Body]) -> Self {
        Self {
            status,
            about,
            bodies,
            gives_validity: false,
            kind: None,
        }
    }

    const fn html(mut self) -> Self {
        self.kind = Some("text/html");
        self
    }

    const fn with_validity(mut self) -> Self {
        self.gives_validity = true;
        self
    }
}

/// Adds the schema of a body, and returns a reference to it.
type Body = fn(&mut Schemas) -> Value;

/// What every route that reads a body may answer.
macro_rules! body_problems {
    ($($more:expr),*) => {
        &[
            Kind::BadRequest,
            Kind::SlowBody,
            Kind::LargeBody,
            Kind::NotJson,
            Kind::LargeHeader,
            Kind::Internal,
            $($more),*
        ]
    };
}

const NO_BODY_PROBLEMS: &[Kind] = &[Kind::BadRequest, Kind::LargeHeader];

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        route: Route::Lock(Verb::Acquire),
        method: "post",
        id: "acquire",
        summary: "Acquire a lock",
        about: "Waits for the lock as the retries say. A client that disconnects ends its wait, and \
                what it had won meanwhile is released. An acquire whose answer was lost can be sent \
                again with the same uuid: it succeeds with the same token and a lease of at least \
                `lease` from now.",
        request: Some(&AcquireRequest::SHAPE),
        replies: &[
            Reply::plain(
                200,
                "The lock is acquired; with `softFail`, also whatever is 409 or 503 without \
                        it and is not about the API key.",
                &[
                    Schemas::of::<Acquired>,
                    Schemas::of::<NotAcquired>,
                    |schemas| problems::schema(Some(Verb::Acquire), schemas),
                ],
            )
            .with_validity(),
            Reply::plain(
                409,
                "The lock was held by others until the retries ran out, or its line of \
                        waiters is full.",
                &[Schemas::of::<NotAcquired>],
            ),
            Reply::plain(
                503,
                "No quorum of nodes answers: nothing is held, as far as a quorum could be \
                        told.",
                &[Schemas::of::<NotAcquired>],
            ),
        ],
        problems: body_problems![
            Kind::Unauthenticated,
            Kind::Unsure,
            Kind::Unlicensed,
            Kind::LicenceUnknown,
            Kind::TooMany(1),
            Kind::UsedUp,
            Kind::Draining
        ],
        takes_key: true,
    },
    Operation {
        route: Route::Lock(Verb::Extend),
        method: "post",
        id: "extend",
        summary: "Hold a lock for longer",
        about: "Adds to the lock's present expiry, up to the cluster's maximum lease from now. A \
                lock that has expired is not brought back. Sent twice, it may add twice.",
        request: Some(&ExtendRequest::SHAPE),
        replies: &[
            Reply::plain(
                200,
                "The lock is held for longer; with `softFail`, also whatever is 404, 409 or \
                        503 without it and is not about the API key.",
                &[Schemas::of::<Extended>, Schemas::of::<NotExtended>],
            )
            .with_validity(),
            Reply::plain(
                404,
                "The lock does not exist: it never did, has expired, or was released.",
                &[Schemas::of::<NotExtended>],
            ),
            Reply::plain(
                409,
                "The lock is held under another uuid.",
                &[Schemas::of::<NotExtended>],
            ),
            Reply::plain(
                503,
                "No quorum of nodes answers: whether the lock is held for longer is unknown.",
                &[Schemas::of::<NotExtended>],
            ),
        ],
        problems: body_problems![
            Kind::Unauthenticated,
            Kind::Unsure,
            Kind::Unlicensed,
            Kind::LicenceUnknown,
            Kind::TooMany(1)
        ],
        takes_key: true,
    },
    Operation {
        route: Route::Lock(Verb::Release),
        method: "post",
        id: "release",
        summary: "Release a lock",
        about: "Who waits for the lock is told. Sent again after it succeeded, it is answered 404, \
                or 409 once others hold the lock.",
        request: Some(&ReleaseRequest::SHAPE),
        replies: &[
            Reply::plain(
                200,
                "The lock is released; with `softFail`, also whatever is 404, 409 or 503 \
                        without it and is not about the API key.",
                &[Schemas::of::<Released>, Schemas::of::<NotReleased>],
            ),
            Reply::plain(
                404,
                "The lock does not exist: it never did, has expired, or was released.",
                &[Schemas::of::<NotReleased>],
            ),
            Reply::plain(
                409,
                "The lock is held under another uuid.",
                &[Schemas::of::<NotReleased>],
            ),
            Reply::plain(
                503,
                "No quorum of nodes answers: whether the lock is released is unknown; it \
                        ends with its lease.",
                &[Schemas::of::<NotReleased>],
            ),
        ],
        problems: body_problems![
            Kind::Unauthenticated,
            Kind::Unsure,
            Kind::Unlicensed,
            Kind::LicenceUnknown,
            Kind::TooMany(1)
        ],
        takes_key: true,
    },
    Operation {
        route: Route::ApiKey,
        method: "post",
        id: "createApiKey",
        summary: "Make an API key",
        about: "For whoever shows a licence key. There is nothing at this path on deployments \
                without licences.",
        request: Some(&CreateKeyRequest::SHAPE),
        replies: &[Reply::plain(
            200,
            "The API key.",
            &[Schemas::of::<ApiKeyAnswer<'static>>],
        )],
        problems: body_problems![Kind::Unlicensed, Kind::LicenceUnknown, Kind::NoSuchRoute],
        takes_key: false,
    },
    Operation {
        route: Route::ApiKey,
        method: "delete",
        id: "deleteApiKey",
        summary: "Delete an API key",
        about: "For whoever shows the licence key of which it is. Deleting what is deleted already \
                succeeds.",
        request: Some(&DeleteKeyRequest::SHAPE),
        replies: &[Reply::plain(204, "The API key is deleted.", &[])],
        problems: body_problems![
            Kind::Unlicensed,
            Kind::LicenceUnknown,
            Kind::NoSuchKey,
            Kind::NoSuchRoute,
            Kind::Unsure,
            Kind::TooMany(1)
        ],
        takes_key: false,
    },
    Operation {
        route: Route::Usage,
        method: "get",
        id: "usage",
        summary: "What the caller has used",
        about: "Lock acquisition attempts of the API key's licence, and how many there may be.",
        request: None,
        replies: &[Reply::plain(
            200,
            "What was used.",
            &[Schemas::of::<UsageAnswer<'static>>],
        )],
        problems: &[
            Kind::BadRequest,
            Kind::LargeHeader,
            Kind::Unauthenticated,
            Kind::Unlicensed,
            Kind::LicenceUnknown,
            Kind::Unsure,
            Kind::TooMany(1),
            Kind::Internal,
        ],
        takes_key: true,
    },
    Operation {
        route: Route::Healthz,
        method: "get",
        id: "healthz",
        summary: "Whether the process runs",
        about: "Asks no node.",
        request: None,
        replies: &[Reply::plain(200, "It runs.", &[Schemas::of::<Health>])],
        problems: NO_BODY_PROBLEMS,
        takes_key: false,
    },
    Operation {
        route: Route::Readyz,
        method: "get",
        id: "readyz",
        summary: "Whether locks can be served",
        about: "Asks the nodes, a few times a second at most.",
        request: None,
        replies: &[
            Reply::plain(
                200,
                "A quorum of nodes votes, and the proxy is not about to end.",
                &[Schemas::of::<Readiness<'static>>],
            ),
            Reply::plain(
                503,
                "Not so; the body says why.",
                &[Schemas::of::<Readiness<'static>>],
            ),
        ],
        problems: NO_BODY_PROBLEMS,
        takes_key: false,
    },
    Operation {
        route: Route::OpenApi,
        method: "get",
        id: "openapi",
        summary: "This document",
        about: "OpenAPI 3.1, the same on every deployment of this version.",
        request: None,
        replies: &[Reply::plain(
            200,
            "The document.",
            &[|_| json!({ "type": "object" })],
        )],
        problems: NO_BODY_PROBLEMS,
        takes_key: false,
    },
    Operation {
        route: Route::Docs,
        method: "get",
        id: "docs",
        summary: "This document for people",
        about: "A page that asks no other host.",
        request: None,
        replies: &[Reply::plain(200, "The page.", &[|_| json!({ "type": "string" })]).html()],
        problems: NO_BODY_PROBLEMS,
        takes_key: false,
    },
];
