//! Facts in order -> the bytes of a block. Equal facts are added up; the same facts give the same bytes, in whichever
//! parts they were added. Next to read: `block`.

use super::block::{SAME_AS_CREDITS, VERSION, WITH_ROLLUPS, joined, kept};
use super::column::put_column;
use super::pack::{pack, width_of};
use crate::domain::cube::bytes::{put_text, put_u64};
use crate::domain::cube::tally::Field;
use crate::domain::usage::dimension::Dimension;

mod rollup;

/// The place of a fact in its block: a code for each dimension, which sorts as its text does and is 0 where there is none, and
/// the hour of the day.
pub type FactKey = ([u32; Dimension::COUNT], u8);

/// How many plain fields (all but the latency buckets) a mask of 64 bits has room for.
const PLAIN: usize = u64::BITS as usize;

/// Builds one block after another, in memory that is used again.
#[derive(Debug)]
pub struct Builder {
    keys: Vec<FactKey>,
    /// The touched plain fields (bit n is field number n).
    mask: u64,
    /// By field number, the sums of the facts so far; shorter than `keys` where the last facts did not touch it.
    columns: Vec<Vec<i128>>,
    /// (fact, latency bucket, count), ascending.
    latencies: Vec<(usize, u8, i64)>,
    /// By code, its place among the codes of a dimension that the block uses, and for which dimension and block that holds.
    places: Vec<(u32, u32)>,
    stamp: u32,
    scratch: Vec<i128>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            mask: 0,
            columns: vec![Vec::new(); PLAIN],
            latencies: Vec::new(),
            places: Vec::new(),
            stamp: 0,
            scratch: Vec::new(),
        }
    }
}

impl Builder {
    /// How many facts it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The last fact's key.
    #[must_use]
    pub fn last(&self) -> Option<&FactKey> {
        self.keys.last()
    }

    /// Goes to a fact, which is the last one or follows it.
    pub fn fact(&mut self, key: &FactKey) {
        let last = self.keys.last();
        debug_assert!(last.is_none_or(|last| last <= key), "facts come in order");
        if last != Some(key) {
            self.keys.push(*key);
        }
    }

    /// Adds `value` to a field of the fact (or lets a least or greatest field see it, which is never negative).
    ///
    /// # Panics
    /// When a latency bucket counts more than 2^63 events.
    #[inline]
    pub fn add(&mut self, field: Field, value: i128) {
        if let Some(bucket) = field.bucket() {
            return self.add_latency(bucket, i64::try_from(value).expect("a count of events"));
        }
        let row = self.keys.len() - 1;
        self.mask |= 1 << field.number();
        let column = &mut self.columns[usize::from(field.number())];
        if column.len() > row {
            column[row] = joined(field, column[row], kept(field, value));
        } else {
            column.resize(row, 0);
            column.push(kept(field, value));
        }
    }

    fn add_latency(&mut self, bucket: u8, count: i64) {
        let row = self.keys.len() - 1;
        let start = self.latencies.iter().rposition(|(of, ..)| *of != row).map_or(0, |place| place + 1);
        let own = &mut self.latencies[start..];
        match own.iter().position(|(_, found, _)| *found >= bucket) {
            Some(place) if own[place].1 == bucket => own[place].2 += count,
            Some(place) => self.latencies.insert(start + place, (row, bucket, count)),
            None => self.latencies.push((row, bucket, count)),
        }
    }

