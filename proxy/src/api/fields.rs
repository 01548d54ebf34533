//! A request's JSON object, and typed access to its fields.
//!
//! No field may be given twice, since readers would differ on which counts.
//! Fields that nobody asks for are ignored, so that newer clients can talk to
//! older proxies. `null` is the same as not given. Numbers may be integral
//! floats. Every message names the field and its bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use crate::problem::Problem;

/// 2^53: below it every whole number is exactly itself as a float, too.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
/// A message shows this much of a wrong value at most.
const SHOWN_BYTES: usize = 32;
/// And this much of what the JSON reader says.
const SHOWN_ERROR_BYTES: usize = 160;

/// The fields of a request.
#[derive(Debug)]
pub(crate) struct Fields(BTreeMap<String, Value>);

impl Fields {
    /// Reads a JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Problem> {
        // Without one, the reader would complain about the end of the input.
        if body.is_empty() {
            return Err(Problem::bad_request(
                "the body is empty: it must be a JSON object",
            ));
        }
        serde_json::from_slice(body).map_err(|error| {
            // The reader quotes a text that stands in the place of the object, whole.
            let why = shortened(&error.to_string(), SHOWN_ERROR_BYTES);
            Problem::bad_request(format!("the body is not a JSON object: {why}"))
        })
    }

    /// A text of so many bytes.
    pub(crate) fn text(&self, field: &str, most: usize) -> Result<Option<&str>, Problem> {
        let wrong = |what: &str| {
            let message = format!("{field} {what}: it takes a text of 1 to {most} bytes");
            Err(Problem::bad_request(message))
        };
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => wrong("is empty"),
            Some(Value::String(text)) if text.len() > most => {
                wrong(&format!("has {} bytes", text.len()))
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => wrong(&format!("is {}", kind(other))),
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, field: &str, most: usize) -> Result<&str, Problem> {
        self.text(field, most)?
            .ok_or_else(|| missing(field, &format!("a text of 1 to {most} bytes")))
    }

    /// A whole number within bounds.
    pub(crate) fn whole(
        &self,
        field: &str,
        bounds: &RangeInclusive<u64>,
    ) -> Result<Option<u64>, Problem> {
        let wrong = |what: &str| {
            let message = format!("{field} {what}: it takes {}", range(bounds));
            Err(Problem::bad_request(message))
        };
        let number = match self.value(field) {
            None => return Ok(None),
            Some(Value::Number(number)) => number,
            Some(other) => return wrong(&format!("is {}", kind(other))),
        };
        let shown = || shortened(&number.to_string(), SHOWN_BYTES);
        let whole = match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => whole,
            (None, Some(float)) if float.fract() != 0.0 => {
                return wrong(&format!("is {}, which is not whole", shown()));
            }
            (None, Some(float)) if (0.0..=MAX_EXACT).contains(&float) => exact(float),
            _ => return wrong(&format!("is {}", shown())),
        };
        if bounds.contains(&whole) {
            Ok(Some(whole))
        } else {
            wrong(&format!("is {}", shown()))
        }
    }

    /// A whole number that must be there.
    pub(crate) fn required_whole(
        &self,
        field: &str,
        bounds: &RangeInclusive<u64>,
    ) -> Result<u64, Problem> {
        self.whole(field, bounds)?
            .ok_or_else(|| missing(field, &range(bounds)))
    }

    /// True or false; false if it is not given.
    pub(crate) fn flag(&self, field: &str) -> Result<bool, Problem> {
        match self.value(field) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => {
                let message = format!("{field} is {}: it takes true or false", kind(other));
                Err(Problem::bad_request(message))
            }
        }
    }

    fn value(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the caller has seen that it is whole, not negative and below 2^53"
)]
const fn exact(float: f64) -> u64 {
    float as u64
}

fn missing(field: &str, takes: &str) -> Problem {
    Problem::bad_request(format!("{field} is missing: it takes {takes}"))
}

fn range(bounds: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", bounds.start(), bounds.end())
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.insert(name, value).is_some() {
                        return Err(A::Error::custom("a field is given twice"));
                    }
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
