//! Locks over HTTP, each request through any of the proxies.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Ask, Config, DELAY, JITTER, Locks, Miss, Told};
use crate::dice::Dice;
use crate::{LEASE, now};

/// A proxy that says nothing for so long is stopped or gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    proxies: Vec<String>,
    dice: Dice,
}

impl Http {
    /// The API knows the owner alone: whatever it holds is released, also what it was granted
    /// when it asked again after its first lease had ended.
    pub(crate) const RELEASES_UP_TO: u64 = u64::MAX;

    pub(crate) fn new(config: &Config) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            proxies: config.to.clone(),
            dice: Dice::new(!config.seed),
        }
    }

    /// The status and the body of an answer; none if there was no answer.
    async fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let proxy = &self.proxies[self.dice.index(self.proxies.len())];
        let request = Request::post(format!("http://{proxy}{path}"))
            .body(Full::new(body.to_string().into()))
            .unwrap();
        let answer = async {
            let response = self.client.request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some((status, serde_json::from_slice(&body).ok()?))
        };
        timeout(ANSWER_WITHIN, answer).await.ok()?
    }
}

impl Locks for Http {
    /// The key and the owner: all that a client of the API needs.
    type Grant = (String, String);

    async fn acquire(&self, ask: &Ask<'_>) -> Result<(Self::Grant, Told), Miss> {
        let (key, owner) = (format!("chaos-{}", ask.key), ask.owner);
        let body = json!({
            "key": key,
            "uuid": owner,
            "lease": millis(LEASE),
            "fifo": ask.in_turn,
            "retryAttempts": ask.retries,
            "retryDelay": millis(DELAY),
            "retryJitter": millis(JITTER),
        });
        let asked = now();
        match self.post("/lock/acquire", &body).await {
            Some((200, answer)) => {
                let token = answer["fencingToken"].as_u64().unwrap();
                let told = Told {
                    token,
                    valid_until: valid_until(asked, &answer),
                };
                Ok(((key, owner.to_owned()), told))
            }
            Some((409, _)) => Err("contended"),
            Some((503, _)) => Err("unavailable"),
            None => Err("no-answer"),
            Some((status, answer)) => panic!("{status}: {answer}"),
        }
    }

    async fn extend(&self, (key, owner): &Self::Grant) -> Option<u64> {
        let body = json!({"key": key, "uuid": owner, "extendBy": millis(LEASE)});
        let asked = now();
        match self.post("/lock/extend", &body).await {
            Some((200, answer)) => Some(valid_until(asked, &answer)),
            _ => None,
        }
    }

    async fn release(&self, (key, owner): Self::Grant) {
        let _ = self
            .post("/lock/release", &json!({"key": key, "uuid": owner}))
            .await;
    }

    fn released_up_to(_: &Self::Grant) -> u64 {
        Self::RELEASES_UP_TO
    }
}

/// The answer's validity counts from when it was written, which the client doesn't know: from the
/// request on it is sure to be over in time.
fn valid_until(asked: u64, answer: &Value) -> u64 {
    asked + answer["validity"].as_u64().unwrap() * 1_000
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}
