//! A column: one number for each fact of a block, in the shortest of three forms. The same numbers give the same bytes.

use super::pack::{Packed, pack, width_of};
use crate::domain::cube::bytes::{Reader, StoredError, put_i128, put_u64};

/// All numbers are the same.
const CONSTANT: u8 = 0;
/// Multiples of a step above a base, side by side.
const PACKED: u8 = 1;
/// Numbers further apart than 2^64, one by one.
const WIDE: u8 = 2;

/// A number has at most so many bits: the sums of a block, of many blocks too, stay far below the end of i128.
const BITS_MAX: u32 = 96;

/// One number for each fact.
#[derive(Clone, Debug)]
pub enum Column<'a> {
    /// The same number everywhere.
    Constant(i128),
    /// `base` + `step` x a packed number.
    Packed {
        /// The least number.
        base: i128,
        /// What divides the distance of all of them from it.
        step: u64,
        /// How often.
        packed: Packed<'a>,
    },
    /// Any numbers.
    Wide(Vec<i128>),
}

/// Appends a column of `values`, at least one.
pub fn put_column(values: &[i128], out: &mut Vec<u8>) {
    let (mut min, mut max) = (i128::MAX, i128::MIN);
    for &value in values {
        min = min.min(value);
        max = max.max(value);
    }
    if min == max {
        out.push(CONSTANT);
        return put_i128(out, min);
    }
    let Some(range) = max.checked_sub(min).and_then(|range| u64::try_from(range).ok()) else {
        out.push(WIDE);
        return values.iter().for_each(|&value| put_i128(out, value));
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range fits u64")]
    let above = |value: i128| (value - min) as u64;
    let mut step = range;
    for &value in values {
        step = common_divisor(above(value), step);
        if step == 1 {
            break;
        }
    }
    // The largest number of that width times the step must fit 64 bits too: where it does not, there is no step to gain from.
    let mut width = width_of(range / step);
    if (u64::MAX >> (u64::BITS - width)).checked_mul(step).is_none() {
        (step, width) = (1, width_of(range));
    }
    out.push(PACKED);
    put_i128(out, min);
    put_u64(out, step);
    out.push(width.to_le_bytes()[0]);
    if step == 1 {
        pack(values.iter().map(|&value| above(value)), width, out);
    } else {
        pack(values.iter().map(|&value| above(value) / step), width, out);
    }
}

/// `value`, which no log is long enough to bring near the end of i128: sums of stored numbers never overflow.
fn bounded(reader: &Reader<'_>, value: i128) -> Result<i128, StoredError> {
    if value.unsigned_abs() >> BITS_MAX == 0 { Ok(value) } else { Err(reader.wrong("a number is too large")) }
}

const fn common_divisor(mut one: u64, mut other: u64) -> u64 {
    while one != 0 {
        (one, other) = (other % one, one);
    }
    other
}

impl<'a> Column<'a> {
    /// The column of `rows` numbers that `reader` stands at.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn read(reader: &mut Reader<'a>, rows: usize) -> Result<Self, StoredError> {
        match reader.u8()? {
            CONSTANT => {
                let value = reader.i128()?;
                Ok(Self::Constant(bounded(reader, value)?))
            }
            PACKED => {
                let base = reader.i128()?;
                let (base, step, width) = (bounded(reader, base)?, reader.u64()?, u32::from(reader.u8()?));
                if width > u64::BITS {
                    return Err(reader.wrong("a number is wider than 64 bits"));
                }
                let packed = Packed::new(reader.bytes(Packed::bytes_of(rows, width))?, width);
                let range = packed.max().checked_mul(step).ok_or_else(|| reader.wrong("a number is too large"))?;
                bounded(reader, base + i128::from(range))?;
                Ok(Self::Packed { base, step, packed })
            }
            WIDE => {
                let value = |_| reader.i128().and_then(|value| bounded(reader, value));
                Ok(Self::Wide((0..rows).map(value).collect::<Result<_, _>>()?))
            }
            _ => Err(reader.wrong("unknown kind of column")),
        }
    }

    /// The number of a fact.
    ///
    /// # Panics
    /// When there are fewer facts.
    #[inline]
    #[must_use]
    pub fn get(&self, row: usize) -> i128 {
        match self {
            Self::Constant(value) => *value,
            Self::Packed { base, step, packed } => base + i128::from(packed.get(row) * step),
            Self::Wide(values) => values[row],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_back(values: &[i128]) -> (Vec<i128>, usize) {
        let mut bytes = Vec::new();
        put_column(values, &mut bytes);
        let mut reader = Reader::new("column", &bytes);
        let column = Column::read(&mut reader, values.len()).unwrap();
        assert!(reader.end(()).is_ok());
        ((0..values.len()).map(|row| column.get(row)).collect(), bytes.len())
    }

    proptest! {
        #[test]
        fn numbers_are_read_back(values in proptest::collection::vec(prop_oneof![any::<i128>().prop_map(|value| value >> 40), -9..9_i128], 1..100)) {
            prop_assert_eq!(read_back(&values).0, values);
        }

        #[test]
        fn multiples_are_read_back(steps in proptest::collection::vec(any::<i32>(), 1..100), step in 1..1_000_000_i128) {
            let values: Vec<i128> = steps.iter().map(|&times| i128::from(times) * step).collect();
            prop_assert_eq!(read_back(&values).0, values);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60), rows in 1..40_usize) {
            if let Ok(column) = Column::read(&mut Reader::new("column", &bytes), rows) {
                let _ = (0..rows).map(|row| column.get(row)).collect::<Vec<_>>();
            }
        }
    }

    #[test]
    fn a_form_is_as_short_as_the_numbers_allow() {
        assert_eq!(read_back(&[7; 1_000]).1, 2);
        // 0.00 to 9.99 credits in cents: ten bits each.
        let cents: Vec<i128> = (0..1_000).map(|cent| cent * 10_000).collect();
        assert!(read_back(&cents).1 < 1_000 * 10 / 8 + 8);
        let apart = [i128::from(u64::MAX) + 2, 0];
        assert_eq!(read_back(&apart).0, apart);
    }
}
