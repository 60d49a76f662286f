//! Ids that the store does not hold yet: those since the last flush, and those of the flush on its way. A new id, which nearly
//! all are, costs one look at a table of small numbers, and one append.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::domain::cube::segment::is_oversized;
use crate::domain::usage::dedupe::{IdKey, Seen};

/// Ids in the order in which they came, each once.
#[derive(Debug, Default)]
pub(super) struct NewIds {
    ids: Vec<(IdKey, Seen)>,
    /// Indexes of `ids`.
    table: HashTable<u32>,
    hasher: FixedState,
}

impl NewIds {
    /// What is known of an id.
    #[inline]
    pub(super) fn get(&self, key: IdKey) -> Option<Seen> {
        let found = self.table.find(self.hasher.hash_one(key), |&index| self.ids[index as usize].0 == key);
        found.map(|&index| self.ids[index as usize].1)
    }

    /// Notes an id; what was known of it before (its window had ended) is replaced.
    ///
    /// # Panics
    /// Beyond 2^32 ids between two flushes, which the memory bound of a task forbids.
    #[inline]
    pub(super) fn insert(&mut self, key: IdKey, seen: Seen) {
        let Self { ids, table, hasher } = self;
        let entry = table.entry(
            hasher.hash_one(key),
            |&index| ids[index as usize].0 == key,
            |&index| hasher.hash_one(ids[index as usize].0),
        );
        match entry {
            Entry::Occupied(known) => ids[*known.get() as usize].1 = seen,
            Entry::Vacant(vacant) => {
                vacant.insert(u32::try_from(ids.len()).expect("memory holds fewer than 2^32 ids"));
                ids.push((key, seen));
            }
        }
    }

    /// Every id with what is known of it.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &(IdKey, Seen)> {
        self.ids.iter()
    }

    /// How many.
    pub(super) const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Forgets all, and keeps the memory for about as many.
    pub(super) fn clear(&mut self) {
        if is_oversized(self.ids.len(), self.ids.capacity()) {
            *self = Self::default();
        }
        self.ids.clear();
        self.table.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn an_id_is_known_by_what_was_noted_last_until_all_are_forgotten() {
        let seen = |at| Seen { at: Timestamp::from_micros(at), fingerprint: 7 };
        let mut ids = NewIds::default();
        for number in 0..1000_u16 {
            ids.insert(IdKey(number.into()), seen(number.into()));
        }
        ids.insert(IdKey(5), seen(9999));
        assert_eq!((ids.len(), ids.get(IdKey(5)), ids.get(IdKey(6))), (1000, Some(seen(9999)), Some(seen(6))));
        assert_eq!(ids.get(IdKey(1000)), None);
        ids.clear();
        assert_eq!((ids.iter().count(), ids.get(IdKey(5))), (0, None));
    }
}
