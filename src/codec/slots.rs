//! A decoded record's fields before they mean anything: one slot per field, in the order of the record's schema. Avro and
//! JSON both fill slots, and `reader` takes them in order. Strings stay borrowed from the record's bytes.

use std::borrow::Cow;
use std::mem::take;

use super::reader::{Fault, FieldReader, Read, twos_complement};
use super::schemas::FIELDS_MAX;
use crate::domain::credits::parse_decimal;
use crate::domain::time::Timestamp;
use crate::domain::usage::reject::Reason;

/// What is wrong with a text that is none.
pub(crate) const NOT_TEXT: &str = "must be text";

/// A field's value as an encoding gave it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Raw<'a> {
    /// Null, or not there: the same by CONTRACT.md, for null is every optional field's default.
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Int(i64),
    Bytes(&'a [u8]),
    Bool(bool),
    List(Vec<Raw<'a>>),
    Fields(Vec<Entry<'a>>),
    /// A JSON number that is not whole, or an Avro float or double.
    Float,
    /// A JSON integer beyond `i64`.
    HugeInt,
}

/// A named value inside an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry<'a> {
    pub name: Cow<'a, str>,
    pub value: Raw<'a>,
    /// Where it stands in a document, from 1; 0 when nobody asked.
    pub line: u64,
}

/// The slots of one record, taken from first to last.
#[derive(Clone)]
pub(crate) struct Slots<'a> {
    names: &'static [&'static str],
    values: [Raw<'a>; FIELDS_MAX],
    next: usize,
    /// Documents that people write may give decimals as whole numbers; records may not (CONTRACT.md, JSON).
    whole_decimals: bool,
}

impl<'a> Slots<'a> {
    /// Empty slots for fields of these names.
    #[inline]
    pub fn new(names: &'static [&'static str]) -> Self {
        debug_assert!(names.len() <= FIELDS_MAX, "FIELDS_MAX holds the largest record");
        Self { names, values: [const { Raw::Absent }; FIELDS_MAX], next: 0, whole_decimals: false }
    }

    /// The same, taking whole numbers for decimals too.
    pub fn of_document(names: &'static [&'static str]) -> Self {
        Self { whole_decimals: true, ..Self::new(names) }
    }

    /// Fills slot `index`.
    #[inline]
    pub fn set(&mut self, index: usize, value: Raw<'a>) {
        self.values[index] = value;
    }

    /// Fills slot `index` if it is empty.
    pub fn set_default(&mut self, index: usize, value: Raw<'a>) {
        if self.values[index] == Raw::Absent {
            self.values[index] = value;
        }
    }

    /// The value in slot `index`.
    pub fn get(&self, index: usize) -> &Raw<'a> {
        &self.values[index]
    }

    /// The value in slot `index`, to be changed.
    pub fn value_mut(&mut self, index: usize) -> &mut Raw<'a> {
        &mut self.values[index]
    }

    /// The names of the slots.
    pub const fn names(&self) -> &'static [&'static str] {
        self.names
    }

    #[inline]
    fn take(&mut self) -> Raw<'a> {
        let value = take(&mut self.values[self.next]);
        self.next += 1;
        value
    }

    /// A flag that is false when absent.
    pub fn flag(&mut self) -> Read<bool> {
        match self.take() {
            Raw::Absent => Ok(false),
            Raw::Bool(flag) => Ok(flag),
            _ => Err(self.bad("must be true or false")),
        }
    }

    /// An optional UTC day, as days since 1970 or `YYYY-MM-DD`.
    pub fn opt_day(&mut self) -> Read<Option<i32>> {
        if let Raw::Text(text) = &self.values[self.next] {
            let date = text.parse::<jiff::civil::Date>();
            self.next += 1;
            let day = |date: jiff::civil::Date| (date - jiff::civil::date(1970, 1, 1)).get_days();
            return date.map(day).map(Some).map_err(|_| self.bad("must be a date, YYYY-MM-DD"));
        }
        self.opt_int(i32::MIN, i32::MAX)
    }

    /// An optional list of at most `items_max` items, each taken by `item`.
    pub fn opt_list<T>(&mut self, items_max: usize, item: impl Fn(Raw<'a>) -> Option<T>) -> Read<Option<Vec<T>>> {
        let list = match self.take() {
            Raw::Absent => return Ok(None),
            Raw::List(list) => list,
            _ => return Err(self.bad("must be a list")),
        };
        if list.len() > items_max {
            return Err(self.bad(format!("has {} items, more than {items_max}", list.len())));
        }
        let items: Option<Vec<T>> = list.into_iter().map(item).collect();
        items.map(Some).ok_or_else(|| self.bad("holds an item of the wrong kind or size"))
    }

    /// Optional fields of an object inside the record, by the last part of their dotted names.
    pub fn opt_object(&mut self, names: &'static [&'static str]) -> Read<Option<Slots<'a>>> {
        let entries = match self.take() {
            Raw::Absent => return Ok(None),
            Raw::Fields(entries) => entries,
            _ => return Err(self.bad("must be an object")),
        };
        let mut inner = Slots { whole_decimals: self.whole_decimals, ..Slots::new(names) };
        for entry in entries {
            let is_it = |name: &&str| name.rsplit('.').next() == Some(&*entry.name);
            if let Some(index) = names.iter().position(is_it) {
                inner.set(index, entry.value);
            }
        }
        Ok(Some(inner))
    }
}

