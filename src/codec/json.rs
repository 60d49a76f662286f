//! JSON values: a flat object with `type`, or a structured `CloudEvent` with the object in `data`. The type may stand
//! anywhere in the object, so the object is read whole and then sorted into slots.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::schemas::RecordType;
use super::slots::{Entry, Raw, Slots};
use crate::domain::usage::reject::{Reason, Reject};

/// The attributes of a `CloudEvent`'s envelope are no fields of the record; unknown ones are extensions.
const SPEC_VERSION: &str = "specversion";

/// A JSON value told by its `type`, its fields not sorted yet.
pub(crate) struct Object<'a> {
    pub record: RecordType,
    fields: Vec<Entry<'a>>,
    envelope: Option<Envelope<'a>>,
}

/// What a `CloudEvent` says of its data. `subject` is no org: what a producer's events are about is for the producer to say,
/// and who pays stands in the data alone.
struct Envelope<'a> {
    id: Raw<'a>,
    source: Raw<'a>,
    time: Raw<'a>,
}

/// Reads an object and finds its type.
///
/// # Errors
/// [`Reason::Undecodable`] when it is no JSON object, [`Reason::BadField`] when its type is missing or ambiguous,
/// [`Reason::UnknownType`] when nobody knows the type.
pub(crate) fn parse(bytes: &[u8]) -> Result<Object<'_>, Reject> {
    let root: Raw<'_> = serde_json::from_slice(bytes)
        .map_err(|error| Reject::new(Reason::Undecodable, format!("not valid JSON: {error}")))?;
    let Raw::Fields(mut fields) = root else {
        return Err(Reject::new(Reason::Undecodable, "the JSON value is no object"));
    };
    if !fields.iter().any(|entry| entry.name == SPEC_VERSION) {
        let record =
            type_in(&fields)?.ok_or_else(|| bad("`type` is missing; it names the record, as UsageEvent"))?;
        return Ok(Object { record, fields, envelope: None });
    }
    let record = type_in(&fields)?.ok_or_else(|| bad("the CloudEvent's `type` is missing"))?;
    let id = take_one(&mut fields, "id")?;
    let source = take_one(&mut fields, "source")?;
    let time = take_one(&mut fields, "time")?;
    let Raw::Fields(data) = take_one(&mut fields, "data")? else {
        return Err(bad("the CloudEvent's `data` is missing or no object"));
    };
    match type_in(&data)? {
        Some(inner) if inner != record => {
            let detail = format!("`type` is {} in the CloudEvent and {} in its data", record.name(), inner.name());
            Err(bad(&detail))
        }
        _ => Ok(Object { record, fields: data, envelope: Some(Envelope { id, source, time }) }),
    }
}

fn bad(detail: &str) -> Reject {
    Reject::new(Reason::BadField, detail)
}

fn take_one<'a>(fields: &mut [Entry<'a>], name: &str) -> Result<Raw<'a>, Reject> {
    let mut found = fields.iter_mut().filter(|entry| entry.name == name);
    let value = found.next().map(|entry| std::mem::take(&mut entry.value)).unwrap_or_default();
    if found.next().is_some() { Err(bad(&format!("`{name}` stands there twice"))) } else { Ok(value) }
}

fn type_in(fields: &[Entry<'_>]) -> Result<Option<RecordType>, Reject> {
    let mut types = fields.iter().filter(|entry| entry.name == "type");
    let Some(first) = types.next() else { return Ok(None) };
    if types.next().is_some() {
        return Err(bad("`type` stands there twice"));
    }
    let Raw::Text(name) = &first.value else { return Err(bad("`type` must be text")) };
    RecordType::from_name(name)
        .map(Some)
        .ok_or_else(|| Reject::new(Reason::UnknownType, format!("no record is called {name:?}")))
}

impl<'a> Object<'a> {
    /// Sorts the fields into slots and gives those that the record does not have.
    ///
    /// # Errors
    /// [`Reason::BadField`] when a field stands there twice, or the envelope and the data disagree.
    pub fn sort(self, slots: &mut Slots<'a>) -> Result<Vec<Entry<'a>>, Reject> {
        let unknown =
            sort_fields(self.fields, slots).map_err(|name| bad(&format!("`{name}` stands there twice")))?;
        if let (Some(envelope), Some(id_field)) = (self.envelope, self.record.envelope_id_field()) {
            let place = |slots: &Slots<'_>, name: &str| {
                slots.names().iter().position(|slot| *slot == name).expect("usage records have all three")
            };
            for (name, value) in [(id_field, envelope.id), ("source", envelope.source)] {
                let index = place(slots, name);
                if *slots.get(index) != Raw::Absent && *slots.get(index) != value {
                    return Err(bad(&format!("`{name}` in the data differs from the CloudEvent's envelope")));
                }
                slots.set(index, value);
            }
            // The data may know better when it happened than who wrapped it.
            slots.set_default(place(slots, "occurred_at"), envelope.time);
        }
        Ok(unknown)
    }
}

/// Sorts entries into the slots of their names and gives those that have none.
///
/// # Errors
/// The name that stands there twice.
pub(crate) fn sort_fields<'a>(fields: Vec<Entry<'a>>, slots: &mut Slots<'a>) -> Result<Vec<Entry<'a>>, String> {
    let names = slots.names();
    let mut unknown = Vec::new();
    let mut seen = 0_u64;
    let mut guess = 0;
    for entry in fields {
        // Producers write a record's fields in one order: the next slot is the likely one.
        let found = (guess..names.len()).chain(0..guess).find(|index| names[*index] == entry.name);
        match found {
            Some(index) if seen & (1 << index) != 0 => return Err(entry.name.into_owned()),
            Some(index) => {
                seen |= 1 << index;
                guess = index + 1;
                slots.set(index, entry.value);
            }
            None if entry.name == "type" => {}
            None => unknown.push(entry),
        }
    }
    Ok(unknown)
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor(std::marker::PhantomData))
    }
}

struct RawVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for RawVisitor<'a> {
    type Value = Raw<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw<'a>, E> {
        Ok(Raw::Absent)
    }

    fn visit_none<E>(self) -> Result<Raw<'a>, E> {
        Ok(Raw::Absent)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw<'a>, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw<'a>, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw<'a>, E> {
        Ok(Raw::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw<'a>, E> {
        Ok(i64::try_from(value).map_or(Raw::HugeInt, Raw::Int))
    }

    /// Many languages write whole numbers with a point or an exponent: 12.0, 1.795E15, -0.
    fn visit_f64<E>(self, value: f64) -> Result<Raw<'a>, E> {
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;
        if value.fract() != 0.0 || !value.is_finite() {
            return Ok(Raw::Float);
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within 64 bits")]
        Ok(if (-BEYOND..BEYOND).contains(&value) { Raw::Int(value as i64) } else { Raw::HugeInt })
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw<'a>, E> {
        Ok(Raw::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Raw<'a>, E> {
        Ok(Raw::Text(Cow::Borrowed(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw<'a>, E> {
        Ok(Raw::Text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw<'a>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'a>, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<Raw<'a>, Raw<'a>>()? {
            let Raw::Text(name) = name else { return Err(A::Error::custom("a key that is no text")) };
            fields.push(Entry { name, value, line: 0 });
        }
        Ok(Raw::Fields(fields))
    }
}
