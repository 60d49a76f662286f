//! A decoded record's fields before they mean anything: one slot per field, in the order of the record's schema. Avro and
//! JSON both fill slots; the readers of `events`, `terms` and `outputs` take them in order, and here each bound is checked.
//! Strings stay borrowed from the record's bytes.

use std::borrow::Cow;
use std::mem::take;

use super::schemas::FIELDS_MAX;
use crate::domain::credits::{Credits, DecimalError, RECORD_CREDITS_MAX, parse_decimal};
use crate::domain::dimension::Dimension;
use crate::domain::event::Dims;
use crate::domain::id::{VALUE_BYTES_MAX, is_id};
use crate::domain::reject::{Reason, Reject};
use crate::domain::time::Timestamp;

/// The greatest count of one record (CONTRACT.md, Records).
pub(crate) const COUNT_MAX: i64 = 1_000_000_000_000;

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
    /// A JSON or Avro number that is no integer.
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

/// What is wrong with a field.
#[derive(Debug)]
pub(crate) struct Fault {
    pub field: &'static str,
    pub reason: Reason,
    pub what: Cow<'static, str>,
}

impl From<Fault> for Reject {
    fn from(fault: Fault) -> Self {
        Self::new(fault.reason, format!("`{}` {}", fault.field, fault.what))
    }
}

/// What a reader gives: the value or the first field at fault.
pub(crate) type Read<T> = Result<T, Fault>;

