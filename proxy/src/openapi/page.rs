//! The document as a page for people, at `/docs`.
//!
//! It is written from the very document that machines get, so that it can't say
//! anything else. It is one answer: sheet and script stand in it, and its policy
//! names them by their hashes, so nothing else can be run or fetched, not even
//! from this proxy. Without the script it says the same; what is lost is the
//! button that copies a line, and the address that the page came from.
//!
//! Not a viewer of others: those that are kept well weigh one to three megabytes
//! of script, to be kept up to date for nine operations, and want policies that
//! allow inline styles at least.

mod html;
mod schemas;

use std::fmt::Write as _;
use std::sync::LazyLock;

use data_encoding::BASE64;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use ring::digest;
use serde_json::Value;

use self::html::{code, escaped, pretty, prose};
use self::schemas::{fields, link, name_of};
use super::{DOCUMENT, OPERATIONS, Operation};
use crate::answer::Answer;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");
const ICON: &str = include_str!("../admin/console/page/icon.svg");

/// What lines for a shell show of deployments that demand an API key.
const KEY_HEADER: &str = "--header \"Authorization: Bearer $EVERLOCK_API_KEY\"";

/// Written once for deployments with API keys, and once for those without.
static PAGES: LazyLock<[Answer; 2]> = LazyLock::new(|| [false, true].map(written));

/// The answer to who asks the proxy for it. With keys, the examples show one.
pub(crate) fn answer(demands_key: bool) -> Answer {
    PAGES[usize::from(demands_key)].clone()
}

fn written(demands_key: bool) -> Answer {
    Answer {
        body: page(demands_key).into(),
        page_policy: Some(policy()),
        ..Answer::empty(StatusCode::OK)
    }
}

/// What the page may do: nothing but what stands in it.
fn policy() -> HeaderValue {
    let hash =
        |text: &str| BASE64.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let text = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::try_from(text).expect("hashes in base64 are visible ASCII")
}

fn page(demands_key: bool) -> String {
    let info = &DOCUMENT["info"];
    let version = escaped(text(&info["version"]));
    let icon = BASE64.encode(ICON.as_bytes());
    let mut all = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>everlock HTTP API {version}</title>\n\
         <link rel=\"icon\" type=\"image/svg+xml\" href=\"data:image/svg+xml;base64,{icon}\">\n\
         <style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n\
         <header><h1>everlock HTTP API</h1><p class=\"aside\">version {version} · the same for \
         machines: <a href=\"/openapi.json\">openapi.json</a></p></header>\n"
    );
    contents(&mut all);
    let about = prose(text(&info["description"]));
    let _ = write!(
        all,
        "<main id=\"main\" tabindex=\"-1\">\n<p class=\"lead\">{about}</p>\n"
    );
    for operation in OPERATIONS {
        section(&mut all, operation, demands_key);
    }
    all.push_str("<h2 id=\"schemas\">Bodies</h2>\n");
    let schemas = DOCUMENT["components"]["schemas"].as_object();
    for (name, schema) in schemas.into_iter().flatten() {
        let _ = write!(
            all,
            "<section class=\"schema\" id=\"schema-{0}\"><h3>{0}</h3>\n<p>{1}</p>\n{2}</section>\n",
            escaped(name),
            prose(text(&schema["description"])),
            fields(schema)
        );
    }
    let _ = write!(
        all,
        "</main>\n<p id=\"said\" class=\"hidden\" role=\"status\"></p>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    all
}

/// The list of operations, to go to one.
fn contents(all: &mut String) {
    all.push_str("<nav aria-label=\"Operations\"><ul>\n");
    for operation in OPERATIONS {
        let _ = writeln!(
            all,
            "<li><a href=\"#{}\">{} <code>{}</code></a></li>",
            operation.id,
            method(operation),
            escaped(operation.route.path())
        );
    }
    all.push_str("<li><a href=\"#schemas\">Bodies</a></li>\n</ul></nav>\n");
}

fn method(operation: &Operation) -> String {
    let name = operation.method;
    let upper = name.to_uppercase();
    format!("<span class=\"method {name}\">{upper}</span>")
}

fn section(all: &mut String, operation: &Operation, demands_key: bool) {
    let (id, path) = (operation.id, operation.route.path());
    let written = &DOCUMENT["paths"][path][operation.method];
    let _ = write!(
        all,
        "<section id=\"{id}\" aria-labelledby=\"{id}-h\">\n<h2 id=\"{id}-h\">{} <code>{}</code> \
         <span class=\"what\">{}</span></h2>\n<p>{}</p>\n",
        method(operation),
        escaped(path),
        escaped(operation.summary),
        prose(operation.about)
    );
    if operation.takes_key {
        all.push_str(
            "<p class=\"aside\">Done for the holder of an API key, where the deployment has them: \
             <code>Authorization: Bearer …</code></p>\n",
        );
    }
    let request = &written["requestBody"]["content"]["application/json"];
    curl(all, operation, request.get("example"), demands_key);
    if let Some(name) = name_of(&request["schema"]) {
        let schema = &DOCUMENT["components"]["schemas"][name];
        let _ = write!(all, "<h3>Fields of the request</h3>\n{}", fields(schema));
    }
    answers(all, &written["responses"]);
    all.push_str("</section>\n");
}

