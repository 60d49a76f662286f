//! How a record's fields are written, whatever the encoding: one call per field, in the order of its schema.

use crate::domain::credits::Credits;
use crate::domain::time::Timestamp;
use crate::domain::usage::dimension::Dimension;
use crate::domain::usage::event::Dims;

/// Writes fields one after the other. `opt_` methods are for fields that may be null, the others for required ones.
pub(crate) trait FieldWriter: Sized {
    /// An optional field is null.
    fn null(&mut self);
    /// An optional field has a value, which follows.
    fn some(&mut self);
    fn text(&mut self, value: &str);
    fn long(&mut self, value: i64);
    fn flag(&mut self, value: bool);
    /// An integer of 10^-`scale`.
    fn decimal(&mut self, value: i128, scale: u32);
    fn time(&mut self, value: Timestamp);
    /// Days since 1970-01-01.
    fn day(&mut self, value: i32);
    fn texts(&mut self, values: &[String]);
    fn ints(&mut self, values: &[i32]);
    /// An object of fields with these (dotted) names.
    fn object(&mut self, names: &'static [&'static str], fields: impl FnOnce(&mut Self));

    fn opt<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.null(),
            Some(value) => {
                self.some();
                write(self, value);
            }
        }
    }

    fn opt_text(&mut self, value: Option<&str>) {
        self.opt(value, Self::text);
    }

    fn opt_long(&mut self, value: Option<i64>) {
        self.opt(value, Self::long);
    }

    fn opt_time(&mut self, value: Option<Timestamp>) {
        self.opt(value, Self::time);
    }

    fn credits(&mut self, value: Credits) {
        self.decimal(i128::from(value.micros()), 6);
    }

    fn opt_credits(&mut self, value: Option<Credits>) {
        self.opt(value, Self::credits);
    }

    fn int(&mut self, value: i32) {
        self.long(i64::from(value));
    }

    /// The dimensions; those of `required` are required fields.
    fn dims(&mut self, dims: &Dims<'_>, required: &[Dimension]) {
        for dimension in Dimension::ALL {
            let value = dims.get(dimension);
            if required.contains(&dimension) {
                self.text(value.unwrap_or_default());
            } else {
                self.opt_text(value);
            }
        }
    }
}
