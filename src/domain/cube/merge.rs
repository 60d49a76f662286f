//! Blocks of one (org, UTC day) -> fewer blocks that hold the same facts: equal facts are added up. The same facts give the same
//! bytes, however they were spread over the blocks before. Next to read: `block`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::FACTS_MAX;
use super::block::{Block, Latencies, Values, is_extreme};
use super::builder::{Builder, FactKey};
use super::column::Column;
use crate::domain::cube::bytes::StoredError;
use crate::domain::cube::tally::Field;
use crate::domain::usage::dimension::Dimension;

/// The last hour of a day, also for damaged bytes that say a later one: a scan reads them so too.
const HOUR_MAX: u8 = 23;

/// A block that is read fact by fact.
struct Cursor<'a> {
    rows: usize,
    row: usize,
    values: Vec<Values<'a>>,
    /// By dimension and code, the code in the merged blocks.
    codes: Vec<Vec<u32>>,
    hours: Column<'a>,
    columns: Vec<(Field, Column<'a>)>,
    latencies: Option<Latencies<'a>>,
    /// Latency pairs of the facts before.
    pairs: usize,
}

impl<'a> Cursor<'a> {
    fn new(block: &Block<'a>) -> Result<Self, StoredError> {
        let values = Dimension::ALL.iter().map(|dimension| block.values(*dimension)).collect::<Result<_, _>>()?;
        let mut columns = Vec::new();
        for &(field, _) in Field::NAMED {
            columns.extend(block.field(field)?.map(|column| (field, column)));
        }
        Ok(Self {
            rows: block.rows(),
            row: 0,
            values,
            codes: Vec::new(),
            hours: block.hours()?,
            columns,
            latencies: block.latencies()?,
            pairs: 0,
        })
    }

    /// The key of the next fact, in the codes of the merged blocks; `None` at the end.
    fn key(&self) -> Option<FactKey> {
        (self.row < self.rows).then(|| {
            let code = |place: usize| {
                let own = self.values[place].code(self.row) as usize;
                self.codes[place].get(own).copied().unwrap_or(0)
            };
            (std::array::from_fn(code), u8::try_from(self.hours.get(self.row)).unwrap_or(HOUR_MAX).min(HOUR_MAX))
        })
    }

    /// Adds the next fact to `builder` and goes on.
    fn take(&mut self, builder: &mut Builder) {
        for (field, column) in &self.columns {
            let value = column.get(self.row);
            match (is_extreme(*field), value) {
                // No event of the fact touched it.
                (true, 0) => {}
                (true, value) => builder.add(*field, value - 1),
                (false, value) => builder.add(*field, value),
            }
        }
        if let Some(latencies) = &self.latencies {
            let pairs = usize::try_from(latencies.pairs.get(self.row)).unwrap_or(0);
            for pair in self.pairs..self.pairs + pairs {
                let bucket = latencies.bucket(pair);
                builder.add(Field::latency_bucket(bucket), latencies.count(pair).into());
            }
            self.pairs += pairs;
        }
        self.row += 1;
    }
}

/// The texts of a dimension in all blocks, in order, each once.
fn texts_of<'a>(cursors: &[Cursor<'a>], dimension: Dimension) -> Vec<&'a str> {
    let mut texts: Vec<&str> =
        cursors.iter().flat_map(|cursor| cursor.values[dimension.index()].texts.iter().copied()).collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// The facts of `blocks`, at least one, in blocks of at most [`FACTS_MAX`], in order.
///
/// # Errors
/// When the bytes of one are none.
pub fn merge(blocks: &[Block<'_>]) -> Result<Vec<Vec<u8>>, StoredError> {
    let mut cursors: Vec<Cursor<'_>> = blocks.iter().map(Cursor::new).collect::<Result<_, _>>()?;
    let texts: Vec<Vec<&str>> = Dimension::ALL.iter().map(|dimension| texts_of(&cursors, *dimension)).collect();
    for cursor in &mut cursors {
        let codes = cursor.values.iter().zip(&texts).map(|(values, texts)| {
            let code = |text: &&str| texts.binary_search(text).map_or(0, code_of);
            std::iter::once(0).chain(values.texts.iter().map(code)).collect()
        });
        cursor.codes = codes.collect();
    }
    let text = |dimension: Dimension, code: u32| texts[dimension.index()][code as usize - 1];

    let mut builder = Builder::default();
    let mut merged = Vec::new();
    let mut finish = |builder: &mut Builder| {
        let mut bytes = Vec::new();
        builder.finish(&text, &mut bytes);
        merged.push(bytes);
    };
    let next = |(place, cursor): (usize, &Cursor<'_>)| cursor.key().map(|key| Reverse((key, place)));
    let mut heap: BinaryHeap<_> = cursors.iter().enumerate().filter_map(next).collect();
    while let Some(Reverse((key, place))) = heap.pop() {
        if builder.len() == FACTS_MAX && builder.last() != Some(&key) {
            finish(&mut builder);
        }
        builder.fact(&key);
        cursors[place].take(&mut builder);
        heap.extend(next((place, &cursors[place])));
    }
    finish(&mut builder);
    Ok(merged)
}

/// The code of the text at `place` among the texts of a dimension.
fn code_of(place: usize) -> u32 {
    u32::try_from(place + 1).expect("there are fewer texts than facts, of which memory holds fewer than 2^32")
}
