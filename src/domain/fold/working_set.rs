//! The rows of one view that are in memory: those touched since the last flush, and others kept at hand.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use crate::domain::interner::Symbol;
use crate::domain::tally::Tally;
use crate::domain::view::DIMENSIONS_MAX;

/// The place of a row, in symbols of the working set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowId {
    /// The org.
    pub org: Symbol,
    /// Number of the hour or day.
    pub bucket: i32,
    /// Values of the view's dimensions, [`Symbol::ABSENT`] beyond.
    pub values: [Symbol; DIMENSIONS_MAX],
}

#[derive(Debug)]
struct Slot {
    id: RowId,
    dirty: bool,
    tally: Tally,
}

/// Rows of one view.
#[derive(Debug, Default)]
pub struct WorkingSet {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    dirty: Vec<u32>,
    hasher: FixedState,
}

impl WorkingSet {
    /// Adds `delta` to a row; `load` gives the stored row of one that is not in memory.
    ///
    /// # Errors
    /// Those of `load`; nothing is changed then.
    ///
    /// # Panics
    /// Beyond 2^32 rows, which the memory bound of the working set forbids.
    pub fn add<E>(
        &mut self,
        id: RowId,
        delta: &Tally,
        load: impl FnOnce() -> Result<Option<Tally>, E>,
    ) -> Result<(), E> {
        let Self { table, slots, dirty, hasher } = self;
        let hash = hasher.hash_one(id);
        let found = table.find(hash, |&place| slots[place as usize].id == id).copied();
        let place = if let Some(place) = found {
            place
        } else {
            let tally = load()?.unwrap_or_default();
            let place = u32::try_from(slots.len()).expect("the working set is bounded far below 2^32 rows");
            slots.push(Slot { id, dirty: false, tally });
            table.insert_unique(hash, place, |&place| hasher.hash_one(slots[place as usize].id));
            place
        };
        let slot = &mut slots[place as usize];
        slot.tally.merge(delta);
        if !slot.dirty {
            slot.dirty = true;
            dirty.push(place);
        }
        Ok(())
    }

    /// Rows changed since the last flush.
    pub fn dirty(&self) -> impl Iterator<Item = (RowId, &Tally)> {
        self.dirty.iter().map(|&place| {
            let slot = &self.slots[place as usize];
            (slot.id, &slot.tally)
        })
    }

    /// How many rows changed since the last flush.
    #[must_use]
    pub const fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    /// Takes all rows as flushed.
    pub fn flushed(&mut self) {
        for place in self.dirty.drain(..) {
            self.slots[place as usize].dirty = false;
        }
    }

    /// About the bytes held on the heap: a typical tally has a dozen fields.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.slots.len() * (size_of::<Slot>() + 2 * size_of::<u32>() + 14 * size_of::<i128>())
    }

    /// Forgets all rows; only right after a flush.
    ///
    /// # Panics
    /// When a row is not flushed: it would be lost.
    pub fn clear(&mut self) {
        assert!(self.dirty.is_empty(), "a row is forgotten only when it is flushed");
        self.table.clear();
        self.slots.clear();
    }
}
