//! An API server for leases, in this process: what a Kubernetes API server keeps to,
//! as far as leases rest on it.
//!
//! Objects are JSON as it came, so what is checked is what was really sent: times
//! must have exactly six digits, versions must be the ones last read, an update that
//! changes nothing makes no new version, a deletion may have preconditions. What it
//! leaves out: authorisation, watches, patches, other resources.

#![allow(
    clippy::unwrap_used,
    reason = "what a test can't go on without fails it"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use everlock::lease::contract::Weather;
use everlock::lease::kubernetes::kube;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

const GROUP: &str = "/apis/coordination.k8s.io/v1/namespaces/";

#[derive(Default)]
struct Store {
    /// One count for all objects, as etcd has.
    revision: u64,
    /// By namespace and name.
    objects: BTreeMap<String, Value>,
    /// Every request that was done, as method, path and answer.
    log: Vec<(Method, String, u16)>,
}

/// The server; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct ApiServer(Arc<Mutex<Store>>);

/// A refusal, as its status and its reason.
type Refusal = (u16, &'static str, String);

impl ApiServer {
    /// A client whose requests go this way.
    pub(crate) fn client(&self, way: &Way) -> kube::Client {
        let service = Door {
            server: self.clone(),
            way: way.clone(),
        };
        kube::Client::new(service, "default")
    }

    /// The object as it stands.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> Option<Value> {
        let store = self.0.lock().unwrap();
        store.objects.get(&format!("{namespace}/{name}")).cloned()
    }

    /// What an operator's edit does: changes the object under a new version.
    pub(crate) fn edit(&self, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) -> bool {
        let mut store = self.0.lock().unwrap();
        let Some(mut object) = store.objects.get(&format!("{namespace}/{name}")).cloned() else {
            return false;
        };
        edit(&mut object);
        store.put(&format!("{namespace}/{name}"), object);
        true
    }

    /// Every request that was done, as method and answer.
    pub(crate) fn log(&self) -> Vec<(Method, String, u16)> {
        self.0.lock().unwrap().log.clone()
    }

    /// Does one request.
    pub(crate) fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let mut store = self.0.lock().unwrap();
        let (status, answer) = match store.handle(method, path, body) {
            Ok((status, object)) => (status, object),
            Err((status, reason, message)) => {
                let told = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": message, "reason": reason, "code": status,
                });
                (status, told)
            }
        };
        store.log.push((method.clone(), path.to_owned(), status));
        (status, answer)
    }
}

impl Store {
    fn handle(
        &mut self,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> Result<(u16, Value), Refusal> {
        let not_found = || (404, "NotFound", "the server could not find it".to_owned());
        let path = path
            .split('?')
            .next()
            .unwrap()
            .strip_prefix(GROUP)
            .ok_or_else(not_found)?;
        let (namespace, rest) = path.split_once("/leases").ok_or_else(not_found)?;
        let name = rest.trim_start_matches('/');
        let key = format!("{namespace}/{name}");
        match *method {
            Method::GET if !name.is_empty() => {
                let found = self.objects.get(&key).ok_or_else(not_found)?;
                Ok((200, found.clone()))
            }
            Method::POST if name.is_empty() => self.create(namespace, parsed(body)?),
            Method::PUT if !name.is_empty() => self.update(&key, parsed(body)?),
            Method::DELETE if !name.is_empty() => self.delete(&key, body),
            _ => Err((405, "MethodNotAllowed", method.to_string())),
        }
    }

    fn create(&mut self, namespace: &str, mut object: Value) -> Result<(u16, Value), Refusal> {
        check(&object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let key = format!("{namespace}/{name}");
        if object["metadata"]["resourceVersion"].is_string() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err((400, "BadRequest", message.to_owned()));
        }
        if self.objects.contains_key(&key) {
            return Err((409, "AlreadyExists", format!("{key} already exists")));
        }
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"]["uid"] = json!(format!("uid-{}", self.revision));
        Ok((201, self.put(&key, object)))
    }

    fn update(&mut self, key: &str, mut object: Value) -> Result<(u16, Value), Refusal> {
        check(&object)?;
        let conflict = |message: &str| (409, "Conflict", message.to_owned());
        let Some(found) = self.objects.get(key) else {
            return Err((404, "NotFound", format!("{key} not found")));
        };
        let told = &object["metadata"];
        let Some(version) = told["resourceVersion"].as_str() else {
            let message = "metadata.resourceVersion: must be specified for an update";
            return Err((422, "Invalid", message.to_owned()));
        };
        if Some(version) != found["metadata"]["resourceVersion"].as_str() {
            return Err(conflict("the object has been modified"));
        }
        if told["uid"].is_string() && told["uid"] != found["metadata"]["uid"] {
            return Err(conflict("Precondition failed: UID in precondition"));
        }
        object["metadata"] = found["metadata"].clone();
        if object == *found {
            return Ok((200, object));
        }
        Ok((200, self.put(key, object)))
    }

    fn delete(&mut self, key: &str, body: &[u8]) -> Result<(u16, Value), Refusal> {
        let options: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(found) = self.objects.get(key) else {
            return Err((404, "NotFound", format!("{key} not found")));
        };
        for field in ["uid", "resourceVersion"] {
            let asked = &options["preconditions"][field];
            if asked.is_string() && *asked != found["metadata"][field] {
                let message = format!("Precondition failed: {field}");
                return Err((409, "Conflict", message));
            }
        }
        self.revision += 1;
        let gone = self.objects.remove(key).unwrap();
        Ok((200, gone))
    }

    fn put(&mut self, key: &str, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.objects.insert(key.to_owned(), object.clone());
        object
    }
}

fn parsed(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| (400, "BadRequest", error.to_string()))
}

