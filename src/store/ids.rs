//! Which ids the store holds. Ids are stored in segments, each a part of a bucket with a filter in memory, so that RocksDB is
//! asked about duplicates and hardly ever about anything else. Within a segment a range of ids is one value, to which each flush
//! adds a sorted run. A segment that is full gets its filter stored and takes no more ids; the next one is twice as large.
//!
//! When a store is opened, a thread of its own reads the filters, and builds those that were not stored from their ids, for the
//! group waits for nobody long; until a filter is there RocksDB is asked, which is slower and no less right.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rocksdb::WriteBatch;

use super::error::StoreError;
use super::id_filter::{IdFilter, IdHash};
use super::memory::FilterMemory;
use super::merging::looking;
use super::tables::{Table, Tables};
use crate::codec::store_ids::{self, IdSegment, RANGE_BITS_MAX, RANGE_BITS_MIN};
use crate::domain::usage::dedupe::{IdBucket, IdKey, Seen};

/// Ids of the least segment.
const SEGMENT_MIN: usize = 32_768;
/// Ids of a range when its segment is full: their run is read as a whole.
const IDS_OF_RANGE: usize = 256;
/// A stored filter comes in pieces of at most so many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// What is known of a segment.
struct Segment {
    range_bits: u32,
    /// `None` while it is being read.
    filter: Option<IdFilter>,
    /// Whether it takes no more ids.
    is_full: bool,
}

/// The segments of the buckets that the ids table holds. Every stored id is in its segment's filter, or that is still
/// being read.
pub(super) struct Ids {
    segments: BTreeMap<IdSegment, Segment>,
    reading: Option<Reading>,
    memory: FilterMemory,
}

/// The ids of one flush go to these segments.
#[derive(Clone, Default)]
pub(super) struct Place(BTreeMap<IdBucket, (IdSegment, u32)>);

impl Place {
    /// Hands the ids of a flush, sorted, to `out`.
    pub(super) fn put(&self, tables: &Tables, ids: &[(IdBucket, IdKey, Seen)], out: &mut WriteBatch) {
        let family = tables.family(Table::Ids);
        let key_of = |(bucket, id, _): &(IdBucket, IdKey, Seen)| {
            let (segment, range_bits) = self.0[bucket];
            store_ids::run(segment, range_bits, *id)
        };
        let mut run = Vec::new();
        for of_range in ids.chunk_by(|one, next| key_of(one) == key_of(next)) {
            run.clear();
            of_range.iter().for_each(|(_, id, seen)| store_ids::put_entry(&mut run, *id, *seen));
            out.merge_cf(family, key_of(&of_range[0]), &run);
        }
    }
}

/// The thread that reads the filters of a store that was opened.
struct Reading {
    stop: Arc<AtomicBool>,
    /// `None` once it is waited for.
    thread: Option<JoinHandle<Result<BTreeMap<IdSegment, IdFilter>, StoreError>>>,
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
        let segments = stored_segments(tables)?;
        let mut ids = Self { segments: BTreeMap::new(), reading: None, memory: memory.clone() };
        if segments.is_empty() {
            return Ok(ids);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (its_tables, its_memory, its_stop) = (Arc::clone(tables), memory.clone(), Arc::clone(&stop));
        let wanted: Vec<IdSegment> = segments.keys().copied().collect();
        let thread = std::thread::Builder::new().name("ids".into());
        let thread = thread.spawn(move || read(&its_tables, &wanted, &its_memory, &its_stop));
        let thread = thread.map_err(|error| StoreError::Io {
            path: tables.path.clone(),
            problem: format!("no thread to read ids: {error}"),
        })?;
        ids.reading = Some(Reading { stop, thread: Some(thread) });
        // What was stored takes no more ids: a filter that was stored must stay the whole one.
        let full = |range_bits| Segment { range_bits, filter: None, is_full: true };
        ids.segments = segments.into_iter().map(|(segment, range_bits)| (segment, full(range_bits))).collect();
        Ok(ids)
    }

