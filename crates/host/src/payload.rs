//! A command's request as it arrives: JSON, or the pairs of an address (`/vms/{id}/logs?log=qemu&tail=4096`).
//!
//! In an address everything is text. It is read as the type the request's field has, so that a name `42` stays a name and a
//! limit `42` becomes a number: no guessing.

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;
use voidvm_model::ErrorBody;

/// A request before it is known to be one.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// A JSON document; `null` is an empty object.
    Json(Value),
    /// Names and texts from an address.
    Pairs(Vec<(String, String)>),
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl Payload {
    /// Reads it as `T`.
    ///
    /// # Errors
    /// [`voidvm_model::ErrorCode::InvalidInput`] with the path of the field that does not hold.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, ErrorBody> {
        match self {
            Self::Json(Value::Null) => read(Value::Object(serde_json::Map::new())),
            Self::Json(value) => read(value),
            Self::Pairs(pairs) => {
                read(MapDeserializer::new(pairs.into_iter().map(|(name, text)| (name, Text(text)))))
            }
        }
    }
}

fn read<'de, T: DeserializeOwned, D: Deserializer<'de>>(source: D) -> Result<T, ErrorBody>
where
    D::Error: std::fmt::Display,
{
    serde_path_to_error::deserialize(source).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        // `missing field` and `unknown field` are reported at the object: the field is in the words.
        let named =
            message.strip_prefix("missing field `").or_else(|| message.strip_prefix("unknown field `"));
        let named = named.and_then(|rest| rest.split('`').next());
        let field = match (path.as_str(), named) {
            (".", Some(name)) => name.to_owned(),
            (".", None) => String::new(),
            (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => {
                format!("{path}.{name}")
            }
            (path, _) => path.to_owned(),
        };
        let body = ErrorBody::invalid(field.clone(), format!("The request does not hold: {message}."));
        if field.is_empty() { ErrorBody { field: None, ..body } } else { body }
    })
}

/// The text of one pair, read as whatever type is asked for.
struct Text(String);

macro_rules! parsed {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.0.parse::<$type>() {
                Ok(value) => visitor.$visit(value),
                // The visitor's own words say what it wants.
                Err(_) => visitor.visit_string(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Text {
    type Error = de::value::Error;

    parsed! {
        deserialize_bool visit_bool bool;
        deserialize_u8 visit_u64 u64;
        deserialize_u16 visit_u64 u64;
        deserialize_u32 visit_u64 u64;
        deserialize_u64 visit_u64 u64;
        deserialize_i8 visit_i64 i64;
        deserialize_i16 visit_i64 i64;
        deserialize_i32 visit_i64 i64;
        deserialize_i64 visit_i64 i64;
        deserialize_f32 visit_f64 f64;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let text: StrDeserializer<'_, Self::Error> = self.0.as_str().into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, de::value::Error> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use voidvm_model::contract::{
        LogKind, OperationListRequest, VmCreateRequest, VmListRequest, VmLogsRequest, VmStopRequest,
    };
    use voidvm_model::{ErrorCode, OperationStatus, VmId};

    use super::*;

    fn pairs(of: &[(&str, &str)]) -> Payload {
        Payload::Pairs(of.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn texts_become_what_the_field_is() {
        let id = VmId::new();
        let logs: VmLogsRequest =
            pairs(&[("id", &id.to_string()), ("log", "qemu"), ("tail", "42")]).read().unwrap();
        assert_eq!(logs, VmLogsRequest { id, log: LogKind::Qemu, tail: Some(42) });
        let list: VmListRequest = pairs(&[("name", "42")]).read().unwrap();
        assert_eq!(list.name.as_deref(), Some("42"));
        let stop: VmStopRequest = pairs(&[("id", &id.to_string()), ("force", "true")]).read().unwrap();
        assert!(stop.force);
        let operations: OperationListRequest = pairs(&[("status", "failed"), ("limit", "9")]).read().unwrap();
        assert_eq!((operations.status, operations.limit), (Some(OperationStatus::Failed), Some(9)));
    }

    #[test]
    fn a_wrong_field_is_named() {
        let id = VmId::new().to_string();
        for (payload, field) in [
            (pairs(&[("id", &id), ("log", "syslog")]), "log"),
            (pairs(&[("id", "x"), ("log", "qemu")]), "id"),
            (pairs(&[("id", &id), ("log", "qemu"), ("tail", "many")]), "tail"),
            (pairs(&[("id", &id)]), "log"),
        ] {
            let error = payload.clone().read::<VmLogsRequest>().unwrap_err();
            assert_eq!(
                (error.code, error.field.as_deref()),
                (ErrorCode::InvalidInput, Some(field)),
                "{payload:?}"
            );
        }
        for (value, field) in [
            (json!({ "name": "a", "source": { "kind": "demo" }, "memory": "lots" }), Some("memory")),
            (json!({ "name": "a", "source": { "kind": "demo" }, "colour": 1 }), Some("colour")),
            (json!({ "source": { "kind": "demo" } }), Some("name")),
            (json!({ "name": "a", "source": { "kind": "iso", "path": 5 } }), Some("source")),
            (json!([]), None),
        ] {
            let error = Payload::Json(value.clone()).read::<VmCreateRequest>().unwrap_err();
            assert_eq!(error.field.as_deref(), field, "{value}: {error:?}");
        }
    }

    #[test]
    fn no_payload_is_an_empty_one() {
        let list: VmListRequest = Payload::Json(Value::Null).read().unwrap();
        assert_eq!(list, VmListRequest::default());
    }
}
