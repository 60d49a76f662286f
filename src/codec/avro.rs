//! Reads Avro's binary encoding: a record of any writer's schema into slots, by the schema's plan, or one of our current
//! schema field by field. Reading allocates nothing but for lists; it trusts no length and no count.

#![expect(clippy::inline_always, reason = "28 small reads an event: calls between them cost more than the reads")]

use std::borrow::Cow;

use super::avro_plan::{NO_SLOT, Null, Plan, Shape};
use super::reader::{Fault, FieldReader, Read, twos_complement};
use super::slots::{Entry, Raw, Slots};
use crate::domain::time::Timestamp;
use crate::domain::usage::reject::{Reason, Reject};

/// The most items of a list in a record: a count costs no bytes when the items have none (Law 6).
const ITEMS_MAX: usize = 100_000;

/// Why bytes are no value of their schema.
#[derive(Clone, Copy)]
enum Broken {
    Early,
    Branch,
    Wide,
    Length,
    Utf8,
    Boolean,
    Block,
    Items,
}

impl Broken {
    const fn what(self) -> &'static str {
        match self {
            Self::Early => "has no end: the bytes end early",
            Self::Branch => "has a union branch that its schema lacks",
            Self::Wide => "has a number of more than 64 bits",
            Self::Length => "has a negative length",
            Self::Utf8 => "is no UTF-8",
            Self::Boolean => "is neither true nor false",
            Self::Block => "has a bad block count",
            Self::Items => "has too many items",
        }
    }
}

/// Reads a record's fields.
///
/// # Errors
/// [`Reason::Undecodable`] when the bytes end early, go on after the record, or are no value of the schema.
#[inline]
pub(crate) fn read_fields<'a>(plan: &Plan, bytes: &'a [u8], slots: &mut Slots<'a>) -> Result<(), Reject> {
    let mut cursor = Cursor { rest: bytes };
    for (number, step) in plan.steps.iter().enumerate() {
        let outcome = (|| {
            let branch = if step.null == Null::Never { 0 } else { cursor.varint()? };
            match (step.null, branch) {
                (Null::Never, _) | (Null::First, 1) | (Null::Second, 0) => {}
                (Null::First, 0) | (Null::Second, 1) => return Ok(()),
                _ => return Err(Broken::Branch),
            }
            let value = cursor.value(&step.shape)?;
            if step.slot != NO_SLOT {
                slots.set(usize::from(step.slot), value);
            }
            Ok(())
        })();
        if let Err(broken) = outcome {
            return Err(undecodable(plan, number, broken, bytes.len() - cursor.rest.len()));
        }
    }
    if cursor.rest.is_empty() {
        return Ok(());
    }
    let detail = format!("{} bytes follow the end of the {}", cursor.rest.len(), plan.record.name());
    Err(Reject::new(Reason::Undecodable, detail))
}

#[cold]
fn undecodable(plan: &Plan, step: usize, broken: Broken, at: usize) -> Reject {
    let what = broken.what();
    Reject::new(Reason::Undecodable, format!("`{}` {what}, after {at} bytes of the value", plan.names[step]))
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Broken> {
        let (&byte, rest) = self.rest.split_first().ok_or(Broken::Early)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline(always)]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Broken::Early)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<i64, Broken> {
        let first = u64::from(self.byte()?);
        if first < 0x80 {
            return Ok(unzigzag(first));
        }
        self.long_varint(first & 0x7f)
    }

    fn long_varint(&mut self, mut value: u64) -> Result<i64, Broken> {
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag(value));
            }
        }
        Err(Broken::Wide)
    }

    #[inline(always)]
    fn bytes(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| Broken::Length)?)
    }

    #[inline(always)]
    fn text(&mut self) -> Result<&'a str, Broken> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Broken::Utf8)
    }

    #[inline]
    fn value(&mut self, shape: &Shape) -> Result<Raw<'a>, Broken> {
        match shape {
            Shape::Text => Ok(Raw::Text(Cow::Borrowed(self.text()?))),
            Shape::Long => Ok(Raw::Int(self.varint()?)),
            Shape::Bytes => Ok(Raw::Bytes(self.bytes()?)),
            other => self.rare(other),
        }
    }

    #[inline(never)]
    fn rare(&mut self, shape: &Shape) -> Result<Raw<'a>, Broken> {
        match shape {
            Shape::Null => Ok(Raw::Absent),
            Shape::Boolean => match self.byte()? {
                0 => Ok(Raw::Bool(false)),
                1 => Ok(Raw::Bool(true)),
                _ => Err(Broken::Boolean),
            },
            Shape::Floating(size) => self.take(*size).map(|_| Raw::Float),
            Shape::Fixed(size) => self.take(*size).map(Raw::Bytes),
            Shape::Array(items) => self.list(|cursor| cursor.value(items)).map(Raw::List),
            Shape::Map(values) => {
                self.list(|cursor| {
                    cursor.bytes()?;
                    cursor.value(values)
                })?;
                Ok(Raw::Absent)
            }
            Shape::Record(fields) => {
                let mut entries = Vec::with_capacity(fields.len());
                for (name, shape) in fields {
                    let value = self.value(shape)?;
                    entries.extend(name.map(|name| Entry { name: Cow::Borrowed(name), value, line: 0 }));
                }
                Ok(Raw::Fields(entries))
            }
            Shape::Union(branches) => {
                let branch = usize::try_from(self.varint()?).ok().and_then(|branch| branches.get(branch));
                self.value(branch.ok_or(Broken::Branch)?)
            }
            Shape::Text | Shape::Long | Shape::Bytes => self.value(shape),
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, Broken>) -> Result<Vec<T>, Broken> {
        let mut items = Vec::new();
        loop {
            let mut count = self.varint()?;
            if count == 0 {
                return Ok(items);
            }
            if count < 0 {
                // A negative count is followed by the block's length in bytes.
                count = count.checked_neg().ok_or(Broken::Block)?;
                self.varint()?;
            }
            let total = usize::try_from(count).ok().and_then(|count| count.checked_add(items.len()));
            if total.is_none_or(|total| total > ITEMS_MAX) {
                return Err(Broken::Items);
            }
            for _ in 0..count {
                items.push(item(self)?);
            }
        }
    }
}