    /// Where the ids of a flush are to go: so many of each bucket. A segment that has no room for them is full.
    pub(super) fn place(&mut self, counts: &BTreeMap<IdBucket, usize>) -> Place {
        let mut place = Place::default();
        for (&bucket, &count) in counts {
            let of_bucket = all_of(bucket..=bucket);
            let last = self.segments.range_mut(of_bucket).next_back();
            let (number, capacity) = match last {
                Some((segment, known)) => {
                    let room =
                        known.filter.as_ref().map_or(0, |filter| filter.capacity().saturating_sub(filter.len()));
                    if !known.is_full
                        && (room >= count || known.filter.as_ref().is_some_and(|filter| filter.len() == 0))
                    {
                        place.0.insert(bucket, (*segment, known.range_bits));
                        continue;
                    }
                    // One that was only closed by a stop was large enough.
                    let growth = if known.is_full { 1 } else { 2 };
                    known.is_full = true;
                    (segment.number + 1, growth * known.filter.as_ref().map_or(SEGMENT_MIN, IdFilter::len))
                }
                // The bucket before tells how many are to be expected.
                None => (0, self.count_before(bucket) / 4),
            };
            let capacity = capacity.max(count).max(SEGMENT_MIN);
            let ranges = (capacity / IDS_OF_RANGE).next_power_of_two().trailing_zeros();
            let range_bits = ranges.clamp(RANGE_BITS_MIN, RANGE_BITS_MAX);
            let segment = IdSegment { bucket, number };
            let filter = Some(IdFilter::new(capacity, &self.memory));
            self.segments.insert(segment, Segment { range_bits, filter, is_full: false });
            place.0.insert(bucket, (segment, range_bits));
        }
        place
    }

    /// How many ids the bucket before this one holds.
    fn count_before(&self, bucket: IdBucket) -> usize {
        let before = IdBucket(bucket.0.saturating_sub(1));
        let filters = self.segments.range(all_of(before..=before)).filter_map(|(_, known)| known.filter.as_ref());
        filters.map(IdFilter::len).sum()
    }

    /// Notes stored ids.
    pub(super) fn insert(&mut self, place: &Place, ids: &[(IdBucket, IdKey, Seen)]) {
        for of_bucket in ids.chunk_by(|one, next| one.0 == next.0) {
            let filter = place.0.get(&of_bucket[0].0).and_then(|(segment, _)| self.segments.get_mut(segment));
            let filter = filter.and_then(|known| known.filter.as_mut()).expect("a place has its filter");
            of_bucket.iter().for_each(|(_, id, _)| filter.insert(IdHash::of(*id)));
        }
    }

