//! The document of the API says what the proxy does: answers fit its schemas,
//! its bounds and defaults are those that are enforced.

use std::process::Command;

use everlock_testkit::RedisCluster;
use serde_json::{Value, json};

use crate::support::{Answer, BINARY, Client, Local, Proxy, SOON};

const LOCK_ROUTES: [&str; 3] = ["acquire", "extend", "release"];

/// The document, as a proxy serves it.
struct Document(Value);

impl Document {
    async fn of(client: &Client) -> Self {
        let answer = client.get("/openapi.json").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        Self(answer.json)
    }

    /// Demands that the answer is one that the document foresees, and has no field that it lacks.
    fn foresees(&self, method: &str, path: &str, answer: &Answer) {
        let status = answer.status.to_string();
        let response = &self.0["paths"][path][method]["responses"][&status];
        assert!(response.is_object(), "{method} {path} {status}: {answer:?}");
        for name in response["headers"].as_object().unwrap().keys() {
            // A status may have reasons of which only some say when to ask again; and who holds
            // nothing is told of no validity.
            let optional = match name.as_str() {
                "Retry-After" => true,
                "Server-Timing" => answer.json.get("validity").is_none(),
                _ => false,
            };
            assert!(
                answer.header(name).is_some() || optional,
                "{name}: {answer:?}"
            );
        }
        let mut schema = response["content"]["application/json"]["schema"].clone();
        schema["components"] = self.0["components"].clone();
        close(&mut schema);
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&answer.json)
            .map(|error| error.to_string())
            .collect();
        assert!(
            errors.is_empty(),
            "{method} {path} {status} {}: {errors:?}",
            answer.text
        );
    }

    /// The schema of a lock route's request.
    fn request(&self, route: &str) -> &Value {
        let operation = &self.0["paths"][format!("/lock/{route}")]["post"];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        &self.0["components"]["schemas"][name]
    }
}

/// Forbids fields that an object's schema does not list.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("object")) && fields.contains_key("properties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_served_and_printed() {
    let proxy = Local::start(&[]).await;
    let served = Document::of(&proxy.client()).await.0;
    let printed = Command::new(BINARY).arg("openapi").output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed, served);
    assert_eq!(served["openapi"], "3.1.0");
}

#[tokio::test]
async fn every_answer_of_the_lock_operations_is_foreseen() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let document = Document::of(&client).await;
    let check = async |route: &str, expected: u16, body: Value| {
        let path = format!("/lock/{route}");
        let answer = client.post(&path, body.to_string()).await;
        assert_eq!(answer.status, expected, "{route} {body}: {answer:?}");
        document.foresees("post", &path, &answer);
    };
    let first = json!({"key": "k", "uuid": "a", "lease": 60_000});
    check("acquire", 200, first.clone()).await;
    check("acquire", 200, first).await;
    let mut second = json!({"key": "k", "uuid": "b", "retryAttempts": 0});
    check("acquire", 409, second.clone()).await;
    second["fifo"] = json!(true);
    check("acquire", 409, second.clone()).await;
    second["softFail"] = json!(true);
    check("acquire", 200, second).await;
    for (route, more) in [("extend", json!(1_000)), ("release", Value::Null)] {
        for (key, uuid, expected) in [("k", "b", 409), ("x", "a", 404), ("k", "a", 200)] {
            let mut body = json!({"key": key, "uuid": uuid, "extendBy": more});
            if expected != 200 {
                body["softFail"] = json!(true);
                check(route, 200, body.clone()).await;
                body["softFail"] = json!(false);
            }
            check(route, expected, body).await;
        }
    }
    for route in LOCK_ROUTES {
        check(route, 400, json!({})).await;
        check(route, 413, json!({"key": "k".repeat(100_000)})).await;
        let path = format!("/lock/{route}");
        let answer = client
            .send("POST", &path, &[("content-type", "text/plain")], "{}")
            .await;
        assert_eq!(answer.status, 415);
        document.foresees("post", &path, &answer);
    }
    for path in ["/usage", "/healthz", "/readyz", "/openapi.json"] {
        document.foresees("get", path, &client.get(path).await);
    }
}

#[tokio::test]
async fn the_answers_of_an_outage_are_foreseen() {
    let nodes = RedisCluster::start(3);
    let proxy = Proxy::over(&nodes, &[]).await.ready().await;
    let client = proxy.client();
    let document = Document::of(&client).await;
    (0..3).for_each(|node| nodes.kill(node));
    client.until_ready(503).await;
    document.foresees("get", "/readyz", &client.get("/readyz").await);
    for route in LOCK_ROUTES {
        for (soft, expected) in [(false, 503), (true, 200)] {
            let body = json!({
                "key": "k", "uuid": "u", "extendBy": 10, "retryAttempts": 0, "softFail": soft,
            });
            let path = format!("/lock/{route}");
            let answer = client.post(&path, body.to_string()).await;
            assert_eq!(answer.status, expected, "{answer:?}");
            document.foresees("post", &path, &answer);
        }
    }
}

