//! Writes a record's fields as one flat JSON object: decimals as strings, times as RFC 3339, `type` first.

use std::io::Write as _;

use super::schemas::RecordType;
use super::writer::FieldWriter;
use crate::domain::credits::format_decimal;
use crate::domain::time::Timestamp;

/// Whether null fields are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// As `null`: a reader sees every field.
    Written,
    /// Not at all: fewer bytes.
    Omitted,
}

/// Writes one object; [`JsonWriter::finish`] closes it.
pub(crate) struct JsonWriter<'o> {
    out: &'o mut Vec<u8>,
    names: &'static [&'static str],
    next: usize,
    first: bool,
    nulls: Nulls,
}

impl<'o> JsonWriter<'o> {
    /// Opens the object of a record.
    pub fn new(record: RecordType, nulls: Nulls, out: &'o mut Vec<u8>) -> Self {
        out.extend_from_slice(b"{\"type\":");
        string(out, record.name());
        Self { out, names: record.fields(), next: 0, first: false, nulls }
    }

    /// Closes the object.
    pub fn finish(self) {
        debug_assert_eq!(self.next, self.names.len(), "each field is written once");
        self.out.push(b'}');
    }

    fn key(&mut self) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        let name = self.names[self.next];
        self.next += 1;
        string(self.out, name.rsplit('.').next().unwrap_or(name));
        self.out.push(b':');
    }

    fn plain(&mut self, value: &str) {
        self.key();
        self.out.extend_from_slice(value.as_bytes());
    }

    fn list<T>(&mut self, values: &[T], each: impl Fn(&mut Vec<u8>, &T)) {
        self.key();
        self.out.push(b'[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            each(self.out, value);
        }
        self.out.push(b']');
    }
}

fn string(out: &mut Vec<u8>, value: &str) {
    serde_json::to_writer(out, value).expect("a Vec takes every string");
}

impl FieldWriter for JsonWriter<'_> {
    fn null(&mut self) {
        match self.nulls {
            Nulls::Written => self.plain("null"),
            Nulls::Omitted => self.next += 1,
        }
    }

    fn some(&mut self) {}

    fn text(&mut self, value: &str) {
        self.key();
        string(self.out, value);
    }

    fn long(&mut self, value: i64) {
        self.key();
        write!(self.out, "{value}").expect("a Vec takes all");
    }

    fn flag(&mut self, value: bool) {
        self.plain(if value { "true" } else { "false" });
    }

    fn decimal(&mut self, value: i128, scale: u32) {
        self.text(&format_decimal(value, scale));
    }

    fn time(&mut self, value: Timestamp) {
        // Microseconds tell the instants that no date can: the end of a decision that time never changes.
        if value.is_civil() {
            self.key();
            write!(self.out, "\"{value}\"").expect("a Vec takes all");
        } else {
            self.long(value.micros());
        }
    }

    fn day(&mut self, value: i32) {
        let date =
            jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().try_days(value).unwrap_or_default());
        match date {
            Ok(date) if jiff::Span::new().try_days(value).is_ok() => self.text(&date.to_string()),
            _ => self.long(i64::from(value)),
        }
    }

    fn texts(&mut self, values: &[String]) {
        self.list(values, |out, value| string(out, value));
    }

    fn ints(&mut self, values: &[i32]) {
        self.list(values, |out, value| out.extend_from_slice(value.to_string().as_bytes()));
    }

    fn object(&mut self, names: &'static [&'static str], fields: impl FnOnce(&mut Self)) {
        self.key();
        self.out.push(b'{');
        let outer = (self.names, self.next);
        (self.names, self.next, self.first) = (names, 0, true);
        fields(self);
        self.out.push(b'}');
        (self.names, self.next) = outer;
        self.first = false;
    }
}
