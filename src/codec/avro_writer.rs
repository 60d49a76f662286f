//! Writes Avro's binary encoding by our own schemas: every optional field is `["null", T]`.

use super::writer::FieldWriter;
use crate::domain::time::Timestamp;

/// Writes a record's fields, in the order of its schema, as Avro.
pub(crate) struct AvroWriter<'o>(pub &'o mut Vec<u8>);

impl AvroWriter<'_> {
    #[inline]
    fn varint(&mut self, value: i64) {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        loop {
            let [low, ..] = rest.to_le_bytes();
            rest >>= 7;
            if rest == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.varint(i64::try_from(bytes.len()).expect("memory is smaller than i64"));
        self.0.extend_from_slice(bytes);
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        if !items.is_empty() {
            self.varint(i64::try_from(items.len()).expect("memory is smaller than i64"));
            for item in items {
                each(self, item);
            }
        }
        self.varint(0);
    }
}

impl FieldWriter for AvroWriter<'_> {
    fn null(&mut self) {
        self.0.push(0);
    }

    fn some(&mut self) {
        // Every optional field of ours is ["null", T]: branch 1.
        self.0.push(2);
    }

    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    fn long(&mut self, value: i64) {
        self.varint(value);
    }

    fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    fn decimal(&mut self, value: i128, _scale: u32) {
        let wide = value.to_be_bytes();
        let redundant = if value < 0 { value.leading_ones() } else { value.leading_zeros() };
        // One sign bit must stay.
        let skip = ((redundant - 1) / 8) as usize;
        self.bytes(&wide[skip..]);
    }

    fn time(&mut self, value: Timestamp) {
        self.varint(value.micros());
    }

    fn day(&mut self, value: i32) {
        self.varint(i64::from(value));
    }

    fn texts(&mut self, values: &[String]) {
        self.list(values, |writer, value| writer.bytes(value.as_bytes()));
    }

    fn ints(&mut self, values: &[i32]) {
        self.list(values, |writer, value| writer.varint(i64::from(*value)));
    }

    fn object(&mut self, _names: &'static [&'static str], fields: impl FnOnce(&mut Self)) {
        fields(self);
    }
}
