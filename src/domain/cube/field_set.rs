//! Which fields of a tally a question reads.

use crate::domain::cube::histogram;
use crate::domain::cube::tally::Field;

/// A set of fields. The latency buckets are in it together or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Bit n is the plain field of number n.
    plain: u64,
    latencies: bool,
}

impl FieldSet {
    /// These fields.
    #[must_use]
    pub fn of(fields: &[Field]) -> Self {
        fields.iter().fold(Self::default(), |set, field| set.with(*field))
    }

    /// The same and `field`; with a latency bucket, all of them.
    #[must_use]
    pub fn with(mut self, field: Field) -> Self {
        if field.bucket().is_some() {
            self.latencies = true;
        } else {
            self.plain |= 1 << field.number();
        }
        self
    }

    /// The fields of either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { plain: self.plain | other.plain, latencies: self.latencies || other.latencies }
    }

    /// Whether `field` is in it.
    #[must_use]
    pub const fn holds(self, field: Field) -> bool {
        match field.bucket() {
            Some(_) => self.latencies,
            None => self.plain >> field.number() & 1 == 1,
        }
    }

    /// Whether any field of `other` is in it.
    #[must_use]
    pub const fn meets(self, other: Self) -> bool {
        self.plain & other.plain != 0 || self.latencies && other.latencies
    }

    /// How many fields it holds at most.
    #[must_use]
    pub const fn count(self) -> usize {
        self.plain.count_ones() as usize + if self.latencies { histogram::BUCKETS } else { 0 }
    }
}
