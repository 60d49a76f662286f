//! Combinations: distinct (org, twelve dimension values), numbered, so that most events cost one hash lookup.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use crate::domain::cube::interner::{Interner, Symbol};
use crate::domain::usage::dimension::Dimension;

/// A combination's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ComboId(pub u32);

/// The symbols of a combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combo {
    /// The org.
    pub org: Symbol,
    /// The dimension values.
    pub values: [Symbol; Dimension::COUNT],
}

/// All combinations of the working set.
#[derive(Debug, Default)]
pub struct Combos {
    table: HashTable<u32>,
    list: Vec<Combo>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
    key: Vec<u8>,
    /// Combinations that [`Combos::news`] gave already.
    told: usize,
    hasher: FixedState,
}

impl Combos {
    /// The number of (org, values); the texts are interned when it is new.
    ///
    /// # Panics
    /// Beyond 2^32 combinations, which the memory bound of the working set forbids.
    pub fn find(
        &mut self,
        org: &str,
        values: &[Option<&str>; Dimension::COUNT],
        interner: &mut Interner,
    ) -> ComboId {
        self.key.clear();
        push(&mut self.key, Some(org));
        for value in values {
            push(&mut self.key, *value);
        }
        let Self { table, list, ends, bytes, key, hasher, .. } = self;
        let hash = hasher.hash_one(key.as_slice());
        if let Some(&found) = table.find(hash, |&number| stored(ends, bytes, number) == key.as_slice()) {
            return ComboId(found);
        }
        let number = u32::try_from(list.len()).expect("the working set is bounded far below 2^32 combinations");
        bytes.extend_from_slice(key);
        ends.push(bytes.len());
        list.push(Combo { org: interner.intern(Some(org)), values: values.map(|value| interner.intern(value)) });
        table.insert_unique(hash, number, |&number| hasher.hash_one(stored(ends, bytes, number)));
        ComboId(number)
    }

    /// The symbols of a combination.
    #[must_use]
    pub fn get(&self, id: ComboId) -> &Combo {
        &self.list[id.0 as usize]
    }

    /// The combinations that are new since the last call, in order of their numbers.
    #[must_use]
    pub fn news(&mut self) -> Vec<Combo> {
        let news = self.list[self.told..].to_vec();
        self.told = self.list.len();
        news
    }

    /// Bytes held on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + self.list.capacity() * (size_of::<Combo>() + 2 * size_of::<usize>())
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.table.clear();
        self.list.clear();
        self.ends.clear();
        self.bytes.clear();
        self.told = 0;
    }
}

fn stored<'a>(ends: &[usize], bytes: &'a [u8], number: u32) -> &'a [u8] {
    let place = number as usize;
    let start = if place == 0 { 0 } else { ends[place - 1] };
    &bytes[start..ends[place]]
}

/// Absent is one zero byte; a value is its length (at most 256, so never 0 and within two bytes) and its bytes.
fn push(key: &mut Vec<u8>, value: Option<&str>) {
    let Some(value) = value else {
        key.push(0);
        return;
    };
    let length = u16::try_from(value.len()).expect("decoded values are at most 256 bytes");
    // The first byte is never 0: lengths 1..=127 stand alone, longer ones behind 0x80.
    if length < 0x80 {
        key.push(length.to_le_bytes()[0]);
    } else {
        key.push(0x80);
        key.extend_from_slice(&length.to_le_bytes());
    }
    key.extend_from_slice(value.as_bytes());
}
