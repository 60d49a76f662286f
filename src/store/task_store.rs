//! A task's store as its worker sees it: opened or created with the fold's settings, read by point look-ups, written
//! by whole batches that carry the position (Laws 1 and 3), flushed so that a replay stays a matter of seconds.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rocksdb::WriteBatch;

use super::batch::StoreBatch;
use super::error::{StoreError, differences};
use super::ids::Ids;
use super::memory::StoreMemory;
use super::reader::StoreReader;
use super::tables::{Table, Tables};
use super::writer::{StoreWriter, Written};
use crate::codec::store_values::{FoldSettings, TaskMeta};
use crate::codec::{store_ids, store_keys, store_values};
use crate::domain::cube::fold::{ContentKey, Contents};
use crate::domain::limits::rate::RateRing;
use crate::domain::usage::content::Content;
use crate::domain::usage::dedupe::{IdBucket, IdKey, Seen};

/// After so many records a flush starts by itself, so that a crash costs the replay of at most about twice as many.
/// A count, not a time: at any rate of records the replay takes the same few seconds, and no clock is read.
const FLUSH_RECORDS: i64 = 500_000;
/// How long a close waits for readers.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What a store takes, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes in write buffers.
    pub write_buffer_bytes: u64,
    /// Bytes of id filters.
    pub filter_bytes: u64,
    /// Time spent since the store was opened in writes that RocksDB slowed or stopped.
    pub stall_time: Duration,
}

/// One task's store. Dropped without [`Store::close`], it may come back at an older position.
pub struct Store {
    tables: Arc<Tables>,
    ids: Ids,
    partition: i32,
    meta: Option<TaskMeta>,
    flushes: Flushes,
    stall_time: Duration,
}

/// What is on disk and what waits for it.
#[derive(Default)]
struct Flushes {
    /// Position at the last flush that was asked for.
    asked: i64,
    /// Ids below this bucket expired in a batch that is not yet known to be on disk.
    expired: Option<IdBucket>,
    /// Likewise, and a flush that holds that batch has begun.
    expiring: Option<IdBucket>,
}

fn directory(dir: &Path, partition: i32) -> PathBuf {
    dir.join(format!("p{partition}"))
}

/// The partitions that have a store below `dir`, ascending. No directory is no store.
///
/// # Errors
/// When the directory cannot be read.
pub fn partitions(dir: &Path) -> Result<Vec<i32>, StoreError> {
    let failed = |error: io::Error| StoreError::Io { path: dir.to_owned(), problem: error.to_string() };
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_prefix('p')?.parse::<i32>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// Deletes the store of a partition, so that the next start folds its log anew. No store is no error.
///
/// # Errors
/// When it is open or its files cannot be deleted.
pub fn destroy(dir: &Path, partition: i32) -> Result<(), StoreError> {
    let path = directory(dir, partition);
    if !path.exists() {
        return Ok(());
    }
    // RocksDB's own destroy holds the lock and so refuses while a process has the store open; it leaves other files.
    rocksdb::DB::destroy(&rocksdb::Options::default(), &path).map_err(|error| StoreError::of(&path, &error))?;
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Io { path, problem: error.to_string() })
        }
        _ => Ok(()),
    }
}

impl Store {
    /// Opens the store of `partition` below `dir`, or creates it with `settings`.
    ///
    /// # Errors
    /// [`StoreError::OtherSettings`] when it was folded with others; else when it is damaged, in use, or the disk
    /// refuses.
    pub fn create_or_open(
        dir: &Path,
        partition: i32,
        settings: &FoldSettings,
        memory: &StoreMemory,
    ) -> Result<Self, StoreError> {
        let path = directory(dir, partition);
        std::fs::create_dir_all(&path)
            .map_err(|error| StoreError::Io { path: path.clone(), problem: error.to_string() })?;
        let tables = Tables::open(&path, settings, memory)?;
        match tables.get(Table::Meta, &store_keys::SETTINGS, store_values::read_settings)? {
            None => {
                let mut batch = WriteBatch::default();
                let bytes = store_values::settings(settings);
                batch.put_cf(tables.family(Table::Meta), store_keys::SETTINGS, bytes);
                tables.write(batch)?;
                tables.flush(true)?;
            }
            Some(stored) => {
                if let Some(differences) = differences(&stored, settings) {
                    return Err(StoreError::OtherSettings { path, differences });
                }
            }
        }
        let meta = tables.get(Table::Meta, &store_keys::TASK, store_values::read_task)?;
        let tables = Arc::new(tables);
        let ids = Ids::open(&tables, &memory.filters)?;
        let asked = meta.as_ref().map_or(0, |meta| meta.position);
        let flushes = Flushes { asked, ..Flushes::default() };
        Ok(Self { tables, ids, partition, meta, flushes, stall_time: Duration::ZERO })
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition
    }

