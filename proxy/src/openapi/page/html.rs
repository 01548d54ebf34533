//! Texts as HTML. Whatever comes out of here has no markup but ours.

use serde_json::Value;

/// A text, in an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// A text as code.
pub(super) fn code(text: &str) -> String {
    format!("<code>{}</code>", escaped(text))
}

/// A text in which backquotes enclose code.
pub(super) fn prose(text: &str) -> String {
    let mut out = String::new();
    for (turn, part) in text.split('`').enumerate() {
        if turn % 2 == 0 {
            out.push_str(&escaped(part));
        } else {
            out.push_str(&code(part));
        }
    }
    out
}

/// JSON as people write it: what is short stays on one line.
pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value is written without fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(
            prose("a <b> & `c \"<d>\"` e"),
            "a &lt;b&gt; &amp; <code>c &quot;&lt;d&gt;&quot;</code> e"
        );
    }
}
