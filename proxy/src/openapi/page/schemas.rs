//! Schemas as lists of fields: type, bounds, default and meaning of each.

use std::fmt::Write as _;

use serde_json::Value;

use super::html::{code, escaped, prose};

/// The name of the schema that is referred to.
pub(super) fn name_of(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

/// A link to it.
pub(super) fn link(schema: &Value) -> Option<String> {
    let name = escaped(name_of(schema)?);
    Some(format!("<a href=\"#schema-{name}\">{name}</a>"))
}

/// All fields of an object, those that must be there first.
pub(super) fn fields(schema: &Value) -> String {
    let Some(properties) = schema["properties"].as_object() else {
        return String::new();
    };
    let required: Vec<_> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let (must, may): (Vec<_>, Vec<_>) = properties
        .iter()
        .partition(|(name, _)| required.contains(&&Value::from(name.as_str())));
    let mut all = String::from("<dl class=\"rows\">\n");
    for (name, field) in must.iter().chain(&may) {
        let is_required = required.contains(&&Value::from(name.as_str()));
        let about = prose(field["description"].as_str().unwrap_or_default());
        let _ = writeln!(
            all,
            "<div><dt>{} {}</dt><dd><p>{about}</p><p class=\"aside\">{}</p></dd></div>",
            code(name),
            if is_required {
                ""
            } else {
                "<span class=\"aside\">may be left out</span>"
            },
            details(field)
        );
    }
    all.push_str("</dl>\n");
    all
}

/// Type, bounds and default.
fn details(field: &Value) -> String {
    let mut parts = vec![kind(field)];
    let number = |name: &str| field[name].as_u64();
    match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) => parts.push(format!("{} to {}", grouped(least), grouped(most))),
        (Some(least), None) => parts.push(format!("{} or more", grouped(least))),
        (None, Some(most)) => parts.push(format!("up to {}", grouped(most))),
        (None, None) => {}
    }
    if let (Some(least), Some(most)) = (number("minLength"), number("maxLength")) {
        parts.push(format!("{} to {} bytes", grouped(least), grouped(most)));
    }
    if let Some(default) = field.get("default") {
        parts.push(format!("default {}", code(&default.to_string())));
    }
    parts.join(" · ")
}

fn kind(field: &Value) -> String {
    if let Some(link) = link(field) {
        return link;
    }
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<_> = values
            .iter()
            .map(|value| code(&value.to_string()))
            .collect();
        return values.join(" or ");
    }
    if let Some(item) = field.get("items") {
        return format!("list of {}", kind(item));
    }
    match &field["type"] {
        Value::String(one) => escaped(one),
        Value::Array(several) => {
            let names: Vec<_> = several
                .iter()
                .filter_map(Value::as_str)
                .map(escaped)
                .collect();
            names.join(" or ")
        }
        _ => "any".to_owned(),
    }
}

/// Digits in groups of three, with thin spaces between them.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds_and_defaults_are_told() {
        let field = json!({"type": ["integer", "null"], "minimum": 10, "maximum": 43_200_000, "default": 10_000});
        assert_eq!(
            details(&field),
            "integer or null · 10 to 43\u{202f}200\u{202f}000 · default <code>10000</code>"
        );
        let field = json!({"type": "string", "minLength": 1, "maxLength": 512});
        assert_eq!(details(&field), "string · 1 to 512 bytes");
        let nested = json!({"type": "array", "items": {"$ref": "#/components/schemas/Node"}});
        assert_eq!(
            details(&nested),
            "list of <a href=\"#schema-Node\">Node</a>"
        );
    }
}
