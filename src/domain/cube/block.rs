//! A block: the facts of one (org, UTC day), immutable, column by column. A reader decodes the columns that it asks for, and
//! no other.
//!
//! version, number of facts, then each with its length before it: for each dimension its texts in order and which of them each fact
//! has; the hours of the day; and behind a mask of the touched fields a column for each; then the latency buckets. A large block
//! has rollups behind them. Facts stand in the order of their dimension values and hour, each once. Next to read: `builder`,
//! `merge`, `scan`.

use super::FACTS_MAX;
use super::column::Column;
use super::pack::{Packed, width_of};
use crate::domain::cube::bytes::{Reader, StoredError};
use crate::domain::cube::histogram;
use crate::domain::cube::tally::Field;
use crate::domain::usage::dimension::Dimension;

/// The version of the bytes; those of earlier ones stay readable.
pub(super) const VERSION: u8 = 1;
/// The version of a block that has rollups.
pub(super) const WITH_ROLLUPS: u8 = 2;
/// Instead of a column: it is the same as that of the credits.
pub(super) const SAME_AS_CREDITS: u8 = 255;
/// What a block is called in errors.
const NAME: &str = "block";
/// The largest count of a latency bucket in one fact; damaged bytes may say more.
const COUNT_MAX: i64 = 1 << 32;
/// How many plain fields (all but the latency buckets) a mask of 64 bits has room for.
const PLAIN: usize = u64::BITS as usize;

/// Whether a field's sum is a least or greatest value: those are never negative, and absent is not zero.
pub(super) fn is_extreme(field: Field) -> bool {
    field == Field::MULTIPLIER_MIN || field == Field::MULTIPLIER_MAX
}

/// A value as a column keeps it, where 0 stands for an untouched field.
pub(super) fn kept(field: Field, value: i128) -> i128 {
    if is_extreme(field) { value + 1 } else { value }
}

/// Two kept values of a field as one.
pub(super) fn joined(field: Field, left: i128, right: i128) -> i128 {
    match (is_extreme(field), left, right) {
        (false, ..) => left + right,
        (true, 0, other) | (true, other, 0) => other,
        (true, ..) => field.merge(left, right),
    }
}

/// A view of a block's bytes.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    rows: usize,
    dimensions: [&'a [u8]; Dimension::COUNT],
    hours: &'a [u8],
    mask: u64,
    columns: [&'a [u8]; PLAIN],
    latencies: Option<[&'a [u8]; 3]>,
    latencies_len: usize,
    /// By dimension, the bytes of its rollup; empty where it has none.
    rollups: [&'a [u8]; Dimension::COUNT],
}

/// The values of one dimension.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    /// The texts that the facts have, in order.
    pub texts: Vec<&'a str>,
    has_absent: bool,
    packed: Packed<'a>,
}

impl<'a> Values<'a> {
    /// The code of a fact: 0 for an absent value, else one more than its text's place.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "there are fewer texts than facts, of which there are fewer than 2^32"
    )]
    pub fn code(&self, row: usize) -> u32 {
        self.packed.get(row) as u32 + u32::from(!self.has_absent)
    }

    /// The text of a code.
    #[must_use]
    pub fn text(&self, code: u32) -> Option<&'a str> {
        self.texts.get((code as usize).checked_sub(1)?).copied()
    }
}

/// The latency buckets of the facts: each has its number of (bucket, count) pairs, one fact after another.
#[derive(Clone, Debug)]
pub struct Latencies<'a> {
    /// How many pairs each fact has.
    pub pairs: Column<'a>,
    /// The bucket of each pair.
    buckets: Column<'a>,
    /// Its count.
    counts: Column<'a>,
}

impl Latencies<'_> {
    /// The bucket of a pair.
    #[must_use]
    pub fn bucket(&self, pair: usize) -> usize {
        usize::try_from(self.buckets.get(pair)).unwrap_or(0).min(histogram::BUCKETS - 1)
    }

    /// The count of a pair; of damaged bytes no number that makes a sum overflow.
    #[must_use]
    pub fn count(&self, pair: usize) -> i64 {
        i64::try_from(self.counts.get(pair)).unwrap_or(0).clamp(0, COUNT_MAX)
    }
}

fn sized<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], StoredError> {
    let length = usize::try_from(reader.u64()?).map_err(|_| reader.wrong("a length is too large"))?;
    reader.bytes(length)
}

fn column(bytes: &[u8], rows: usize) -> Result<Column<'_>, StoredError> {
    let mut reader = Reader::new(NAME, bytes);
    let column = Column::read(&mut reader, rows)?;
    reader.end(column)
}