#[inline]
const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Reads the fields of a value whose schema is our current one straight from its bytes: no slots between.
pub(crate) struct Positional<'a> {
    cursor: Cursor<'a>,
    names: &'static [&'static str],
    next: usize,
}

impl<'a> Positional<'a> {
    /// A reader of fields with these names, each as in our schema.
    pub const fn new(names: &'static [&'static str], bytes: &'a [u8]) -> Self {
        Self { cursor: Cursor { rest: bytes }, names, next: 0 }
    }

    /// Whether the bytes end with the record.
    pub fn finish(&self) -> Read<()> {
        if self.cursor.rest.is_empty() {
            return Ok(());
        }
        Err(self.fault(
            Reason::Undecodable,
            format!("is the last field, and {} bytes follow it", self.cursor.rest.len()),
        ))
    }

    #[inline(always)]
    fn field<T>(
        &mut self,
        nullable: bool,
        read: impl FnOnce(&mut Cursor<'a>) -> Result<T, Broken>,
    ) -> Read<Option<T>> {
        self.next += 1;
        if nullable {
            match self.cursor.byte() {
                Ok(0) => return Ok(None),
                Ok(2) => {}
                Ok(_) => return Err(self.broken(Broken::Branch)),
                Err(broken) => return Err(self.broken(broken)),
            }
        }
        match read(&mut self.cursor) {
            Ok(value) => Ok(Some(value)),
            Err(broken) => Err(self.broken(broken)),
        }
    }

    #[cold]
    fn broken(&self, broken: Broken) -> Box<Fault> {
        self.fault(Reason::Undecodable, broken.what())
    }
}

impl<'a> FieldReader<'a> for Positional<'a> {
    #[cold]
    fn fault(&self, reason: Reason, what: impl Into<Cow<'static, str>>) -> Box<Fault> {
        Box::new(Fault { field: self.names[self.next - 1], reason, what: what.into() })
    }

    #[inline(always)]
    fn raw_text(&mut self, nullable: bool) -> Read<Option<Cow<'a, str>>> {
        self.field(nullable, |cursor| cursor.text().map(Cow::Borrowed))
    }

    #[inline(always)]
    fn raw_long(&mut self, nullable: bool) -> Read<Option<i64>> {
        self.field(nullable, Cursor::varint)
    }

    #[inline(always)]
    fn raw_time(&mut self, nullable: bool) -> Read<Option<Timestamp>> {
        self.field(nullable, |cursor| cursor.varint().map(Timestamp::from_micros))
    }

    #[inline(always)]
    fn raw_decimal(&mut self, _scale: u32, nullable: bool) -> Read<Option<i128>> {
        match self.field(nullable, |cursor| cursor.bytes().map(twos_complement))? {
            Some(value) => value.map(Some).map_err(|error| self.bad_decimal(error)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::avro_writer::AvroWriter;
    use crate::codec::writer::FieldWriter;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(value in any::<i64>(), wide in any::<i128>()) {
            let mut bytes = Vec::new();
            AvroWriter(&mut bytes).long(value);
            AvroWriter(&mut bytes).decimal(wide, 6);
            let mut cursor = Cursor { rest: &bytes };
            prop_assert_eq!(cursor.varint().ok(), Some(value));
            prop_assert_eq!(cursor.bytes().ok().and_then(|bytes| twos_complement(bytes).ok()), Some(wide));
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        assert!(Cursor { rest: &[0xff; 11] }.varint().is_err());
        assert!(Cursor { rest: &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01] }.varint().is_ok());
        assert!(Cursor { rest: &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02] }.varint().is_err());
    }
}
