//! RocksDB's side of a store: its column families, how each is tuned, and the handle that keeps the files open.
//!
//! The write-ahead log is off. What makes that sound is `atomic_flush`: all tables are flushed together, so after a
//! crash the store stands at one position in the past and the log is replayed from there (Law 1).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompactionStyle, DBCompressionType, Env,
    FlushOptions, Options, WriteBatch, WriteOptions,
};

use super::error::StoreError;
use super::memory::StoreMemory;
use super::merging;
use crate::codec::store_values::FoldSettings;
use crate::codec::{store_keys, store_values};
use crate::domain::cube::fold::{ContentKey, Contents};
use crate::domain::usage::content::Content;

/// Bytes that flushes and merges of one store write in a second at most; flushes come first.
const WRITTEN_PER_SECOND: i64 = 64 << 20;

/// A column family of stores that held rows of views.
const OF_VIEWS: &str = "rows";

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// The facts: a bundle of blocks for each (org, UTC day).
    Blocks,
    /// A tally for each (org, UTC hour), and each org's recent rate.
    Totals,
    Content,
    /// Sorted runs of seen ids.
    Ids,
    /// The filters of segments of ids that are full.
    Filters,
    Terms,
    Levels,
    Meta,
}

impl Table {
    pub(super) const ALL: [Self; 8] = [
        Self::Blocks,
        Self::Totals,
        Self::Content,
        Self::Ids,
        Self::Filters,
        Self::Terms,
        Self::Levels,
        Self::Meta,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Totals => "totals",
            Self::Content => "content",
            Self::Ids => "ids",
            Self::Filters => "filters",
            Self::Terms => "terms",
            Self::Levels => "levels",
            Self::Meta => "meta",
        }
    }

    fn options(self, memory: &StoreMemory) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&memory.cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_format_version(5);
        if matches!(self, Self::Blocks | Self::Totals | Self::Content | Self::Ids) {
            blocks.set_bloom_filter(10.0, false);
            blocks.set_whole_key_filtering(true);
        }
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(memory.write_buffer_bytes());
        options.set_max_write_buffer_number(3);
        // Most rows that are asked for are new, and the write buffer is where that is found out.
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.05);
        options.set_level_compaction_dynamic_level_bytes(true);
        match self {
            Self::Blocks => merging::of_blocks(&mut options),
            Self::Totals => merging::of_totals(&mut options),
            Self::Ids => merging::of_ids(&mut options),
            _ => {}
        }
        if self == Self::Ids {
            // Ids are hashes: they do not compress, they are written once, and they go by the range.
            options.set_compression_type(DBCompressionType::None);
            options.set_compaction_style(DBCompactionStyle::Universal);
        }
        options
    }
}

/// An open RocksDB. It closes when the last handle to it is dropped.
pub(super) struct Tables {
    db: DB,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What its fold was told.
    pub(super) settings: FoldSettings,
    /// Set when its owner wants to close it: no new reader may begin.
    closing: AtomicBool,
    // Declared last: it must be dropped, and so tell of the end, after `db`.
    closed: TellsOnDrop,
}

impl Tables {
    /// Opens or creates the files in `path`.
    pub(super) fn open(path: &Path, settings: &FoldSettings, memory: &StoreMemory) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_write_buffer_manager(&memory.write_buffers);
        options.set_max_background_jobs(2);
        // Merging comes after folding and answering: its threads have the lowest priority, and its writes a bound.
        let mut env = Env::new().map_err(|error| StoreError::of(path, &error))?;
        env.lower_thread_pool_cpu_priority();
        options.set_env(&env);
        options.set_ratelimiter(WRITTEN_PER_SECOND, 100_000, 10);
        options.set_max_open_files(memory.open_files);
        options.set_bytes_per_sync(1 << 20);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        if DB::list_cf(&options, path).is_ok_and(|families| families.iter().any(|family| family == OF_VIEWS)) {
            return Err(StoreError::OldFormat { path: path.to_owned() });
        }
        let families = Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), table.options(memory)));
        let db =
            DB::open_cf_descriptors(&options, path, families).map_err(|error| StoreError::of(path, &error))?;
        Ok(Self {
            db,
            path: path.to_owned(),
            settings: settings.clone(),
            closing: AtomicBool::new(false),
            closed: TellsOnDrop(Closed::default()),
        })
    }

    /// The database, for iterators and snapshots.
    pub(super) const fn db(&self) -> &DB {
        &self.db
    }

    /// The handle of a table.
    pub(super) fn family(&self, table: Table) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table is opened with the database")
    }

    /// The value of `key`, decoded.
    pub(super) fn get<T>(
        &self,
        table: Table,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, crate::domain::cube::bytes::StoredError>,
    ) -> Result<Option<T>, StoreError> {
        let value = self.db.get_pinned_cf(self.family(table), key).map_err(|error| self.error(&error))?;
        value.map(|value| read(&value)).transpose().map_err(|error| StoreError::stored(&self.path, error))
    }

    /// Applies a batch: all of it or nothing.
    pub(super) fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        // A batch is in key order, so each insert can start where the last one ended.
        options.set_memtable_insert_hint_per_batch(true);
        self.db.write_opt(batch, &options).map_err(|error| self.error(&error))
    }

    /// Flushes all tables together; with `wait`, until they are on disk.
    pub(super) fn flush(&self, wait: bool) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        let families = Table::ALL.map(|table| self.family(table));
        self.db.flush_cfs_opt(&families.each_ref(), &options).map_err(|error| self.error(&error))
    }

    /// Whether a write buffer that was sealed for a flush is not yet on disk.
    pub(super) fn is_flushing(&self) -> Result<bool, StoreError> {
        Ok(self.sum(rocksdb::properties::NUM_IMMUTABLE_MEM_TABLE)? > 0)
    }

    /// A property summed over the tables.
    pub(super) fn sum(&self, property: &rocksdb::properties::PropName) -> Result<u64, StoreError> {
        Table::ALL.iter().try_fold(0, |sum, table| {
            let value = self.db.property_int_value_cf(self.family(*table), property);
            Ok(sum + value.map_err(|error| self.error(&error))?.unwrap_or(0))
        })
    }

    /// What a RocksDB error means here.
    pub(super) fn error(&self, error: &rocksdb::Error) -> StoreError {
        StoreError::of(&self.path, error)
    }

    /// Whether its owner is closing it.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Gives up this handle and waits until the last other one is gone and the files are closed.
    pub(super) fn close(self: Arc<Self>, patience: Duration) -> Result<(), StoreError> {
        self.closing.store(true, Ordering::Release);
        let (closed, path) = (self.closed.0.clone(), self.path.clone());
        drop(self);
        let (lock, changed) = &*closed.0;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let (closed, _) =
            changed.wait_timeout_while(guard, patience, |closed| !*closed).unwrap_or_else(PoisonError::into_inner);
        if *closed { Ok(()) } else { Err(StoreError::StillRead { path, seconds: patience.as_secs() }) }
    }
}

#[derive(Clone, Default)]
struct Closed(Arc<(Mutex<bool>, Condvar)>);

struct TellsOnDrop(Closed);

impl Drop for TellsOnDrop {
    fn drop(&mut self) {
        let (lock, changed) = &*self.0.0;
        *lock.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}

impl Contents for Tables {
    type Error = StoreError;

    fn content(&self, key: &ContentKey<'_>) -> Result<Option<Content>, StoreError> {
        let mut bytes = Vec::with_capacity(96);
        store_keys::put_content(&mut bytes, key);
        self.get(Table::Content, &bytes, store_values::read_content)
    }
}