impl<'a> Block<'a> {
    /// The block of these bytes. Columns are checked when they are asked for.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn read(bytes: &'a [u8]) -> Result<Self, StoredError> {
        let mut reader = Reader::new(NAME, bytes);
        let version = reader.u8()?;
        if version != VERSION && version != WITH_ROLLUPS {
            return Err(reader.wrong("unknown version"));
        }
        let rows = u32::try_from(reader.u64()?).map_err(|_| reader.wrong("it has too many facts"))? as usize;
        let mut dimensions: [&[u8]; Dimension::COUNT] = [&[]; Dimension::COUNT];
        for dimension in &mut dimensions {
            *dimension = sized(&mut reader)?;
        }
        let hours = sized(&mut reader)?;
        let mask = reader.u64()?;
        let mut columns: [&[u8]; PLAIN] = [&[]; PLAIN];
        for (number, column) in columns.iter_mut().enumerate() {
            if mask >> number & 1 == 1 {
                *column = sized(&mut reader)?;
            }
        }
        let latencies_len = usize::try_from(reader.u64()?).map_err(|_| reader.wrong("a length is too large"))?;
        let latencies = if latencies_len == 0 {
            None
        } else {
            Some([sized(&mut reader)?, sized(&mut reader)?, sized(&mut reader)?])
        };
        if rows == 0 || rows > FACTS_MAX || latencies_len > rows * histogram::BUCKETS {
            return Err(reader.wrong("it has no facts or too many"));
        }
        let mut rollups: [&[u8]; Dimension::COUNT] = [&[]; Dimension::COUNT];
        let count = if version == WITH_ROLLUPS { reader.u64()? } else { 0 };
        for _ in 0..count {
            let dimension = usize::try_from(reader.u64()?).ok().and_then(|index| rollups.get_mut(index));
            *dimension.ok_or_else(|| reader.wrong("it has a rollup of no dimension"))? = sized(&mut reader)?;
        }
        reader.end(Self { rows, dimensions, hours, mask, columns, latencies, latencies_len, rollups })
    }

    /// The same facts by one dimension and hour alone, where the block has that rollup.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn rollup(&self, dimension: Dimension) -> Result<Option<Self>, StoredError> {
        match self.rollups[dimension.index()] {
            [] => Ok(None),
            bytes => Self::read(bytes).map(Some),
        }
    }

    /// How many facts it holds.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The touched plain fields: bit n is field number n.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        self.mask
    }

    /// The values of a dimension.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn values(&self, dimension: Dimension) -> Result<Values<'a>, StoredError> {
        let mut reader = Reader::new(NAME, self.dimensions[dimension.index()]);
        let count = usize::try_from(reader.u64()?).map_err(|_| reader.wrong("a length is too large"))?;
        let has_absent = reader.bool()?;
        if count > self.rows || (count == 0 && !has_absent) {
            return Err(reader.wrong("it has more texts than facts, or none"));
        }
        let texts = (0..count).map(|_| reader.text()).collect::<Result<_, _>>()?;
        let values = count + usize::from(has_absent);
        let width = width_of(values as u64 - 1);
        let packed = Packed::new(reader.bytes(Packed::bytes_of(self.rows, width))?, width);
        reader.end(Values { texts, has_absent, packed })
    }

    /// The hours of the day, 0 to 23.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn hours(&self) -> Result<Column<'a>, StoredError> {
        column(self.hours, self.rows)
    }

    /// The column of a plain field, kept as [`kept`] says; `None` where no event touched it.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn field(&self, field: Field) -> Result<Option<Column<'a>>, StoredError> {
        match self.columns[usize::from(field.number())] {
            [] => Ok(None),
            [SAME_AS_CREDITS] => column(self.columns[0], self.rows).map(Some),
            bytes => column(bytes, self.rows).map(Some),
        }
    }

    /// The latency buckets; `None` where no event had a latency.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn latencies(&self) -> Result<Option<Latencies<'a>>, StoredError> {
        let Some([pairs, buckets, counts]) = self.latencies else { return Ok(None) };
        let (pairs, len) = (column(pairs, self.rows)?, self.latencies_len);
        let told =
            (0..self.rows).try_fold(0_usize, |sum, row| sum.checked_add(usize::try_from(pairs.get(row)).ok()?));
        if told != Some(len) {
            return Err(Reader::new(NAME, &[]).wrong("its latency buckets are not as many as its facts say"));
        }
        Ok(Some(Latencies { pairs, buckets: column(buckets, len)?, counts: column(counts, len)? }))
    }
}
