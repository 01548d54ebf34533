//! Which fields a request takes: one description, by which requests are read
//! and from which the document of the API is written.
//!
//! Invariant: what a field's description says is what its reader enforces; a
//! deployment can only narrow the upper bound of a number.

use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, SchemaType, Type};

use super::Fields;
use crate::problem::Problem;

/// A request body.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) fields: &'static [Field],
}

/// One of its fields.
#[derive(Debug)]
pub(crate) enum Field {
    /// A text that must be there.
    Text(&'static Text),
    /// A text that may be there.
    MaybeText(&'static Text),
    /// A number that must be there.
    Whole(&'static Whole),
    /// A number that may be there.
    MaybeWhole(&'static Whole),
    /// True or false; false if it is not given.
    Flag(&'static Flag),
}

/// A text of 1 to so many bytes.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) name: &'static str,
    pub(crate) most: usize,
    pub(crate) about: &'static str,
}

/// A whole number within bounds.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) name: &'static str,
    pub(crate) least: u64,
    pub(crate) most: u64,
    pub(crate) default: Option<u64>,
    pub(crate) about: &'static str,
}

/// True or false.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

impl Text {
    pub(crate) fn read<'a>(&self, fields: &'a Fields) -> Result<&'a str, Problem> {
        fields.required_text(self.name, self.most)
    }

    pub(crate) fn read_if_given<'a>(&self, fields: &'a Fields) -> Result<Option<&'a str>, Problem> {
        fields.text(self.name, self.most)
    }

    fn schema(&self) -> ObjectBuilder {
        // A text has no more characters than bytes; that it is bytes which count stands in `about`.
        typed(Type::String, self.about)
            .min_length(Some(1))
            .max_length(Some(self.most))
    }
}

impl Whole {
    /// Reads one that must be there, of which this deployment takes up to `most`.
    pub(crate) fn read_up_to(&self, fields: &Fields, most: u64) -> Result<u64, Problem> {
        fields.required_whole(self.name, &(self.least..=most.min(self.most)))
    }

    /// Reads one of which this deployment takes up to `most`; without it, the default counts.
    pub(crate) fn read_or_default_up_to(&self, fields: &Fields, most: u64) -> Result<u64, Problem> {
        let most = most.min(self.most);
        let given = fields.whole(self.name, &(self.least..=most))?;
        Ok(given.unwrap_or_else(|| self.default.unwrap_or(self.least).min(most)))
    }

    pub(crate) fn read_or_default(&self, fields: &Fields) -> Result<u64, Problem> {
        self.read_or_default_up_to(fields, self.most)
    }

    fn schema(&self) -> ObjectBuilder {
        typed(Type::Integer, self.about)
            .minimum(Some(exact(self.least)))
            .maximum(Some(exact(self.most)))
            .default(self.default.map(Into::into))
    }
}

impl Flag {
    pub(crate) fn read(&self, fields: &Fields) -> Result<bool, Problem> {
        fields.flag(self.name)
    }

    fn schema(&self) -> ObjectBuilder {
        typed(Type::Boolean, self.about).default(Some(false.into()))
    }
}

impl Shape {
    /// The request's schema. Fields besides these are ignored, not refused.
    pub(crate) fn schema(&self) -> Schema {
        let mut object = ObjectBuilder::new().description(Some(self.about));
        for field in self.fields {
            object = match field {
                Field::Text(text) => object
                    .property(text.name, text.schema())
                    .required(text.name),
                Field::Whole(whole) => object
                    .property(whole.name, whole.schema())
                    .required(whole.name),
                Field::MaybeText(text) => object.property(text.name, or_null(text.schema())),
                Field::MaybeWhole(whole) => object.property(whole.name, or_null(whole.schema())),
                Field::Flag(flag) => object.property(flag.name, or_null(flag.schema())),
            };
        }
        object.into()
    }
}

fn typed(kind: Type, about: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(kind)
        .description(Some(about))
}

/// `null` is the same as not given.
fn or_null(schema: ObjectBuilder) -> Object {
    let mut object = schema.build();
    if let SchemaType::Type(kind) = object.schema_type {
        object.schema_type = SchemaType::Array(vec![kind, Type::Null]);
    }
    object
}

/// A bound as the document's library takes it; bounds are far below what it can hold.
fn exact(bound: u64) -> i64 {
    i64::try_from(bound).unwrap_or(i64::MAX)
}
