//! Values that are the same in every answer of one kind: what tells the kinds apart.

use serde::{Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// `true` or `false`, and never the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Always<const VALUE: bool>;

impl<const VALUE: bool> Serialize for Always<VALUE> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(VALUE)
    }
}

impl<const VALUE: bool> ToSchema for Always<VALUE> {}

impl<const VALUE: bool> PartialSchema for Always<VALUE> {
    fn schema() -> RefOr<Schema> {
        let schema = ObjectBuilder::new().schema_type(Type::Boolean);
        RefOr::T(schema.enum_values(Some([VALUE])).into())
    }
}

/// `null`: there is nothing to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nothing;

impl Serialize for Nothing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl ToSchema for Nothing {}

impl PartialSchema for Nothing {
    fn schema() -> RefOr<Schema> {
        RefOr::T(ObjectBuilder::new().schema_type(Type::Null).into())
    }
}
