//! `POST /api-key` and `DELETE /api-key`.

use serde::Serialize;

use super::Fields;
use crate::identity::{LicenceKey, MAX_API_KEY_CHARS, MAX_LICENCE_KEY_BYTES};
use crate::problem::Problem;

/// A request for a new API key.
#[derive(Debug)]
pub(crate) struct CreateKeyRequest {
    pub(crate) licence: LicenceKey,
}

impl CreateKeyRequest {
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
    pub(crate) fn read(fields: &Fields) -> Result<Self, Problem> {
        let licence = licence(fields)?;
        let api_key = fields
            .required_text("apiKey", MAX_API_KEY_CHARS)?
            .to_owned();
        Ok(Self { licence, api_key })
    }
}

/// Both spellings, but not two licences.
fn licence(fields: &Fields) -> Result<LicenceKey, Problem> {
    let american = fields.text("licenseKey", MAX_LICENCE_KEY_BYTES)?;
    let key = match (fields.text("licenceKey", MAX_LICENCE_KEY_BYTES)?, american) {
        (Some(one), Some(other)) if one != other => {
            let message = "licenceKey and licenseKey differ: give one of them";
            return Err(Problem::bad_request(message));
        }
        (Some(key), _) | (None, Some(key)) => key,
        (None, None) => fields.required_text("licenceKey", MAX_LICENCE_KEY_BYTES)?,
    };
    Ok(LicenceKey::new(key))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiKeyAnswer<'a> {
    pub(crate) api_key: &'a str,
}
