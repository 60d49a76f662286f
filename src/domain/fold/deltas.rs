//! Deltas of one batch: distinct keys and what the batch adds to each. Cleared and refilled, batch by batch.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher as _, Hash};

use crate::domain::tally::Tally;

/// Distinct keys with their tallies, in order of first appearance.
#[derive(Debug)]
pub struct Deltas<K> {
    table: HashTable<u32>,
    keys: Vec<K>,
    /// Longer than `keys` after a clear: spare tallies keep their memory.
    tallies: Vec<Tally>,
    hasher: FixedState,
}

impl<K> Default for Deltas<K> {
    fn default() -> Self {
        Self { table: HashTable::new(), keys: Vec::new(), tallies: Vec::new(), hasher: FixedState::default() }
    }
}

impl<K: Copy + Eq + Hash> Deltas<K> {
    /// The tally of `key`, empty when it is new.
    ///
    /// # Panics
    /// Beyond 2^32 keys in one batch; batches are bounded far below.
    pub fn tally(&mut self, key: K) -> &mut Tally {
        let Self { table, keys, tallies, hasher } = self;
        let hash = hasher.hash_one(key);
        let found = table.find(hash, |&place| keys[place as usize] == key).copied();
        let place = found.unwrap_or_else(|| {
            let place = u32::try_from(keys.len()).expect("a batch is bounded far below 2^32 keys");
            keys.push(key);
            if tallies.len() < keys.len() {
                tallies.push(Tally::new());
            }
            table.insert_unique(hash, place, |&place| hasher.hash_one(keys[place as usize]));
            place
        });
        &mut tallies[place as usize]
    }

    /// The key at `place`, below `len`, with its tally.
    #[must_use]
    pub fn at(&self, place: usize) -> (K, &Tally) {
        (self.keys[place], &self.tallies[place])
    }

    /// Each key with its tally.
    pub fn iter(&self) -> impl Iterator<Item = (K, &Tally)> {
        self.keys.iter().copied().zip(&self.tallies)
    }

    /// Distinct keys.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the batch changed nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Empties it for the next batch, keeping the memory.
    pub fn clear(&mut self) {
        self.table.clear();
        for tally in &mut self.tallies[..self.keys.len()] {
            tally.clear();
        }
        self.keys.clear();
    }
}
