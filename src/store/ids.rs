//! Which ids the store holds: a filter per bucket before the ids table, so that RocksDB is asked about duplicates and
//! hardly ever about anything else.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::error::StoreError;
use super::id_filter::{IdFilter, IdHash};
use super::memory::FilterMemory;
use super::tables::{Table, Tables};
use crate::codec::{store_keys, store_values};
use crate::domain::dedupe::{IdBucket, IdKey, Seen};

/// The filters of the buckets that the ids table holds. Every stored id is in its bucket's filter.
pub(super) struct Ids {
    filters: BTreeMap<IdBucket, IdFilter>,
    memory: FilterMemory,
}

impl Ids {
    /// Builds the filters from the ids table.
    pub(super) fn load(tables: &Tables, memory: &FilterMemory) -> Result<Self, StoreError> {
        let mut ids = Self { filters: BTreeMap::new(), memory: memory.clone() };
        let mut options = rocksdb::ReadOptions::default();
        // A scan of all ids would push everything else out of the block cache.
        options.fill_cache(false);
        options.set_readahead_size(1 << 20);
        let mut rows = tables.db().raw_iterator_cf_opt(tables.family(Table::Ids), options);
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            let read = store_keys::read_id(key).map_err(|error| StoreError::stored(&tables.path, error))?;
            ids.insert(read.0, read.1);
            rows.next();
        }
        rows.status().map_err(|error| tables.error(&error))?;
        Ok(ids)
    }

    /// Notes a stored id.
    pub(super) fn insert(&mut self, bucket: IdBucket, id: IdKey) {
        let filter = match self.filters.entry(bucket) {
            std::collections::btree_map::Entry::Occupied(filter) => filter.into_mut(),
            std::collections::btree_map::Entry::Vacant(_) => {
                // The bucket before tells how many are to be expected.
                let before = self.filters.range(..bucket).next_back().map_or(0, |(_, filter)| filter.len());
                self.filters.entry(bucket).or_insert(IdFilter::new(before + before / 4, &self.memory))
            }
        };
        filter.insert(IdHash::of(id));
    }

    /// What is stored of `id` in the newest of the `live` buckets that hold it.
    pub(super) fn find(
        &self,
        tables: &Tables,
        id: IdKey,
        live: RangeInclusive<IdBucket>,
    ) -> Result<Option<Seen>, StoreError> {
        let hash = IdHash::of(id);
        for (bucket, filter) in self.filters.range(live).rev() {
            if filter.may_hold(hash) {
                let seen = tables.get(Table::Ids, &store_keys::id(*bucket, id), store_values::read_seen)?;
                if seen.is_some() {
                    return Ok(seen);
                }
            }
        }
        Ok(None)
    }

    /// The oldest bucket that holds ids.
    pub(super) fn first(&self) -> Option<IdBucket> {
        self.filters.keys().next().copied()
    }

    /// Forgets the buckets below `bucket`.
    pub(super) fn forget_before(&mut self, bucket: IdBucket) {
        self.filters = self.filters.split_off(&bucket);
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.filters.values().map(IdFilter::bytes).sum()
    }
}