/// The slots of one record, taken from first to last.
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

    /// The names of the slots.
    pub const fn names(&self) -> &'static [&'static str] {
        self.names
    }

    /// A fault of the field that was taken last.
    #[cold]
    pub fn fault(&self, reason: Reason, what: impl Into<Cow<'static, str>>) -> Fault {
        Fault { field: self.names[self.next - 1], reason, what: what.into() }
    }

    #[cold]
    fn bad(&self, what: impl Into<Cow<'static, str>>) -> Fault {
        self.fault(Reason::BadField, what)
    }

    #[cold]
    fn missing(&self) -> Fault {
        self.bad("is missing")
    }

    #[inline]
    fn take(&mut self) -> Raw<'a> {
        let value = take(&mut self.values[self.next]);
        self.next += 1;
        value
    }

    /// An optional text of at most `bytes_max` bytes and not empty.
    #[inline]
    pub fn opt_text(&mut self, bytes_max: usize) -> Read<Option<Cow<'a, str>>> {
        let text = match self.take() {
            Raw::Absent => return Ok(None),
            Raw::Text(text) => text,
            // Avro lets a writer's bytes be read as a string.
            Raw::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => return Err(self.bad("is no UTF-8")),
            },
            _ => return Err(self.bad("must be text")),
        };
        if text.is_empty() || text.len() > bytes_max {
            return Err(self.bad(format!("must have 1..{bytes_max} bytes and has {}", text.len())));
        }
        Ok(Some(text))
    }

    /// A required text of at most `bytes_max` bytes and not empty.
    #[inline]
    pub fn text(&mut self, bytes_max: usize) -> Read<Cow<'a, str>> {
        match self.opt_text(bytes_max)? {
            Some(text) => Ok(text),
            None => Err(self.missing()),
        }
    }

    /// An optional legal id.
    pub fn opt_id(&mut self) -> Read<Option<Cow<'a, str>>> {
        match self.opt_text(usize::MAX)? {
            Some(text) if !is_id(&text) => Err(self.bad("must match [A-Za-z0-9._:@-]{1,128}")),
            text => Ok(text),
        }
    }

    /// A required legal id.
    #[inline]
    pub fn id(&mut self) -> Read<Cow<'a, str>> {
        match self.opt_id()? {
            Some(text) => Ok(text),
            None => Err(self.missing()),
        }
    }

    /// The dimensions; those of `required` must be there.
    #[inline]
    pub fn dims(&mut self, required: &[Dimension]) -> Read<Dims<'a>> {
        let mut dims = Dims::default();
        for (value, dimension) in dims.0.iter_mut().zip(Dimension::ALL) {
            *value = self.opt_text(VALUE_BYTES_MAX)?;
            if value.is_none() && required.contains(&dimension) {
                return Err(self.missing());
            }
        }
        Ok(dims)
    }

    /// An optional whole number within `min..=max`.
    #[inline]
    pub fn opt_long(&mut self, min: i64, max: i64) -> Read<Option<i64>> {
        match self.take() {
            Raw::Absent => Ok(None),
            Raw::Int(number) if (min..=max).contains(&number) => Ok(Some(number)),
            Raw::Int(number) => Err(self.fault(Reason::OutOfRange, format!("is {number}, beyond {min}..{max}"))),
            Raw::HugeInt => Err(self.fault(Reason::OutOfRange, format!("is beyond {min}..{max}"))),
            _ => Err(self.bad("must be a whole number")),
        }
    }

    /// A required whole number within `min..=max`.
    pub fn long(&mut self, min: i64, max: i64) -> Read<i64> {
        match self.opt_long(min, max)? {
            Some(number) => Ok(number),
            None => Err(self.missing()),
        }
    }

    /// An optional whole number within `min..=max`.
    pub fn opt_int(&mut self, min: i32, max: i32) -> Read<Option<i32>> {
        let number = self.opt_long(i64::from(min), i64::from(max))?;
        Ok(number.map(|number| i32::try_from(number).expect("it lies within i32 bounds")))
    }

    /// A required whole number within `min..=max`.
    pub fn int(&mut self, min: i32, max: i32) -> Read<i32> {
        match self.opt_int(min, max)? {
            Some(number) => Ok(number),
            None => Err(self.missing()),
        }
    }

    /// A flag that is false when absent.
    pub fn flag(&mut self) -> Read<bool> {
        match self.take() {
            Raw::Absent => Ok(false),
            Raw::Bool(flag) => Ok(flag),
            _ => Err(self.bad("must be true or false")),
        }
    }

    /// An optional instant.
    #[inline]
    pub fn opt_time(&mut self) -> Read<Option<Timestamp>> {
        match self.take() {
            Raw::Absent => Ok(None),
            Raw::Int(micros) => Ok(Some(Timestamp::from_micros(micros))),
            Raw::Text(text) => match text.parse::<jiff::Timestamp>() {
                Ok(instant) => Ok(Some(Timestamp::from_micros(instant.as_microsecond()))),
                Err(_) => Err(self.bad("must be RFC 3339 or whole microseconds since 1970")),
            },
            Raw::HugeInt => Err(self.fault(Reason::OutOfRange, "is no instant that can be told")),
            _ => Err(self.bad("must be RFC 3339 or whole microseconds since 1970")),
        }
    }

    /// A required instant.
    pub fn any_time(&mut self) -> Read<Timestamp> {
        match self.opt_time()? {
            Some(instant) => Ok(instant),
            None => Err(self.missing()),
        }
    }

    /// An optional instant of the years -9999..9999: those that RFC 3339 can tell back to people.
    #[inline]
    pub fn opt_civil_time(&mut self) -> Read<Option<Timestamp>> {
        let civil = jiff::Timestamp::MIN.as_microsecond()..=jiff::Timestamp::MAX.as_microsecond();
        match self.opt_time()? {
            Some(instant) if !civil.contains(&instant.micros()) => {
                Err(self.fault(Reason::OutOfRange, format!("is {} us since 1970, no such year", instant.micros())))
            }
            instant => Ok(instant),
        }
    }

    /// A required instant of the years -9999..9999.
    #[inline]
    pub fn civil_time(&mut self) -> Read<Timestamp> {
        match self.opt_civil_time()? {
            Some(instant) => Ok(instant),
            None => Err(self.missing()),
        }
    }

    /// An optional UTC day, as days since 1970 or `YYYY-MM-DD`.
    pub fn opt_day(&mut self) -> Read<Option<i32>> {
        if let Raw::Text(text) = &self.values[self.next] {
            let day = text
                .parse::<jiff::civil::Date>()
                .ok()
                .map(|date| (date - jiff::civil::date(1970, 1, 1)).get_days());
            self.next += 1;
            return day.map(Some).ok_or_else(|| self.bad("must be a date, YYYY-MM-DD"));
        }
        self.opt_int(i32::MIN, i32::MAX)
    }

    /// An optional decimal as an integer of 10^-`scale`.
    #[inline]
    pub fn opt_decimal(&mut self, scale: u32) -> Read<Option<i128>> {
        match self.take() {
            Raw::Absent => Ok(None),
            Raw::Bytes(bytes) => match twos_complement(bytes) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(self.bad_decimal(error)),
            },
            Raw::Text(text) => match parse_decimal(&text, scale) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(self.bad_decimal(error)),
            },
            Raw::Int(whole) if self.whole_decimals => Ok(Some(i128::from(whole) * 10_i128.pow(scale))),
            Raw::Int(_) | Raw::Float | Raw::HugeInt => {
                Err(self.fault(Reason::BadDecimal, "is a number; write the decimal as text, \"12.5\""))
            }
            _ => Err(self.fault(Reason::BadDecimal, "must be a decimal as text, \"12.5\"")),
        }
    }

    #[cold]
    fn bad_decimal(&self, error: DecimalError) -> Fault {
        let reason = if error == DecimalError::TooLarge { Reason::OutOfRange } else { Reason::BadDecimal };
        self.fault(reason, format!("is {error}"))
    }

    /// A required decimal as an integer of 10^-`scale`.
    pub fn decimal(&mut self, scale: u32) -> Read<i128> {
        match self.opt_decimal(scale)? {
            Some(value) => Ok(value),
            None => Err(self.missing()),
        }
    }

    /// Optional credits of one record, within `min..=10^9`.
    #[inline]
    pub fn opt_credits(&mut self, min: i64) -> Read<Option<Credits>> {
        let Some(micros) = self.opt_decimal(6)? else { return Ok(None) };
        match i64::try_from(micros).ok().filter(|micros| *micros >= min).and_then(Credits::from_micros) {
            Some(credits) => Ok(Some(credits)),
            None if min >= 0 => Err(self.fault(Reason::OutOfRange, "must lie within 0..10^9")),
            None => Err(self.fault(Reason::OutOfRange, "must lie within +-10^9")),
        }
    }

    /// Required credits of one record, within `min..=10^9`.
    #[inline]
    pub fn credits(&mut self, min: i64) -> Read<Credits> {
        match self.opt_credits(min)? {
            Some(credits) => Ok(credits),
            None => Err(self.missing()),
        }
    }

    /// An optional one of the known values.
    #[inline]
    pub fn opt_known<T>(&mut self, from_name: impl Fn(&str) -> Option<T>) -> Read<Option<T>> {
        let Some(text) = self.opt_text(VALUE_BYTES_MAX)? else { return Ok(None) };
        match from_name(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(self.bad(format!("is {:?}, none of the known values", &*text))),
        }
    }

    /// A required one of the known values.
    pub fn known<T>(&mut self, from_name: impl Fn(&str) -> Option<T>) -> Read<T> {
        match self.opt_known(from_name)? {
            Some(value) => Ok(value),
            None => Err(self.missing()),
        }
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

/// The bounds of credits that may be negative.
pub(crate) const SIGNED: i64 = -RECORD_CREDITS_MAX;

/// Reads two's complement, big end first, of any length.
#[inline]
pub(crate) fn twos_complement(bytes: &[u8]) -> Result<i128, DecimalError> {
    let Some(&first) = bytes.first() else { return Err(DecimalError::Malformed) };
    let sign: u8 = if first & 0x80 == 0 { 0 } else { 0xff };
    if bytes.len() <= 8 {
        let mut wide = [sign; 8];
        wide[8 - bytes.len()..].copy_from_slice(bytes);
        return Ok(i128::from(i64::from_be_bytes(wide)));
    }
    // Some writers pad with sign bytes to a fixed width.
    let split = bytes.len().saturating_sub(16);
    let (padding, rest) = bytes.split_at(split);
    if padding.iter().any(|byte| *byte != sign) || (rest[0] ^ sign) & 0x80 != 0 {
        return Err(DecimalError::TooLarge);
    }
    let mut wide = [sign; 16];
    wide[16 - rest.len()..].copy_from_slice(rest);
    Ok(i128::from_be_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twos_complement_of_any_length_is_read_exactly_or_refused() {
        assert_eq!(twos_complement(&[]), Err(DecimalError::Malformed));
        assert_eq!(twos_complement(&[0xff]), Ok(-1));
        assert_eq!(twos_complement(&[0x00, 0x80]), Ok(128));
        assert_eq!(twos_complement(&[0x80; 1]), Ok(-128));
        for value in [0, 1, -1, i128::from(i64::MAX), i128::from(i64::MIN) - 1, i128::MAX, i128::MIN] {
            let mut wide = vec![if value < 0 { 0xff } else { 0 }; 20];
            wide.extend(value.to_be_bytes());
            assert_eq!(twos_complement(&wide), Ok(value));
            assert_eq!(twos_complement(&wide[20..]), Ok(value));
        }
        assert_eq!(twos_complement(&[1; 17]), Err(DecimalError::TooLarge));
        assert_eq!(twos_complement(&[&[0_u8], &[0xff; 16][..]].concat()), Err(DecimalError::TooLarge));
    }
}