#[tokio::test]
async fn the_bounds_of_the_document_are_those_that_are_enforced() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let document = Document::of(&client).await;
    let mut checked = 0;
    for route in LOCK_ROUTES {
        let request = document.request(route);
        let required = request["required"].as_array().unwrap();
        for (field, schema) in request["properties"].as_object().unwrap() {
            let is_required = required.contains(&json!(field));
            for (value, fits) in probes(field, schema, is_required) {
                let mut body = json!({
                    "key": "k", "uuid": "u", "lease": 1_000, "extendBy": 10,
                    "retryAttempts": 0, "retryDelay": 0, "retryJitter": 0,
                });
                body[field] = value;
                let path = format!("/lock/{route}");
                let answer = client.post(&path, body.to_string()).await;
                let sent = body.to_string();
                let sent = &sent[..sent.len().min(200)];
                assert_eq!(answer.status != 400, fits, "{route} {sent}: {answer:?}");
                assert!(
                    fits || answer.message().contains(field.as_str()),
                    "{answer:?}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} values were sent");
}

/// Values of a field, and whether the document allows them.
fn probes(field: &str, schema: &Value, required: bool) -> Vec<(Value, bool)> {
    let of_type = |name: &str| schema["type"] == name || schema["type"] == json!([name, "null"]);
    let mut probes = vec![(json!(null), !required), (json!([]), false)];
    if of_type("integer") {
        let bound = |name: &str| schema[name].as_i64().unwrap();
        let (least, most) = (bound("minimum"), bound("maximum"));
        let ends = [(least, true), (least - 1, false), (most + 1, false)];
        probes.extend(ends.map(|(value, fits)| (json!(value), fits)));
        #[allow(clippy::cast_precision_loss, reason = "the bounds are small")]
        probes.push((json!(least as f64), true));
        // Of these, a deployment may take less.
        if !["lease", "extendBy"].contains(&field) {
            probes.push((json!(most), true));
        }
    } else if of_type("string") {
        let bound = |name: &str| usize::try_from(schema[name].as_u64().unwrap()).unwrap();
        assert_eq!(bound("minLength"), 1);
        let of = |length: usize| json!("x".repeat(length));
        let most = bound("maxLength");
        probes.extend([(of(most), true), (of(most + 1), false), (of(0), false)]);
    } else {
        assert!(of_type("boolean"), "{field}: {schema}");
        probes.extend([
            (json!(false), true),
            (json!("true"), false),
            (json!(0), false),
        ]);
    }
    probes
}

#[tokio::test]
async fn the_defaults_of_the_document_are_those_that_are_taken() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let document = Document::of(&client).await;
    let taken = client.acquire(json!({"key": "k"})).await.json["config"].clone();
    let mut compared = 0;
    for (field, schema) in document.request("acquire")["properties"]
        .as_object()
        .unwrap()
    {
        if let (Some(default), Some(taken)) = (schema.get("default"), taken.get(field)) {
            assert_eq!(default, taken, "{field}");
            compared += 1;
        }
    }
    assert_eq!(compared, 5, "{taken}");
}

#[tokio::test]
async fn the_page_for_people_is_served_with_a_policy_that_lets_it_run_itself_alone() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let page = client.get("/docs").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"));
    for never in ["unsafe", "'self'", "http", "*"] {
        assert!(!policy.contains(never), "{policy}");
    }
    let head = client.send("HEAD", "/docs", &[], "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(
        head.header("content-length"),
        Some(&*page.text.len().to_string())
    );
    let refused = client.post("/docs", "{}").await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(refused.header("content-type"), Some("application/json"));
    assert_eq!(client.get("/docs/").await.status, 404);
    // What anybody may ask for at any time is bounded.
    assert!(page.text.len() < 150_000, "{} bytes", page.text.len());
}

#[tokio::test]
async fn with_api_keys_the_page_needs_none_and_shows_where_they_go() {
    let secrets = "0123456789abcdef0123456789abcdef";
    let args = [
        "serve",
        "--dev",
        "--listen",
        "127.0.0.1:0",
        "--auth",
        "keys",
    ];
    let proxy = Proxy::spawn(&args, &[("EVERLOCK_API_KEY_SECRETS", secrets)]).await;
    let page = proxy.client().get("/docs").await;
    assert_eq!(page.status, 200);
    assert!(
        page.text
            .contains("Authorization: Bearer $EVERLOCK_API_KEY")
    );
}

#[tokio::test]
async fn every_line_for_a_shell_on_the_page_works_as_it_stands() {
    let proxy = Local::start(&[]).await;
    let client = proxy.client();
    let page = client.get("/docs").await.text;
    let mut answered = Vec::new();
    for part in page.split("-curl\">").skip(1) {
        let line = part.split("</code>").next().unwrap();
        let line = line
            .replace("<span class=\"base\">", "")
            .replace("</span>", "");
        let line = line.replace("&quot;", "\"").replace("&amp;", "&");
        assert!(!line.contains('<') && !line.contains("&lt;"), "{line}");
        let line = line.replace("127.0.0.1:8080", &client.addr().to_string());
        let line = format!("{line} --silent --output /dev/null --write-out '%{{http_code}}'");
        let ran = tokio::process::Command::new("sh")
            .args(["-c", &line])
            .output();
        let ran = tokio::time::timeout(SOON, ran).await.unwrap().unwrap();
        assert!(ran.status.success(), "{line}: {ran:?}");
        answered.push(String::from_utf8(ran.stdout).unwrap());
    }
    // There are no licences here, so making and deleting a key is nothing that there is.
    let expected = [
        "200", "200", "200", "404", "404", "200", "200", "200", "200", "200",
    ];
    assert_eq!(answered, expected);
}
