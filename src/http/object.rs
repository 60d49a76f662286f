//! JSON objects whose fields stand in the order in which the contract names them: people read them too.

use serde::Serialize;
use serde::ser::Serializer;
use serde_json::Value;

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
    /// A list of them.
    List(Vec<Object>),
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

impl From<Vec<Object>> for Node {
    fn from(list: Vec<Object>) -> Self {
        Self::List(list)
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
