//! `POST /api-key` and `DELETE /api-key`.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Field, Fields, Shape, Text};
use crate::identity::{LicenceKey, MAX_API_KEY_CHARS, MAX_LICENCE_KEY_BYTES};
use crate::problem::Problem;

const LICENCE_KEY: Text = Text {
    name: "licenceKey",
    most: MAX_LICENCE_KEY_BYTES,
    about: "The licence's key. It, or licenseKey, must be given; where both are, they must agree.",
};
const LICENSE_KEY: Text = Text {
    name: "licenseKey",
    most: MAX_LICENCE_KEY_BYTES,
    about: "The other spelling of licenceKey.",
};
const API_KEY: Text = Text {
    name: "apiKey",
    most: MAX_API_KEY_CHARS,
    about: "The API key to delete.",
};

/// A request for a new API key.
#[derive(Debug)]
pub(crate) struct CreateKeyRequest {
    pub(crate) licence: LicenceKey,
}

impl CreateKeyRequest {
    pub(crate) const SHAPE: Shape = Shape {
        name: "CreateKeyRequest",
        about: "Whose key to make.",
        fields: &[
            Field::MaybeText(&LICENCE_KEY),
            Field::MaybeText(&LICENSE_KEY),
        ],
    };

    pub(crate) fn read(fields: &Fields) -> Result<Self, Problem> {
        let licence = licence(fields)?;
        Ok(Self { licence })
    }
}

/// A request to delete an API key.
pub(crate) struct DeleteKeyRequest {
    pub(crate) licence: LicenceKey,
    pub(crate) api_key: String,
}

impl DeleteKeyRequest {
    pub(crate) const SHAPE: Shape = Shape {
        name: "DeleteKeyRequest",
        about: "Which key to delete, and whose it is.",
        fields: &[
            Field::MaybeText(&LICENCE_KEY),
            Field::MaybeText(&LICENSE_KEY),
            Field::Text(&API_KEY),
        ],
    };

    pub(crate) fn read(fields: &Fields) -> Result<Self, Problem> {
        let licence = licence(fields)?;
        let api_key = API_KEY.read(fields)?.to_owned();
        Ok(Self { licence, api_key })
    }
}

/// Both spellings, but not two licences.
fn licence(fields: &Fields) -> Result<LicenceKey, Problem> {
    let american = LICENSE_KEY.read_if_given(fields)?;
    let key = match (LICENCE_KEY.read_if_given(fields)?, american) {
        (Some(one), Some(other)) if one != other => {
            let message = "licenceKey and licenseKey differ: give one of them";
            return Err(Problem::bad_request(message));
        }
        (Some(key), _) | (None, Some(key)) => key,
        (None, None) => LICENCE_KEY.read(fields)?,
    };
    Ok(LicenceKey::new(key))
}

/// A new API key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKeyAnswer)]
pub(crate) struct ApiKeyAnswer<'a> {
    /// Shown this once: nobody can tell it again.
    pub(crate) api_key: &'a str,
}