impl<'a> FieldReader<'a> for Slots<'a> {
    #[cold]
    fn fault(&self, reason: Reason, what: impl Into<Cow<'static, str>>) -> Box<Fault> {
        Box::new(Fault { field: self.names[self.next - 1], reason, what: what.into() })
    }

    fn raw_text(&mut self, _nullable: bool) -> Read<Option<Cow<'a, str>>> {
        match self.take() {
            Raw::Absent => Ok(None),
            Raw::Text(text) => Ok(Some(text)),
            // Avro lets a writer's bytes be read as a string.
            Raw::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(Cow::Borrowed(text))),
                Err(_) => Err(self.bad("is no UTF-8")),
            },
            _ => Err(self.bad(NOT_TEXT)),
        }
    }

    fn raw_long(&mut self, _nullable: bool) -> Read<Option<i64>> {
        match self.take() {
            Raw::Absent => Ok(None),
            Raw::Int(number) => Ok(Some(number)),
            Raw::HugeInt => Err(self.fault(Reason::OutOfRange, "is beyond 64 bits")),
            _ => Err(self.bad("must be a whole number")),
        }
    }

    fn raw_time(&mut self, _nullable: bool) -> Read<Option<Timestamp>> {
        match self.take() {
            Raw::Absent => Ok(None),
            Raw::Int(micros) => Ok(Some(Timestamp::from_micros(micros))),
            Raw::Text(text) => match Timestamp::parse(&text) {
                Some(instant) => Ok(Some(instant)),
                None => Err(self.bad("must be RFC 3339 or whole microseconds since 1970")),
            },
            Raw::HugeInt => Err(self.fault(Reason::OutOfRange, "is no instant that can be told")),
            _ => Err(self.bad("must be RFC 3339 or whole microseconds since 1970")),
        }
    }

    fn raw_decimal(&mut self, scale: u32, _nullable: bool) -> Read<Option<i128>> {
        let value = match self.take() {
            Raw::Absent => return Ok(None),
            Raw::Bytes(bytes) => twos_complement(bytes),
            Raw::Text(text) => parse_decimal(&text, scale),
            Raw::Int(whole) if self.whole_decimals => Ok(i128::from(whole) * 10_i128.pow(scale)),
            Raw::Int(_) | Raw::Float | Raw::HugeInt => {
                let what = "is a number; write the decimal as text, \"12.5\"";
                return Err(self.fault(Reason::BadDecimal, what));
            }
            _ => return Err(self.fault(Reason::BadDecimal, "must be a decimal as text, \"12.5\"")),
        };
        value.map(Some).map_err(|error| self.bad_decimal(error))
    }
}
