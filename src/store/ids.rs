//! Which ids the store holds: a filter per bucket before the ids table, so that RocksDB is asked about duplicates and
//! hardly ever about anything else. The filters of what a store held when it was opened are read in a thread of their own,
//! for a hundred million ids take a minute and the group waits for nobody that long; until they are there RocksDB is
//! asked about every id, which is slower and no less right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::error::StoreError;
use super::id_filter::{IdFilter, IdHash};
use super::memory::FilterMemory;
use super::tables::{Table, Tables};
use crate::codec::{store_keys, store_values};
use crate::domain::dedupe::{IdBucket, IdKey, Seen};

type Filters = BTreeMap<IdBucket, IdFilter>;

/// The filters of the buckets that the ids table holds. Every stored id is in its bucket's filter, or its bucket is still
/// being read.
pub(super) struct Ids {
    filters: Filters,
    reading: Option<Reading>,
    memory: FilterMemory,
}

/// The thread that reads what was stored when the store was opened.
struct Reading {
    /// The buckets that it reads.
    buckets: BTreeSet<IdBucket>,
    stop: Arc<AtomicBool>,
    /// `None` once it is waited for.
    thread: Option<JoinHandle<Result<Filters, StoreError>>>,
}

impl Drop for Reading {
    /// The store's files are closed next: the thread must have let go of them.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Ids {
    /// Begins to read the ids table.
    pub(super) fn open(tables: &Arc<Tables>, memory: &FilterMemory) -> Result<Self, StoreError> {
        let mut ids = Self { filters: Filters::new(), reading: None, memory: memory.clone() };
        let buckets = stored_buckets(tables)?;
        if buckets.is_empty() {
            return Ok(ids);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (its_tables, its_memory, its_stop) = (Arc::clone(tables), memory.clone(), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("ids".into());
        let thread = thread.spawn(move || read(&its_tables, &its_memory, &its_stop));
        let thread = thread.map_err(|error| StoreError::Io {
            path: tables.path.clone(),
            problem: format!("no thread to read ids: {error}"),
        })?;
        ids.reading = Some(Reading { buckets, stop, thread: Some(thread) });
        Ok(ids)
    }

    /// Notes a stored id.
    pub(super) fn insert(&mut self, bucket: IdBucket, id: IdKey) {
        insert(&mut self.filters, bucket, id, &self.memory);
    }

    /// Takes the filters that have been read by now.
    ///
    /// # Errors
    /// When the ids table cannot be read: the store must be closed.
    pub(super) fn take_what_was_read(&mut self) -> Result<(), StoreError> {
        let thread =
            self.reading.as_mut().and_then(|reading| reading.thread.take_if(|thread| thread.is_finished()));
        let Some(thread) = thread else { return Ok(()) };
        let read = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let buckets = self.reading.take().map(|reading| reading.buckets.clone()).unwrap_or_default();
        // What has expired meanwhile is no longer among the buckets.
        for (bucket, mut filter) in read.into_iter().filter(|(bucket, _)| buckets.contains(bucket)) {
            if let Some(since) = self.filters.remove(&bucket) {
                filter.join(since);
            }
            self.filters.insert(bucket, filter);
        }
        Ok(())
    }

    /// What is stored of `id` in the newest of the `live` buckets that hold it.
    pub(super) fn find(
        &self,
        tables: &Tables,
        id: IdKey,
        live: RangeInclusive<IdBucket>,
    ) -> Result<Option<Seen>, StoreError> {
        let hash = IdHash::of(id);
        let known = self.filters.range(live.clone()).filter(|(_, filter)| filter.may_hold(hash));
        let known = known.map(|(bucket, _)| *bucket);
        let Some(reading) = &self.reading else { return newest(tables, id, known.rev()) };
        let all: BTreeSet<IdBucket> = known.chain(reading.buckets.range(live).copied()).collect();
        newest(tables, id, all.into_iter().rev())
    }

    /// The oldest bucket that holds ids.
    pub(super) fn first(&self) -> Option<IdBucket> {
        let read = self.reading.as_ref().and_then(|reading| reading.buckets.first());
        self.filters.keys().next().into_iter().chain(read).min().copied()
    }

    /// Forgets the buckets below `bucket`.
    pub(super) fn forget_before(&mut self, bucket: IdBucket) {
        self.filters = self.filters.split_off(&bucket);
        if let Some(reading) = &mut self.reading {
            reading.buckets = reading.buckets.split_off(&bucket);
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.filters.values().map(IdFilter::bytes).sum()
    }
}

fn newest(
    tables: &Tables,
    id: IdKey,
    mut buckets: impl Iterator<Item = IdBucket>,
) -> Result<Option<Seen>, StoreError> {
    let read = |bucket| tables.get(Table::Ids, &store_keys::id(bucket, id), store_values::read_seen).transpose();
    buckets.find_map(read).transpose()
}

fn insert(filters: &mut Filters, bucket: IdBucket, id: IdKey, memory: &FilterMemory) {
    let filter = match filters.entry(bucket) {
        std::collections::btree_map::Entry::Occupied(filter) => filter.into_mut(),
        std::collections::btree_map::Entry::Vacant(_) => {
            // The bucket before tells how many are to be expected.
            let before = filters.range(..bucket).next_back().map_or(0, |(_, filter)| filter.len());
            filters.entry(bucket).or_insert(IdFilter::new(before + before / 4, memory))
        }
    };
    filter.insert(IdHash::of(id));
}

/// The buckets that the ids table holds, by a look-up each.
fn stored_buckets(tables: &Tables) -> Result<BTreeSet<IdBucket>, StoreError> {
    let mut buckets = BTreeSet::new();
    let mut rows = tables.db().raw_iterator_cf(tables.family(Table::Ids));
    rows.seek_to_first();
    while let Some(key) = rows.key() {
        let (bucket, _) = store_keys::read_id(key).map_err(|error| StoreError::stored(&tables.path, error))?;
        buckets.insert(bucket);
        let Some(next) = bucket.0.checked_add(1) else { break };
        rows.seek(store_keys::ids_from(IdBucket(next)));
    }
    rows.status().map_err(|error| tables.error(&error))?;
    Ok(buckets)
}

/// Builds the filters of all that the ids table holds, unless it is asked to stop.
fn read(tables: &Tables, memory: &FilterMemory, stop: &AtomicBool) -> Result<Filters, StoreError> {
    let mut filters = Filters::new();
    let mut options = rocksdb::ReadOptions::default();
    // A scan of all ids would push everything else out of the block cache.
    options.fill_cache(false);
    options.set_readahead_size(1 << 20);
    let mut rows = tables.db().raw_iterator_cf_opt(tables.family(Table::Ids), options);
    rows.seek_to_first();
    while let Some(key) = rows.key() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (bucket, id) = store_keys::read_id(key).map_err(|error| StoreError::stored(&tables.path, error))?;
        insert(&mut filters, bucket, id, memory);
        rows.next();
    }
    rows.status().map_err(|error| tables.error(&error))?;
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::codec::store_values::FoldSettings;
    use crate::domain::time::Timestamp;
    use crate::domain::view::built_in;
    use crate::store::StoreMemory;

    const ALL: RangeInclusive<IdBucket> = IdBucket(0)..=IdBucket(u32::MAX);

    fn put(tables: &Tables, bucket: u32, id: u128) {
        let mut batch = rocksdb::WriteBatch::default();
        let seen = Seen { at: Timestamp::from_micros(bucket.into()), fingerprint: 0 };
        let key = store_keys::id(IdBucket(bucket), IdKey(id));
        batch.put_cf(tables.family(Table::Ids), key, store_values::seen(seen));
        tables.write(batch).expect("the disk has room");
    }

    fn bucket_of(ids: &Ids, tables: &Tables, id: u128) -> Option<i64> {
        ids.find(tables, IdKey(id), ALL).expect("it can be read").map(|seen| seen.at.micros())
    }

    #[test]
    fn while_stored_ids_are_read_each_is_found_and_what_comes_meanwhile_is_kept() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let memory = StoreMemory::new(0);
        let settings = FoldSettings {
            views: built_in(),
            dedupe_window: 1,
            max_future: 0,
            max_age: 1,
            codec_version: 1,
            rates: false,
        };
        let tables = Arc::new(Tables::open(dir.path(), &settings, &memory).expect("a new store"));
        (1..=3).for_each(|bucket| put(&tables, bucket, bucket.into()));
        put(&tables, 3, 1);

        // The thread reads, and holds back what it read until it is asked for.
        let (go, wait) = mpsc::channel();
        let (its_tables, its_memory) = (Arc::clone(&tables), memory.filters.clone());
        let thread = std::thread::spawn(move || {
            let read = read(&its_tables, &its_memory, &AtomicBool::new(false));
            wait.recv().expect("the test lives");
            read
        });
        let buckets = stored_buckets(&tables).expect("they can be read");
        assert_eq!(buckets.iter().map(|bucket| bucket.0).collect::<Vec<_>>(), [1, 2, 3]);
        let reading = Reading { buckets, stop: Arc::default(), thread: Some(thread) };
        let mut ids = Ids { filters: Filters::new(), reading: Some(reading), memory: memory.filters.clone() };

        put(&tables, 3, 9);
        ids.insert(IdBucket(3), IdKey(9));
        put(&tables, 4, 2);
        ids.insert(IdBucket(4), IdKey(2));
        ids.take_what_was_read().expect("nothing was read yet");
        assert_eq!(
            [1, 2, 3, 9, 5].map(|id| bucket_of(&ids, &tables, id)),
            [Some(3), Some(4), Some(3), Some(3), None]
        );
        assert_eq!(ids.first(), Some(IdBucket(1)));
        ids.forget_before(IdBucket(2));
        assert_eq!(ids.first(), Some(IdBucket(2)));

        go.send(()).expect("the thread waits");
        while ids.reading.is_some() {
            ids.take_what_was_read().expect("it was read");
            std::thread::yield_now();
        }
        assert_eq!(ids.filters.keys().map(|bucket| bucket.0).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(
            [1, 2, 3, 9, 5].map(|id| bucket_of(&ids, &tables, id)),
            [Some(3), Some(4), Some(3), Some(3), None]
        );
    }
}
