//! The rollups of a block: its facts once more, added up by a single dimension and hour, as a small block of their own behind it. A
//! question about that dimension alone reads it instead of the facts. A rollup follows from the block's facts, so the same facts
//! still give the same bytes.

use super::{Builder, FactKey};
use crate::domain::cube::block::{is_extreme, joined};
use crate::domain::cube::histogram;
use crate::domain::cube::tally::Field;
use crate::domain::usage::dimension::Dimension;

/// Blocks of fewer facts have none: a scan of one takes about half a millisecond.
const FACTS_MIN: usize = 16_384;
/// A dimension has a rollup when the block has at least this many facts for each of its cells. A cell is one value in one hour.
const FACTS_PER_CELL: usize = 64;
/// Hours of a UTC day.
const HOURS: usize = 24;

/// Whether a dimension with `values` values (absent counts as one) gets a rollup in a block of `facts` facts.
pub(super) const fn pays(values: usize, facts: usize) -> bool {
    facts >= FACTS_MIN && values * HOURS * FACTS_PER_CELL <= facts
}

impl Builder {
    /// The facts so far by one dimension and hour; `codes` are the codes of its values in order, 0 where it is absent.
    pub(super) fn rolled_up(&self, dimension: Dimension, codes: &[u32]) -> Self {
        let mut rolled = Self::default();
        let cell_of = |(of_all, hour): &FactKey| {
            let value = codes.binary_search(&of_all[dimension.index()]).unwrap_or(0);
            value * HOURS + usize::from(*hour)
        };
        let cells: Vec<usize> = self.keys.iter().map(cell_of).collect();
        // By cell, one more than its index among the facts of the rollup.
        let mut index = vec![0; codes.len() * HOURS];
        cells.iter().for_each(|cell| index[*cell] = 1);
        for (cell, index) in index.iter_mut().enumerate().filter(|(_, index)| **index == 1) {
            let mut key: FactKey = ([0; Dimension::COUNT], u8::try_from(cell % HOURS).unwrap_or(0));
            key.0[dimension.index()] = codes[cell / HOURS];
            rolled.keys.push(key);
            *index = rolled.keys.len();
        }
        let facts: Vec<usize> = cells.iter().map(|cell| index[*cell] - 1).collect();
        rolled.mask = self.mask;
        for &(field, _) in Field::NAMED.iter().filter(|(field, _)| self.mask >> field.number() & 1 == 1) {
            let number = usize::from(field.number());
            let sums = &mut rolled.columns[number];
            sums.resize(rolled.keys.len(), 0);
            for (fact, value) in facts.iter().zip(&self.columns[number]) {
                sums[*fact] =
                    if is_extreme(field) { joined(field, sums[*fact], *value) } else { sums[*fact] + value };
            }
        }
        let mut counts =
            vec![0; if self.latencies.is_empty() { 0 } else { rolled.keys.len() * histogram::BUCKETS }];
        for (row, bucket, count) in &self.latencies {
            counts[facts[*row] * histogram::BUCKETS + usize::from(*bucket)] += count;
        }
        let counted = counts.iter().enumerate().filter(|(_, count)| **count != 0);
        rolled.latencies.extend(counted.map(|(place, count)| {
            let bucket = u8::try_from(place % histogram::BUCKETS).expect("a latency bucket fits a byte");
            (place / histogram::BUCKETS, bucket, *count)
        }));
        rolled
    }
}
