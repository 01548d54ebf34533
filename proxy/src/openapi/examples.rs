//! Examples in the document: a request for each operation that reads one, and what is answered.
//!
//! Tests hold them against the schemas, and send the requests to a proxy.

use serde_json::{Value, json};

const UUID: &str = "0192f0c1-7a52-7cc4-9d0e-3f5a2b1c4d5e";
const TOKEN: u64 = 1_795_304_121_971_545;

/// The request of the operation of this id.
pub(super) fn request(id: &str) -> Option<Value> {
    Some(match id {
        "acquire" => json!({ "key": "orders:42", "lease": 30_000, "uuid": UUID }),
        "extend" => json!({ "key": "orders:42", "extendBy": 30_000, "uuid": UUID }),
        "release" => json!({ "key": "orders:42", "uuid": UUID }),
        "createApiKey" => json!({ "licenceKey": "your-licence-key" }),
        "deleteApiKey" => json!({ "licenceKey": "your-licence-key", "apiKey": "everlock_…" }),
        _ => return None,
    })
}

/// What it answers with this status.
pub(super) fn reply(id: &str, status: &str) -> Option<Value> {
    Some(match (id, status) {
        ("acquire", "200") => json!({
            "acquired": true, "lockAcquisitionAttempts": 1, "config": config(10),
            "message": null, "fencingToken": TOKEN, "validity": 29_694,
        }),
        ("acquire", "409") => json!({
            "acquired": false, "lockAcquisitionAttempts": 11, "config": config(10),
            "message": "the lock is held", "retryAfter": 11_342,
        }),
        ("extend", "200") => json!({ "extended": true, "message": null, "validity": 55_107 }),
        ("release", "200") => json!({ "released": true, "message": null }),
        ("createApiKey", "200") => json!({ "apiKey": "everlock_…" }),
        ("usage", "200") => json!({
            "identity": "acme", "period": "2026-11",
            "attempts": 5, "allowance": 1_000, "remaining": 995,
        }),
        ("healthz", "200") => json!({ "status": "ok" }),
        ("readyz", "200") => json!({
            "ready": true, "status": "ready", "quorum": 2,
            "nodes": [
                { "node": "10.0.0.1:6379", "state": "up" },
                { "node": "10.0.0.2:6379", "state": "up" },
                { "node": "10.0.0.3:6379", "state": "guarded", "votesIn": 271_345,
                  "why": "the server was restarted" },
            ],
        }),
        _ => return None,
    })
}

fn config(retries: u64) -> Value {
    json!({
        "key": "orders:42", "lease": 30_000, "retryAttempts": retries, "retryDelay": 500,
        "uuid": UUID, "retryJitter": 0, "fifo": false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::DOCUMENT;
    use super::*;

    /// Demands that an example fits its schema.
    fn fits(example: &Value, schema: &Value, of: &str) {
        let mut schema = schema.clone();
        schema["components"] = DOCUMENT["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(example)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{of}: {errors:?}");
    }

    #[test]
    fn every_example_of_the_document_fits_its_schema() {
        let mut seen = 0;
        let paths = DOCUMENT["paths"].as_object().unwrap();
        for operation in paths
            .values()
            .flat_map(|of| of.as_object().unwrap().values())
        {
            let request = &operation["requestBody"];
            let responses = operation["responses"].as_object().unwrap();
            let bodies = responses.values().chain([request]);
            for body in bodies.map(|body| &body["content"]["application/json"]) {
                if let Some(example) = body.get("example") {
                    fits(
                        example,
                        &body["schema"],
                        &operation["operationId"].to_string(),
                    );
                    seen += 1;
                }
            }
            let wanted = request.is_object();
            let given = &request["content"]["application/json"]["example"];
            assert_eq!(given.is_object(), wanted, "{}", operation["operationId"]);
        }
        assert!(seen >= 13, "only {seen} examples");
    }
}
