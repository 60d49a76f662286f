//! Records as people read them: the fields of their JSON value, in the order of their schemas, and the fields in which
//! two records differ. One rendering for HTTP, the command line and the topics, so that none tells another truth.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::encoder::{decision_bytes, terms_bytes};
use crate::domain::limits::decision::LimitDecision;
use crate::domain::terms::records::TermsRecord;

/// A JSON object that keeps the order of its fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(pub Vec<(String, Value)>);

impl Fields {
    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).expect("the writer writes one JSON object")
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A record of the policies topic: `type` first, then every field, null where absent.
#[must_use]
pub fn terms_fields(record: &TermsRecord) -> Fields {
    Fields::read(&terms_bytes(record))
}

/// A decision: `type` first, then every field, null where absent.
#[must_use]
pub fn decision_fields(decision: &LimitDecision) -> Fields {
    Fields::read(&decision_bytes(decision))
}

/// One field in which two records of the same type differ.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// Its value before; null where it had none.
    pub from: Value,
    /// Its value after.
    pub to: Value,
}

/// The fields in which `after` differs from `before`; without one, every field that has a value. Who wrote a record and
/// the names that tell whose it is are no part of what changed.
#[must_use]
pub fn differences(before: Option<&TermsRecord>, after: &TermsRecord) -> Vec<FieldChange> {
    let before = before.map(terms_fields).unwrap_or_default();
    let changed = |(field, to): (String, Value)| {
        let from = before.get(&field).cloned().unwrap_or_default();
        (from != to).then_some(FieldChange { field, from, to })
    };
    let told = |(field, _): &(String, Value)| {
        !matches!(&**field, "type" | "org_id" | "updated_by" | "budget_id" | "grant_id" | "purchase_id")
    };
    terms_fields(after).0.into_iter().filter(told).filter_map(changed).collect()
}