/// A line for a shell, as it can be pasted.
fn curl(all: &mut String, operation: &Operation, example: Option<&Value>, demands_key: bool) {
    let mut line = format!(
        "curl <span class=\"base\">{}</span>{}",
        escaped(text(&DOCUMENT["servers"][0]["url"])),
        escaped(operation.route.path())
    );
    // A body makes a POST of it.
    if !["get", "post"].contains(&operation.method) {
        let _ = write!(line, " --request {}", operation.method.to_uppercase());
    }
    if let Some(example) = example {
        let _ = write!(line, " \\\n  --json '{}'", escaped(&example.to_string()));
    }
    if demands_key && operation.takes_key {
        let _ = write!(line, " \\\n  {}", escaped(KEY_HEADER));
    }
    let id = operation.id;
    let _ = writeln!(
        all,
        "<div class=\"curl\"><pre tabindex=\"0\" role=\"region\" aria-label=\"Example of {id}\">\
         <code id=\"{id}-curl\">{line}</code></pre><button type=\"button\" data-copies=\"{id}-curl\" \
         aria-label=\"Copy the example of {id}\" hidden>Copy</button></div>"
    );
}

/// What is answered: each status, what it means, its body and its headers.
fn answers(all: &mut String, responses: &Value) {
    all.push_str("<h3>Answers</h3>\n<dl class=\"rows\">\n");
    for (status, response) in responses.as_object().into_iter().flatten() {
        let kind = if status.starts_with('2') {
            "good"
        } else {
            "bad"
        };
        let _ = write!(
            all,
            "<div><dt><span class=\"status {kind}\">{status}</span></dt><dd><p>{}</p>",
            prose(text(&response["description"]))
        );
        let content = response["content"].as_object();
        for (kind, content) in content.into_iter().flatten() {
            let schema = &content["schema"];
            let one = [schema.clone()];
            let several = schema["anyOf"].as_array().map_or(&one[..], Vec::as_slice);
            let links: Vec<_> = several.iter().filter_map(link).collect();
            let what = if links.is_empty() {
                escaped(kind)
            } else {
                links.join(" or ")
            };
            let _ = write!(all, "<p class=\"aside\">Body: {what}</p>");
            if let Some(example) = content.get("example") {
                let _ = write!(all, "<pre tabindex=\"0\">{}</pre>", code(&pretty(example)));
            }
        }
        headers(all, &response["headers"]);
        all.push_str("</dd></div>\n");
    }
    all.push_str("</dl>\n");
}

/// Headers of one answer, but for the one that all have.
fn headers(all: &mut String, headers: &Value) {
    let headers = headers.as_object().into_iter().flatten();
    for (name, header) in headers.filter(|(name, _)| *name != "x-request-id") {
        let about = prose(text(&header["description"]));
        let name = escaped(name);
        let _ = write!(
            all,
            "<p class=\"aside\">Header <code>{name}</code>: {about}</p>"
        );
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_field_status_and_body_of_the_document_is_on_the_page() {
        let page = page(false);
        let mut seen = 0;
        let mut shows = |what: String| {
            assert!(page.contains(&what), "{what} is missing");
            seen += 1;
        };
        for (path, methods) in DOCUMENT["paths"].as_object().unwrap() {
            for operation in methods.as_object().unwrap().values() {
                shows(format!("<code>{path}</code>"));
                shows(format!("<section id={}", operation["operationId"]));
                shows(escaped(text(&operation["summary"])));
                for (status, response) in operation["responses"].as_object().unwrap() {
                    shows(format!(">{status}</span>"));
                    shows(prose(text(&response["description"])));
                }
            }
        }
        for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
            shows(format!("id=\"schema-{name}\""));
            for (field, about) in schema["properties"].as_object().into_iter().flatten() {
                shows(format!("<code>{field}</code>"));
                shows(prose(text(&about["description"])));
            }
        }
        assert!(seen > 200, "only {seen} things were looked for");
    }

    #[test]
    fn the_page_names_no_other_host_and_makes_no_markup_of_texts() {
        for page in [page(false), page(true)] {
            let hosts = page.matches("://").count();
            let own = page.matches("http://127.0.0.1:8080").count();
            assert_eq!(hosts, own, "another host is named");
        }
        for bad in ["innerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!SCRIPT.contains(bad), "{bad}");
        }
    }

    #[test]
    fn examples_show_a_key_where_one_is_demanded_only() {
        let (open, guarded) = (page(false), page(true));
        assert!(!open.contains("EVERLOCK_API_KEY"));
        let takers = OPERATIONS.iter().filter(|operation| operation.takes_key);
        assert_eq!(guarded.matches("$EVERLOCK_API_KEY").count(), takers.count());
    }

    #[test]
    fn links_within_the_page_lead_somewhere() {
        let page = page(false);
        let mut links = 0;
        for link in page.split("href=\"#").skip(1) {
            let id = link.split('"').next().unwrap();
            assert!(page.contains(&format!("id=\"{id}\"")), "#{id} is nowhere");
            links += 1;
        }
        assert!(links > 40, "only {links} links");
    }
}
