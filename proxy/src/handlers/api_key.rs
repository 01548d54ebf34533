//! API keys, made and deleted by whoever has the licence.

use hyper::StatusCode;

use crate::answer::Answer;
use crate::api::{ApiKeyAnswer, CreateKeyRequest, DeleteKeyRequest, Fields};
use crate::app::App;
use crate::identity::{DeleteError, Unlicensed};
use crate::problem::{Kind, Problem};

pub(crate) async fn create(app: &App, fields: &Fields) -> Result<Answer, Problem> {
    let request = CreateKeyRequest::read(fields)?;
    let made = app.gate.make_key(&request.licence).await;
    let key = made.map_err(unlicensed)?;
    let body = ApiKeyAnswer {
        api_key: key.reveal(),
    };
    Ok(Answer::json(StatusCode::OK, &body))
}

/// Deleting what is deleted already succeeds: a lost answer can be asked for again.
pub(crate) async fn delete(app: &App, fields: &Fields) -> Result<Answer, Problem> {
    let request = DeleteKeyRequest::read(fields)?;
    let deleted = app
        .gate
        .delete_key(&request.licence, &request.api_key)
        .await;
    match deleted {
        Ok(()) => Ok(Answer::empty(StatusCode::NO_CONTENT)),
        Err(DeleteError::Unlicensed(why)) => Err(unlicensed(why)),
        Err(DeleteError::NotYours) => {
            let message = "there is no such API key of this licence";
            Err(Problem::new(Kind::NoSuchKey, message))
        }
        Err(DeleteError::Unavailable) => {
            let message = "no quorum of nodes answers: the API key may live on, ask again";
            Err(Problem::new(Kind::Unsure, message))
        }
        Err(DeleteError::TooFast(_)) => {
            let message = "too many API keys are deleted at once";
            Err(Problem::new(Kind::TooMany(1), message))
        }
        Err(DeleteError::Full) => {
            let message = "too many API keys were deleted: the operator has to rotate the secret";
            Err(Problem::new(Kind::Unsure, message))
        }
    }
}

fn unlicensed(why: Unlicensed) -> Problem {
    match why {
        Unlicensed::Refused => {
            let message = "there is no such licence, or it was revoked or has expired";
            Problem::new(Kind::Unlicensed, message)
        }
        Unlicensed::Unavailable => {
            let message = "the licence can't be looked up now";
            Problem::new(Kind::LicenceUnknown, message)
        }
    }
}
