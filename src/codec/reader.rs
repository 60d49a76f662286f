//! How a record's fields are read, whatever the encoding: one call per field, in the order of its schema. Here each bound of
//! CONTRACT.md is checked; an encoding only has to hand over the next field's bare value.

#![expect(clippy::inline_always, reason = "28 small reads an event: calls between them cost more than the reads")]

use std::borrow::Cow;

use crate::domain::credits::{Credits, DecimalError, RECORD_CREDITS_MAX};
use crate::domain::id::{VALUE_BYTES_MAX, is_id};
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::Dims;
use crate::domain::usage::reject::{Reason, Reject};

/// The greatest count of one record (CONTRACT.md, Records).
pub(crate) const COUNT_MAX: i64 = 1_000_000_000_000;
/// The least of credits that may be negative.
pub(crate) const SIGNED: i64 = -RECORD_CREDITS_MAX;

/// What is wrong with a required field that is absent or null.
pub(crate) const MISSING: &str = "is missing";

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

/// What a reader gives: the value or the first field at fault, boxed so that good values stay small.
pub(crate) type Read<T> = Result<T, Box<Fault>>;

/// Reads fields one after the other. The `raw_` methods are an encoding's own: the next field's bare value, `None` when it
/// is null or absent; `nullable` says that our schema has it as `["null", T]`. `opt_` methods are for those fields.
pub(crate) trait FieldReader<'a> {
    /// A fault of the field that was taken last.
    fn fault(&self, reason: Reason, what: impl Into<Cow<'static, str>>) -> Box<Fault>;
    fn raw_text(&mut self, nullable: bool) -> Read<Option<Cow<'a, str>>>;
    fn raw_long(&mut self, nullable: bool) -> Read<Option<i64>>;
    fn raw_time(&mut self, nullable: bool) -> Read<Option<Timestamp>>;
    /// An integer of 10^-`scale`.
    fn raw_decimal(&mut self, scale: u32, nullable: bool) -> Read<Option<i128>>;

    #[cold]
    fn bad(&self, what: impl Into<Cow<'static, str>>) -> Box<Fault> {
        self.fault(Reason::BadField, what)
    }

    #[cold]
    fn bad_decimal(&self, error: DecimalError) -> Box<Fault> {
        let reason = if error == DecimalError::TooLarge { Reason::OutOfRange } else { Reason::BadDecimal };
        self.fault(reason, format!("is {error}"))
    }

    #[inline(always)]
    fn required<T>(&self, value: Option<T>) -> Read<T> {
        match value {
            Some(value) => Ok(value),
            None => Err(self.bad(MISSING)),
        }
    }

    #[inline(always)]
    fn sized(&self, text: &str, bytes_max: usize) -> Read<()> {
        if text.is_empty() || text.len() > bytes_max {
            return Err(self.bad(format!("must have 1..{bytes_max} bytes and has {}", text.len())));
        }
        Ok(())
    }

    /// A text of 1..`bytes_max` bytes, perhaps null.
    #[inline(always)]
    fn opt_text(&mut self, bytes_max: usize) -> Read<Option<Cow<'a, str>>> {
        let text = self.raw_text(true)?;
        if let Some(text) = &text {
            self.sized(text, bytes_max)?;
        }
        Ok(text)
    }

    /// A text of 1..`bytes_max` bytes.
    #[inline(always)]
    fn text(&mut self, bytes_max: usize) -> Read<Cow<'a, str>> {
        let text = self.raw_text(false)?;
        let text = self.required(text)?;
        self.sized(&text, bytes_max)?;
        Ok(text)
    }

    /// A legal id.
    #[inline]
    fn id(&mut self) -> Read<Cow<'a, str>> {
        let text = self.raw_text(false)?;
        let text = self.required(text)?;
        if is_id(&text) { Ok(text) } else { Err(self.bad("must match [A-Za-z0-9._:@-]{1,128}")) }
    }

    /// The dimensions; those of `required` are required fields.
    #[inline]
    fn dims(&mut self, required: &[Dimension]) -> Read<Dims<'a>> {
        let mut dims = Dims::default();
        for (value, dimension) in dims.0.iter_mut().zip(Dimension::ALL) {
            *value = if required.contains(&dimension) {
                Some(self.text(VALUE_BYTES_MAX)?)
            } else {
                self.opt_text(VALUE_BYTES_MAX)?
            };
        }
        Ok(dims)
    }

    #[inline(always)]
    fn bounded(&self, number: i64, min: i64, max: i64) -> Read<i64> {
        if number < min || number > max {
            return Err(self.fault(Reason::OutOfRange, format!("is {number}, beyond {min}..{max}")));
        }
        Ok(number)
    }

    /// A whole number within `min..=max`, perhaps null.
    #[inline(always)]
    fn opt_long(&mut self, min: i64, max: i64) -> Read<Option<i64>> {
        match self.raw_long(true)? {
            Some(number) => self.bounded(number, min, max).map(Some),
            None => Ok(None),
        }
    }

    /// A whole number within `min..=max`.
    fn long(&mut self, min: i64, max: i64) -> Read<i64> {
        let number = self.raw_long(false)?;
        let number = self.required(number)?;
        self.bounded(number, min, max)
    }

    /// A whole number within `min..=max`, perhaps null.
    fn opt_int(&mut self, min: i32, max: i32) -> Read<Option<i32>> {
        let number = self.opt_long(i64::from(min), i64::from(max))?;
        Ok(number.map(|number| i32::try_from(number).expect("it lies within i32 bounds")))
    }

    /// A whole number within `min..=max`.
    fn int(&mut self, min: i32, max: i32) -> Read<i32> {
        let number = self.long(i64::from(min), i64::from(max))?;
        Ok(i32::try_from(number).expect("it lies within i32 bounds"))
    }

    /// An instant, whatever it is.
    fn any_time(&mut self) -> Read<Timestamp> {
        let instant = self.raw_time(false)?;
        self.required(instant)
    }

    #[inline]
    fn civil(&self, instant: Timestamp) -> Read<Timestamp> {
        if instant.is_civil() {
            return Ok(instant);
        }
        Err(self.fault(Reason::OutOfRange, format!("is {} us since 1970, no such year", instant.micros())))
    }

    /// An instant that has a calendar date ([`Timestamp::is_civil`]), perhaps null.
    fn opt_civil_time(&mut self) -> Read<Option<Timestamp>> {
        let instant = self.raw_time(true)?;
        instant.map(|instant| self.civil(instant)).transpose()
    }

    /// An instant that has a calendar date ([`Timestamp::is_civil`]).
    #[inline]
    fn civil_time(&mut self) -> Read<Timestamp> {
        let instant = self.raw_time(false)?;
        let instant = self.required(instant)?;
        self.civil(instant)
    }

    /// A decimal as an integer of 10^-`scale`, perhaps null.
    #[inline]
    fn opt_decimal(&mut self, scale: u32) -> Read<Option<i128>> {
        self.raw_decimal(scale, true)
    }

    /// A decimal as an integer of 10^-`scale`.
    fn decimal(&mut self, scale: u32) -> Read<i128> {
        let value = self.raw_decimal(scale, false)?;
        self.required(value)
    }

    #[inline]
    fn bounded_credits(&self, micros: i128, min: i64) -> Read<Credits> {
        let credits = i64::try_from(micros).ok().filter(|micros| *micros >= min).and_then(Credits::from_micros);
        let bounds = if min < 0 { "must lie within +-10^9" } else { "must lie within 0..10^9" };
        credits.ok_or_else(|| self.fault(Reason::OutOfRange, bounds))
    }

    /// Credits of one record within `min..=10^9`, perhaps null.
    fn opt_credits(&mut self, min: i64) -> Read<Option<Credits>> {
        let micros = self.raw_decimal(6, true)?;
        micros.map(|micros| self.bounded_credits(micros, min)).transpose()
    }

    /// Credits of one record within `min..=10^9`.
    #[inline]
    fn credits(&mut self, min: i64) -> Read<Credits> {
        let micros = self.raw_decimal(6, false)?;
        let micros = self.required(micros)?;
        self.bounded_credits(micros, min)
    }

    #[inline]
    fn one_of<T>(&self, text: &str, from_name: impl Fn(&str) -> Option<T>) -> Read<T> {
        from_name(text).ok_or_else(|| self.bad(format!("is {text:?}, none of the known values")))
    }

    /// One of the known values, perhaps null.
    fn opt_known<T>(&mut self, from_name: impl Fn(&str) -> Option<T>) -> Read<Option<T>> {
        let text = self.raw_text(true)?;
        text.map(|text| self.one_of(&text, from_name)).transpose()
    }

    /// One of the known values, with a default where a JSON value or an older writer leaves it out.
    #[inline]
    fn known_or_default<T: Default>(&mut self, from_name: impl Fn(&str) -> Option<T>) -> Read<T> {
        match self.raw_text(false)? {
            Some(text) => self.one_of(&text, from_name),
            None => Ok(T::default()),
        }
    }

    /// One of the known values.
    fn known<T>(&mut self, from_name: impl Fn(&str) -> Option<T>) -> Read<T> {
        let text = self.raw_text(false)?;
        let text = self.required(text)?;
        self.one_of(&text, from_name)
    }
}

/// Reads two's complement, big end first, of any length.
#[inline]
pub(crate) fn twos_complement(bytes: &[u8]) -> Result<i128, DecimalError> {
    let Some(&first) = bytes.first() else { return Err(DecimalError::Malformed) };
    if bytes.len() <= 8 {
        let start = i64::from(first.cast_signed());
        return Ok(i128::from(bytes[1..].iter().fold(start, |value, byte| value << 8 | i64::from(*byte))));
    }
    // Some writers pad with sign bytes to a fixed width.
    let sign: u8 = if first & 0x80 == 0 { 0 } else { 0xff };
    let (padding, rest) = bytes.split_at(bytes.len().saturating_sub(16));
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
