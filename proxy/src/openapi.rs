//! The document of the HTTP API, OpenAPI 3.1: served at `/openapi.json`,
//! printed by `everlock openapi`, committed as `docs/openapi.json`; and at
//! `/docs` as a page for people, which is written from it.
//!
//! Schemas come from the types on the wire, fields of requests from what their
//! readers enforce, statuses of problems from the table of problems. What a new
//! route adds is an entry in [`operations`]; a test compares that list with the
//! map of routes. The document is of the API, not of a deployment: it is the
//! same everywhere, and says where a deployment may take less.

mod examples;
mod operations;
mod page;
mod problems;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use self::operations::{OPERATIONS, Operation};
use crate::answer::Answer;
use crate::api::Shape;

pub(crate) use self::page::answer as page;

const ABOUT: &str = "\
Distributed locks over a quorum of independent Redis nodes, with a fencing token on every grant. All \
times are integer milliseconds; an integral float such as 5000.0 is the integer. An optional field \
that is null counts as not given, fields that are not listed are ignored, and a field given twice is \
refused. A path that is not listed is answered 404, a method that is not 405 with Allow, both with \
the schema Problem or, on a lock route, that route's own. Every answer has an x-request-id: the \
request's, if it is at most 128 visible ASCII characters, else a new one.";

const JSON: &str = "application/json";

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// The answer to who asks the proxy for it: written once, as anybody may ask at any time.
pub(crate) fn answer() -> Answer {
    static BODY: LazyLock<Bytes> = LazyLock::new(|| Answer::json(StatusCode::OK, &*DOCUMENT).body);
    Answer {
        body: BODY.clone(),
        ..Answer::empty(StatusCode::OK)
    }
}

/// The document as it is committed.
pub(crate) fn text() -> String {
    let text = serde_json::to_string_pretty(&*DOCUMENT);
    format!("{}\n", text.expect("a JSON value is written without fail"))
}

/// The schemas that the operations refer to, by name.
#[derive(Default)]
struct Schemas(BTreeMap<String, Value>);

impl Schemas {
    /// Adds a type's schema and those that it refers to. Returns a reference to it.
    fn of<T: ToSchema>(&mut self) -> Value {
        let mut others = Vec::new();
        T::schemas(&mut others);
        for (name, schema) in others {
            self.add(&name, &schema);
        }
        self.add(&T::name(), &T::schema())
    }

    /// Adds a request's.
    fn shape(&mut self, shape: &Shape) -> Value {
        self.add(shape.name, &shape.schema())
    }

    fn add(&mut self, name: &str, schema: &impl serde::Serialize) -> Value {
        let schema = serde_json::to_value(schema).expect("a schema is written without fail");
        self.0.insert(name.to_owned(), schema);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
}

fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let path = paths
            .entry(operation.route.path())
            .or_insert_with(|| json!({}));
        path[operation.method] = written(operation, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "everlock",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {
                "name": "MIT OR Apache-2.0",
                "identifier": "MIT OR Apache-2.0",
            },
        },
        "servers": [{
            "url": "http://127.0.0.1:8080",
            "description": "A proxy on this machine, at the default address",
        }],
        "paths": paths,
        "components": {
            "schemas": schemas.0,
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key. Ignored by deployments that have no authentication.",
                },
            },
        },
    })
}

fn written(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut written = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.about,
        "responses": responses(operation, schemas),
    });
    if let Some(shape) = operation.request {
        let schema = schemas.shape(shape);
        written["requestBody"] = json!({
            "required": true,
            "content": { JSON: { "schema": schema } },
        });
        if let Some(example) = examples::request(operation.id) {
            written["requestBody"]["content"][JSON]["example"] = example;
        }
    }
    written["security"] = if operation.takes_key {
        // A deployment without authentication takes requests without a key, too.
        json!([{ "apiKey": [] }, {}])
    } else {
        json!([])
    };
    written
}

/// What can be said with one status.
#[derive(Default)]
struct Response {
    abouts: Vec<&'static str>,
    schemas: Vec<Value>,
    headers: BTreeMap<&'static str, Value>,
    /// What kind of text the body is, if it isn't JSON.
    kind: Option<&'static str>,
    example: Option<Value>,
}

/// All answers by status. One status may have several reasons, and bodies.
fn responses(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut by_status: BTreeMap<String, Response> = BTreeMap::new();
    for reply in operation.replies {
        let response = by_status.entry(reply.status.to_string()).or_default();
        response.abouts.push(reply.about);
        response.kind = reply.kind;
        response.example = examples::reply(operation.id, &reply.status.to_string());
        for body in reply.bodies {
            let schema = body(schemas);
            response.schemas.push(schema);
        }
        if reply.gives_validity {
            let about = "`everlock;dur=` and the milliseconds from the request's arrival to the moment \
                         from which `validity` counts. Only where the lock is held.";
            response
                .headers
                .insert("Server-Timing", problems::header(about));
        }
        if reply.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
            response.headers.extend([problems::retry_after()]);
        }
    }
    for kind in operation.problems {
        let status = kind.status().as_u16().to_string();
        let response = by_status.entry(status).or_default();
        response.abouts.push(problems::about(*kind));
        let schema = problems::schema(operation.route.verb(), schemas);
        if !response.schemas.contains(&schema) {
            response.schemas.push(schema);
        }
        response.headers.extend(problems::headers(*kind));
    }
    let written = by_status
        .into_iter()
        .map(|(status, response)| (status, response.written()));
    Value::Object(written.collect())
}

impl Response {
    fn written(mut self) -> Value {
        let id = problems::header("The request's id, as it stands in the proxy's log.");
        self.headers.insert("x-request-id", id);
        let mut written = json!({
            "description": self.abouts.join(" "),
            "headers": self.headers,
        });
        let schema = match self.schemas.as_slice() {
            [] => return written,
            [only] => only.clone(),
            // Not oneOf: what says more than a problem says that, too.
            several => json!({ "anyOf": several }),
        };
        let kind = self.kind.unwrap_or(JSON);
        written["content"] = json!({ kind: { "schema": schema } });
        if let Some(example) = self.example {
            written["content"][kind]["example"] = example;
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::ROUTES;

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let committed = include_str!("../../docs/openapi.json");
        assert!(
            committed == text(),
            "docs/openapi.json is out of date: everlock openapi > docs/openapi.json"
        );
    }

    #[test]
    fn every_method_of_every_route_is_in_the_document_and_nothing_else() {
        let mut routed = Vec::new();
        for (path, route) in ROUTES {
            let methods = route.allow().split(", ").filter(|method| *method != "HEAD");
            routed.extend(methods.map(|method| (path.to_owned(), method.to_lowercase())));
        }
        let mut written = Vec::new();
        for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
            let methods = methods.as_object().unwrap().keys();
            written.extend(methods.map(|method| (path.clone(), method.clone())));
        }
        routed.sort();
        written.sort();
        assert_eq!(routed, written);
    }

    #[test]
    fn the_document_refers_to_nothing_that_it_does_not_hold() {
        let text = text();
        let mut refs = 0;
        for (at, start) in text.match_indices("#/components/schemas/") {
            let name = text[at + start.len()..].split('"').next().unwrap();
            let schema = &DOCUMENT["components"]["schemas"][name];
            assert!(schema.is_object(), "{name} is missing");
            refs += 1;
        }
        assert!(refs > 20, "only {refs} references were found");
    }
}