    /// Puts the filters of segments that have become full into `out`; with `all`, of every segment, which takes no more ids then.
    pub(super) fn put_filters(&mut self, tables: &Tables, all: bool, out: &mut WriteBatch) {
        let family = tables.family(Table::Filters);
        for (segment, known) in &mut self.segments {
            let Some(filter) = known.filter.as_mut().filter(|filter| !filter.is_stored && filter.len() > 0) else {
                continue;
            };
            known.is_full |= all;
            if !known.is_full {
                continue;
            }
            filter.is_stored = true;
            for (piece, bytes) in (0_u16..).zip(filter.to_bytes().chunks(PIECE_BYTES)) {
                out.put_cf(family, store_ids::filter(*segment, piece), bytes);
            }
        }
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
        self.reading = None;
        for (segment, filter) in read {
            // What has expired meanwhile is no longer among the segments.
            if let Some(known) = self.segments.get_mut(&segment) {
                known.filter = Some(filter);
            }
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
        let holds = |known: &Segment| known.filter.as_ref().is_none_or(|filter| filter.may_hold(hash));
        for (segment, known) in self.segments.range(all_of(live)).rev().filter(|(_, known)| holds(known)) {
            let key = store_ids::run(*segment, known.range_bits, id);
            let runs = looking(|| tables.db().get_pinned_cf(tables.family(Table::Ids), key));
            let runs = runs.map_err(|error| tables.error(&error))?;
            if let Some(seen) = runs.and_then(|runs| store_ids::find_entry(&runs, id)) {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// The oldest bucket that holds ids.
    pub(super) fn first(&self) -> Option<IdBucket> {
        self.segments.keys().next().map(|segment| segment.bucket)
    }

    /// Forgets the buckets below `bucket`.
    pub(super) fn forget_before(&mut self, bucket: IdBucket) {
        self.segments = self.segments.split_off(&IdSegment { bucket, number: 0 });
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.segments.values().filter_map(|known| known.filter.as_ref()).map(IdFilter::bytes).sum()
    }
}

/// All segments of `buckets`.
const fn all_of(buckets: RangeInclusive<IdBucket>) -> RangeInclusive<IdSegment> {
    let from = IdSegment { bucket: *buckets.start(), number: 0 };
    from..=IdSegment { bucket: *buckets.end(), number: u16::MAX }
}

/// The segments that the ids table holds with the bits of their ranges, by a look-up each.
fn stored_segments(tables: &Tables) -> Result<BTreeMap<IdSegment, u32>, StoreError> {
    let mut segments = BTreeMap::new();
    let mut runs = tables.db().raw_iterator_cf(tables.family(Table::Ids));
    runs.seek_to_first();
    while let Some(key) = runs.key() {
        let read = store_ids::read_run(key).map_err(|error| StoreError::stored(&tables.path, error))?;
        let (segment, range_bits, _) = read;
        segments.insert(segment, range_bits);
        let mut beyond = store_ids::runs_of(segment).to_vec();
        beyond.push(u8::MAX);
        runs.seek(beyond);
    }
    runs.status().map_err(|error| tables.error(&error))?;
    Ok(segments)
}

/// Reads the filters that are stored and builds the others from their ids, unless it is asked to stop.
fn read(
    tables: &Tables,
    wanted: &[IdSegment],
    memory: &FilterMemory,
    stop: &AtomicBool,
) -> Result<BTreeMap<IdSegment, IdFilter>, StoreError> {
    let mut bytes: BTreeMap<IdSegment, Vec<u8>> = BTreeMap::new();
    let mut pieces = tables.db().raw_iterator_cf(tables.family(Table::Filters));
    pieces.seek_to_first();
    while let Some((key, piece)) = pieces.item() {
        let read = store_ids::read_filter(key).map_err(|error| StoreError::stored(&tables.path, error))?;
        bytes.entry(read.0).or_default().extend_from_slice(piece);
        pieces.next();
    }
    pieces.status().map_err(|error| tables.error(&error))?;
    let mut filters = BTreeMap::new();
    for &segment in wanted {
        let stored = bytes.remove(&segment).and_then(|bytes| IdFilter::from_bytes(&bytes, memory));
        let filter = match stored {
            Some(filter) => filter,
            None => match built(tables, segment, memory, stop)? {
                Some(filter) => filter,
                None => break,
            },
        };
        filters.insert(segment, filter);
    }
    Ok(filters)
}

/// The filter of a segment, from its ids; `None` when it is asked to stop. Two passes, for how many ids there are is not known
/// before, and keeping them all would take more memory than the filter.
fn built(
    tables: &Tables,
    segment: IdSegment,
    memory: &FilterMemory,
    stop: &AtomicBool,
) -> Result<Option<IdFilter>, StoreError> {
    let mut count = 0;
    if !each_run(tables, segment, stop, |_, run| count += run.len() / store_ids::ENTRY)? {
        return Ok(None);
    }
    let mut filter = IdFilter::new(count, memory);
    let insert = |first: u8, run: &[u8]| store_ids::ids(run, first).for_each(|id| filter.insert(IdHash::of(id)));
    let is_whole = each_run(tables, segment, stop, insert)?;
    Ok(is_whole.then_some(filter))
}

/// Hands every run of a segment to `each`, with the first byte of its ids; false when it was asked to stop before the end.
fn each_run(
    tables: &Tables,
    segment: IdSegment,
    stop: &AtomicBool,
    mut each: impl FnMut(u8, &[u8]),
) -> Result<bool, StoreError> {
    let mut options = rocksdb::ReadOptions::default();
    // A scan of many ids would push everything else out of the block cache.
    options.fill_cache(false);
    options.set_readahead_size(1 << 20);
    let mut beyond = store_ids::runs_of(segment).to_vec();
    beyond.push(u8::MAX);
    options.set_iterate_upper_bound(beyond);
    let mut runs = tables.db().raw_iterator_cf_opt(tables.family(Table::Ids), options);
    looking(|| runs.seek(store_ids::runs_of(segment)));
    while let Some((key, run)) = runs.item() {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let (_, _, first) = store_ids::read_run(key).map_err(|error| StoreError::stored(&tables.path, error))?;
        each(first, run);
        looking(|| runs.next());
    }
    runs.status().map_err(|error| tables.error(&error))?;
    Ok(true)
}
