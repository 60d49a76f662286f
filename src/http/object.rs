//! JSON objects whose fields stand in the order in which the contract names them: people read them too.

use serde::Serialize;
use serde::ser::Serializer;
use serde_json::Value;

use crate::query::Fields;

/// An object with its fields in order.
#[derive(Clone, Debug, Default)]
pub struct Object(pub Vec<(&'static str, Node)>);

/// A field's value.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Node {
    /// A text, number, boolean, null, or what has no order of its own.
    Value(Value),
    /// A nested object.
    Object(Object),
    /// A record, as the topics hold it.
    Fields(Fields),
    /// A list of objects or records.
    List(Vec<Node>),
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl From<Object> for Node {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Option<Object>> for Node {
    fn from(object: Option<Object>) -> Self {
        object.map_or(Self::Value(Value::Null), Self::Object)
    }
}

impl From<Fields> for Node {
    fn from(fields: Fields) -> Self {
        Self::Fields(fields)
    }
}

impl From<Option<Fields>> for Node {
    fn from(fields: Option<Fields>) -> Self {
        fields.map_or(Self::Value(Value::Null), Self::Fields)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Node {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// `object! { "name": value, ... }`, where a value is an `Object`, several, perhaps one, or JSON.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {
        $crate::http::object::Object(vec![$(($name, $crate::http::object::Node::from($value))),*])
    };
}
pub(super) use object;
