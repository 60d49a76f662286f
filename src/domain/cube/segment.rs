//! The open segment: what was folded since the last flush, one row for each addition, in memory. An event costs a look-up of
//! each of its texts and one append. Nearly every event is a fact of its own, so there is no table of those that were met. Next to
//! read: `seal`.

use crate::domain::cube::interner::{Interner, Symbol, Texts};
use crate::domain::cube::tally::{Field, Tally};
use crate::domain::time::Hour;
use crate::domain::usage::dimension::Dimension;

/// A buffer of up to this many elements is always kept.
const KEPT_MAX: usize = 65_536;
/// No latency.
const NO_LATENCY: u8 = u8::MAX;

/// An org and its dimension values, as symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbols {
    /// The org.
    pub org: Symbol,
    /// The dimension values.
    pub values: [Symbol; Dimension::COUNT],
}

/// One addition to a fact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) symbols: Symbols,
    pub(super) hour: Hour,
    /// The plain fields that it adds to (bit n is field number n).
    pub(super) mask: u64,
    /// Where its values begin: one for each bit of the mask.
    pub(super) first: u32,
    latency: u8,
}

impl Row {
    /// Its latency bucket.
    pub(super) fn latency(&self) -> Option<u8> {
        (self.latency != NO_LATENCY).then_some(self.latency)
    }
}

/// The additions since the last [`Segment::freeze`].
#[derive(Debug, Default)]
pub struct Segment {
    interner: Interner,
    rows: Vec<Row>,
    values: Vec<i64>,
}

/// What a segment held, to be sealed.
#[derive(Debug, Default)]
pub struct Frozen {
    pub(super) rows: Vec<Row>,
    pub(super) values: Vec<i64>,
    /// Texts that are new since the last freeze.
    pub(super) texts: Texts,
}

/// Whether a buffer is too large to keep: the last flush filled only `len` elements of it.
#[must_use]
pub const fn is_oversized(len: usize, capacity: usize) -> bool {
    capacity > KEPT_MAX && capacity / 4 > len
}

/// One addition that is being made.
#[derive(Debug)]
pub struct Addition<'a> {
    row: &'a mut Row,
    values: &'a mut Vec<i64>,
}

impl Addition<'_> {
    /// Adds `value` to a field; fields ascend.
    #[inline]
    pub fn add(&mut self, field: Field, value: i64) -> &mut Self {
        match field.bucket() {
            Some(bucket) => self.row.latency = bucket,
            None => {
                debug_assert!(self.row.mask >> field.number() == 0, "fields ascend");
                self.row.mask |= 1 << field.number();
                self.values.push(value);
            }
        }
        self
    }
}

impl Segment {
    /// The symbols of an org and its dimension values.
    pub fn symbols(&mut self, org: &str, values: &[Option<&str>; Dimension::COUNT]) -> Symbols {
        Symbols { org: self.intern(org), values: values.map(|value| self.interner.intern(value)) }
    }

    /// The number of an org.
    pub fn intern(&mut self, org: &str) -> Symbol {
        self.interner.intern(Some(org))
    }

    /// Begins an addition to the fact of these symbols and hour.
    ///
    /// # Panics
    /// Beyond 2^32 values between two freezes, which the memory bound of a task forbids.
    pub fn append(&mut self, symbols: Symbols, hour: Hour) -> Addition<'_> {
        let first = u32::try_from(self.values.len()).expect("memory holds fewer than 2^32 values");
        self.rows.push(Row { symbols, hour, mask: 0, first, latency: NO_LATENCY });
        Addition { row: self.rows.last_mut().expect("a row was pushed"), values: &mut self.values }
    }

    /// Adds all of a tally without latencies, also of an empty one: sums that no single event reaches are added in parts.
    pub fn append_all(&mut self, symbols: Symbols, hour: Hour, tally: &Tally) {
        let mut rest: Vec<(Field, i128)> = tally.iter().collect();
        loop {
            let mut addition = self.append(symbols, hour);
            rest.retain_mut(|(field, value)| {
                let part = (*value).clamp(i64::MIN.into(), i64::MAX.into());
                addition.add(*field, i64::try_from(part).expect("clamped"));
                *value -= part;
                *value != 0
            });
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The text of a symbol; `None` for an absent one.
    #[must_use]
    pub fn text(&self, symbol: Symbol) -> Option<&str> {
        self.interner.text(symbol)
    }

    /// How many additions it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes all additions; `spare` is memory to go on in.
    pub fn freeze(&mut self, mut spare: Frozen) -> Frozen {
        // A task that was catching up does not keep the memory of its largest flush (Law 6).
        if is_oversized(spare.rows.len(), spare.rows.capacity()) {
            spare = Frozen::default();
        }
        spare.rows.clear();
        spare.values.clear();
        Frozen {
            rows: std::mem::replace(&mut self.rows, spare.rows),
            values: std::mem::replace(&mut self.values, spare.values),
            texts: self.interner.news(),
        }
    }

    /// Bytes of texts on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.interner.heap_bytes()
    }

    /// Forgets all texts (Law 6); its sealer must forget at the same time.
    ///
    /// # Panics
    /// When it holds additions: they would be lost.
    pub fn forget(&mut self) {
        assert!(self.rows.is_empty(), "what was added is forgotten only when it is frozen");
        self.interner.clear();
    }
}