/// What the server's own decoding and validation refuse.
fn check(object: &Value) -> Result<(), Refusal> {
    for (field, expected) in [("apiVersion", "coordination.k8s.io/v1"), ("kind", "Lease")] {
        if object[field] != expected {
            return Err((400, "BadRequest", format!("{field} is {}", object[field])));
        }
    }
    let spec = &object["spec"];
    for field in ["acquireTime", "renewTime"] {
        if spec[field]
            .as_str()
            .is_some_and(|time| !is_micro_time(time))
        {
            let message = format!("parsing time {}: cannot parse", spec[field]);
            return Err((400, "BadRequest", message));
        }
    }
    let below = |field: &str, least| spec[field].as_i64().is_some_and(|number| number < least);
    if below("leaseDurationSeconds", 1) || below("leaseTransitions", 0) {
        return Err((422, "Invalid", "spec is invalid".to_owned()));
    }
    Ok(())
}

/// `2006-01-02T15:04:05.000000Z`: six digits, no more and no fewer.
fn is_micro_time(time: &str) -> bool {
    let pattern = "0000-00-00T00:00:00.000000Z";
    let fits = |(found, expected): (u8, u8)| match expected {
        b'0' => found.is_ascii_digit(),
        expected => found == expected,
    };
    time.len() == pattern.len() && time.bytes().zip(pattern.bytes()).all(fits)
}

type Plan = dyn FnMut(&Method) -> Weather + Send;

/// How one client's requests fare; clones are the same way.
#[derive(Clone)]
pub(crate) struct Way(Arc<Mutex<Box<Plan>>>);

impl Way {
    pub(crate) fn fine() -> Self {
        Self(Arc::new(Mutex::new(Box::new(|_| Weather::Fine))))
    }

    /// From now on each request meets what this says.
    pub(crate) fn plan(&self, plan: impl FnMut(&Method) -> Weather + Send + 'static) {
        *self.0.lock().unwrap() = Box::new(plan);
    }

    fn draw(&self, method: &Method) -> Weather {
        self.0.lock().unwrap()(method)
    }
}

/// The server as a client reaches it.
struct Door {
    server: ApiServer,
    way: Way,
}

impl tower_service::Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (server, weather) = (self.server.clone(), self.way.draw(request.method()));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().to_owned();
            let body = body.collect_bytes().await.unwrap();
            let answered = || server.answer(&parts.method, &path, &body);
            let (status, answer) = match weather {
                Weather::Fine => answered(),
                Weather::Silent => std::future::pending().await,
                Weather::Deaf => {
                    answered();
                    std::future::pending().await
                }
                Weather::Slow(late) => {
                    tokio::time::sleep(late).await;
                    answered()
                }
                Weather::Lagging(late) => {
                    let answer = answered();
                    tokio::time::sleep(late).await;
                    answer
                }
            };
            let body = Body::from(serde_json::to_vec(&answer).unwrap());
            let response = Response::builder()
                .status(status)
                .header("content-type", "application/json");
            Ok(response.body(body).unwrap())
        })
    }
}