    /// Where the task stands; `None` before the first commit.
    #[must_use]
    pub const fn meta(&self) -> Option<&TaskMeta> {
        self.meta.as_ref()
    }

    /// A handle for questions, from any thread.
    #[must_use]
    pub fn reader(&self) -> StoreReader {
        StoreReader::new(Arc::clone(&self.tables))
    }

    pub(super) const fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// What is stored of `id` in the newest of the `live` buckets that hold it. Nearly free for an id never seen.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find_id(&self, id: IdKey, live: RangeInclusive<IdBucket>) -> Result<Option<Seen>, StoreError> {
        self.ids.find(&self.tables, id, live)
    }

    /// An org's recent rate.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn rate(&self, org: &str) -> Result<Option<RateRing>, StoreError> {
        self.tables.get(Table::Totals, &store_keys::rate(org), store_values::read_rate)
    }

    /// An empty batch.
    #[must_use]
    pub fn batch(&self) -> StoreBatch {
        StoreBatch::default()
    }

    /// Writes the next batch, with so many ids of each bucket, to this store, in any thread. Give what it returns to
    /// [`Store::written`] before the next batch.
    #[must_use]
    pub fn writer(&mut self, ids: &BTreeMap<IdBucket, usize>) -> StoreWriter {
        let place = self.ids.place(ids);
        StoreWriter::new(Arc::clone(&self.tables), self.ids.first(), place)
    }

    /// Writes a batch and the position that it brings the store to: all of it or nothing (Law 1). The caller has
    /// published everything below that position (Law 3). After an error the store must be reopened.
    ///
    /// # Errors
    /// When RocksDB cannot write.
    pub fn commit(&mut self, batch: StoreBatch, meta: &TaskMeta) -> Result<(), StoreError> {
        let written = self.writer(&batch.count_ids()).write(batch, meta)?;
        self.written(written)
    }

    /// The error of a flush that got no thread.
    #[must_use]
    pub fn no_thread(&self, error: &io::Error) -> StoreError {
        StoreError::Io { path: self.tables.path.clone(), problem: format!("no thread for a flush: {error}") }
    }

    /// Takes note of what its writer wrote.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn written(&mut self, written: Written) -> Result<(), StoreError> {
        // First what the store holds now, whatever fails below: records that it counted must never be folded again.
        self.ids.insert(&written.place, &written.ids);
        if let Some(bucket) = written.expired {
            self.ids.forget_before(bucket);
            self.flushes.expired = Some(bucket);
        }
        let position = written.meta.position;
        self.meta = Some(written.meta);
        self.ids.take_what_was_read()?;
        self.store_filters(false)?;
        if self.is_stalled()? {
            self.stall_time += written.took;
        }
        self.flush_when_due(position)
    }

    /// Stores the filters of segments that are full; with `all`, of every segment. All ids of each are written before.
    fn store_filters(&mut self, all: bool) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        self.ids.put_filters(&self.tables, all, &mut batch);
        if batch.is_empty() { Ok(()) } else { self.tables.write(batch) }
    }

    fn flush_when_due(&mut self, position: i64) -> Result<(), StoreError> {
        if self.flushes.expiring.is_some() && !self.tables.is_flushing()? {
            self.delete_expired_files()?;
        }
        if position.saturating_sub(self.flushes.asked) < FLUSH_RECORDS {
            return Ok(());
        }
        self.flush_in_background()
    }

    /// Merges all that is stored at once, which RocksDB else does bit by bit; to tell what it takes then.
    pub fn compact(&self) {
        for table in Table::ALL {
            self.tables.db().compact_range_cf(self.tables.family(table), None::<&[u8]>, None::<&[u8]>);
        }
    }

    /// Begins to bring what was committed to the disk, if that was not asked for already.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush_in_background(&mut self) -> Result<(), StoreError> {
        let position = self.meta.as_ref().map_or(0, |meta| meta.position);
        if position == self.flushes.asked {
            return Ok(());
        }
        self.tables.flush(false)?;
        self.flushes.asked = position;
        self.flushes.expiring = self.flushes.expired.take().max(self.flushes.expiring);
        Ok(())
    }

    /// Gives the space of expired ids back. Only once their expiry is on disk: before that, a crash would bring back a
    /// position at which they still count (DESIGN.md: ids expire only behind the flushed position).
    fn delete_expired_files(&mut self) -> Result<(), StoreError> {
        let Some(bucket) = self.flushes.expiring.take() else { return Ok(()) };
        let (from, to) = (store_ids::runs_from(IdBucket(0)), store_ids::runs_from(bucket));
        let deleted = self.tables.db().delete_file_in_range_cf(self.tables.family(Table::Ids), from, to);
        deleted.map_err(|error| self.tables.error(&error))
    }

    /// Brings everything committed to the disk: after a crash the store comes back at this position or a later one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.tables.flush(true)?;
        self.flushes.asked = self.meta.as_ref().map_or(0, |meta| meta.position);
        self.flushes.expiring = self.flushes.expired.take().max(self.flushes.expiring);
        self.delete_expired_files()
    }

    /// Flushes, waits for readers to end, and closes: the directory is free when this returns without an error.
    ///
    /// # Errors
    /// When the disk refuses, or a reader is still there after 10 s.
    pub fn close(mut self) -> Result<(), StoreError> {
        let flushed = self.store_filters(true).and_then(|()| self.flush());
        let Self { tables, ids, .. } = self;
        drop(ids);
        let closed = tables.close(CLOSE_PATIENCE);
        flushed.and(closed)
    }

    /// Whether RocksDB slows or stops writes at this moment.
    fn is_stalled(&self) -> Result<bool, StoreError> {
        use rocksdb::properties::{ACTUAL_DELAYED_WRITE_RATE, IS_WRITE_STOPPED};
        Ok(self.tables.sum(IS_WRITE_STOPPED)? + self.tables.sum(ACTUAL_DELAYED_WRITE_RATE)? > 0)
    }

    /// What went wrong in the background since the store was opened: a flush or a merge that the disk refused. Nobody else
    /// would know before the next write.
    ///
    /// # Errors
    /// When something did, or RocksDB does not say.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.tables.sum(rocksdb::properties::BACKGROUND_ERRORS)? == 0 {
            return Ok(());
        }
        // A batch of nothing changes nothing, and is refused with the reason.
        self.tables.write(WriteBatch::default())
    }

    /// What the store takes now.
    ///
    /// # Errors
    /// When RocksDB does not say.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, TOTAL_SST_FILES_SIZE};
        Ok(StoreStats {
            disk_bytes: self.tables.sum(TOTAL_SST_FILES_SIZE)?,
            write_buffer_bytes: self.tables.sum(CUR_SIZE_ALL_MEM_TABLES)?,
            filter_bytes: self.ids.bytes() as u64,
            stall_time: self.stall_time,
        })
    }

    /// Writes every fact, total, recent rate and content row, merged, in key order, one `hex key, tab, hex value` a line: two stores that folded
    /// the same log give the same text.
    ///
    /// # Errors
    /// When the store cannot be read or `out` refuses.
    pub fn dump(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut hex = |bytes: &[u8], end| {
            bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            write!(out, "{end}")
        };
        for table in [Table::Blocks, Table::Totals, Table::Content] {
            let mut rows = self.tables.db().raw_iterator_cf(self.tables.family(table));
            rows.seek_to_first();
            while let Some((key, value)) = rows.item() {
                hex(key, '\t')?;
                hex(value, '\n')?;
                rows.next();
            }
            rows.status().map_err(|error| io::Error::other(self.tables.error(&error)))?;
        }
        Ok(())
    }
}

impl Contents for Store {
    type Error = StoreError;

    fn content(&self, key: &ContentKey<'_>) -> Result<Option<Content>, StoreError> {
        self.tables.content(key)
    }
}