    /// Appends the block of the facts so far, at least one, and forgets them; `text` gives the text of a dimension's code.
    pub fn finish<'t>(&mut self, text: &dyn Fn(Dimension, u32) -> &'t str, out: &mut Vec<u8>) {
        self.forget_zeros();
        let start = out.len();
        out.push(VERSION);
        put_u64(out, self.keys.len() as u64);
        let mut rollups = Vec::new();
        for dimension in Dimension::ALL {
            let mut codes = Vec::new();
            sized(out, |out| codes = self.put_dimension(dimension, |code| text(dimension, code), out));
            if codes != [0] && rollup::pays(codes.len(), self.keys.len()) {
                rollups.push((dimension, self.rolled_up(dimension, &codes)));
            }
        }
        self.scratch.clear();
        self.scratch.extend(self.keys.iter().map(|(_, hour)| i128::from(*hour)));
        sized(out, |out| put_column(&self.scratch, out));
        put_u64(out, self.mask);
        let mut mask = self.mask;
        while mask != 0 {
            let number = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            self.columns[number].resize(self.keys.len(), 0);
            // Where every event ended well, the credits of those that did are the credits.
            if number != 0 && self.mask & 1 == 1 && self.columns[number] == self.columns[0] {
                sized(out, |out| out.push(SAME_AS_CREDITS));
            } else {
                sized(out, |out| put_column(&self.columns[number], out));
            }
        }
        self.put_latencies(out);
        self.clear();
        if !rollups.is_empty() {
            out[start] = WITH_ROLLUPS;
            put_u64(out, rollups.len() as u64);
        }
        for (dimension, mut rollup) in rollups {
            put_u64(out, dimension.index() as u64);
            sized(out, |out| rollup.finish(text, out));
        }
    }

    /// Forgets the columns that are all 0, as if no event had touched them: a merge sees them in blocks that were cut otherwise.
    fn forget_zeros(&mut self) {
        let mut rest = self.mask;
        while rest != 0 {
            let number = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if self.columns[number].iter().all(|value| *value == 0) {
                self.columns[number].clear();
                self.mask &= !(1 << number);
            }
        }
    }

    /// Appends the texts that the block uses in their order, and which of them each fact has. Returns their codes, behind a 0 where
    /// a fact has none.
    fn put_dimension<'t>(
        &mut self,
        dimension: Dimension,
        text: impl Fn(u32) -> &'t str,
        out: &mut Vec<u8>,
    ) -> Vec<u32> {
        let place = dimension.index();
        self.stamp += 1;
        let mut used = Vec::new();
        let mut has_absent = false;
        for (codes, _) in &self.keys {
            let code = codes[place];
            if code == 0 {
                has_absent = true;
                continue;
            }
            let at = code as usize;
            if at >= self.places.len() {
                self.places.resize(at + 1, (0, 0));
            }
            if self.places[at].0 != self.stamp {
                self.places[at].0 = self.stamp;
                used.push(code);
            }
        }
        used.sort_unstable();
        put_u64(out, used.len() as u64);
        out.push(u8::from(has_absent));
        for (place, &code) in (u32::from(has_absent)..).zip(&used) {
            self.places[code as usize].1 = place;
            put_text(out, text(code));
        }
        let values = used.len() + usize::from(has_absent);
        let width = width_of(values as u64 - 1);
        let code = |(codes, _): &FactKey| match codes[place] {
            0 => 0,
            code => u64::from(self.places[code as usize].1),
        };
        pack(self.keys.iter().map(code), width, out);
        if has_absent {
            used.insert(0, 0);
        }
        used
    }

    /// How many latency buckets each fact has, which, and how often.
    fn put_latencies(&mut self, out: &mut Vec<u8>) {
        put_u64(out, self.latencies.len() as u64);
        if self.latencies.is_empty() {
            return;
        }
        let mut counts = vec![0_i128; self.keys.len()];
        self.latencies.iter().for_each(|(row, ..)| counts[*row] += 1);
        sized(out, |out| put_column(&counts, out));
        self.scratch.clear();
        self.scratch.extend(self.latencies.iter().map(|(_, bucket, _)| i128::from(*bucket)));
        sized(out, |out| put_column(&self.scratch, out));
        self.scratch.clear();
        self.scratch.extend(self.latencies.iter().map(|(.., count)| i128::from(*count)));
        sized(out, |out| put_column(&self.scratch, out));
    }

    fn clear(&mut self) {
        let mut mask = self.mask;
        while mask != 0 {
            self.columns[mask.trailing_zeros() as usize].clear();
            mask &= mask - 1;
        }
        self.mask = 0;
        self.keys.clear();
        self.latencies.clear();
    }
}

/// Appends what `put` appends, behind its length.
fn sized(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put(out);
    let length = out.len() - start;
    let mut head = Vec::with_capacity(3);
    put_u64(&mut head, length as u64);
    out.splice(start..start, head);
}
