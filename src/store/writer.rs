//! The writing of one batch, apart from the store's owner: encoded entries are sorted, handed to RocksDB at once and
//! atomically (Law 1), in whichever thread. It decides nothing; what it wrote is told to the store afterwards. Next to
//! read: `batch`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rocksdb::WriteBatch;

use super::batch::StoreBatch;
use super::error::StoreError;
use super::tables::{Table, Tables};
use crate::codec::store_values::TaskMeta;
use crate::codec::{store_keys, store_values};
use crate::domain::content::Content;
use crate::domain::dedupe::{IdBucket, IdKey, Seen};
use crate::domain::fold::{ContentKey, RowKey, Rows};
use crate::domain::tally::Tally;

/// Writes one batch to a store, and reads the rows that it holds.
pub struct StoreWriter {
    tables: Arc<Tables>,
    /// The oldest bucket that holds ids.
    oldest_ids: Option<IdBucket>,
}

/// What was written, for [`super::Store::written`].
pub struct Written {
    pub(super) ids: Vec<(IdBucket, IdKey, Seen)>,
    /// Ids in buckets below this one were deleted.
    pub(super) expired: Option<IdBucket>,
    pub(super) meta: TaskMeta,
    pub(super) took: Duration,
}

impl StoreWriter {
    pub(super) const fn new(tables: Arc<Tables>, oldest_ids: Option<IdBucket>) -> Self {
        Self { tables, oldest_ids }
    }

    /// Writes a batch and the position that it brings the store to: all of it or nothing (Law 1). The caller has
    /// published everything below that position (Law 3). After an error the store must be reopened.
    ///
    /// # Errors
    /// When RocksDB cannot write.
    pub fn write(self, mut batch: StoreBatch, meta: &TaskMeta) -> Result<Written, StoreError> {
        let (ids, expired) = batch.take_ids();
        let expired = expired.filter(|bucket| self.oldest_ids.is_some_and(|oldest| oldest < *bucket));
        let mut out = WriteBatch::with_capacity_bytes(batch.bytes() + 48 * ids.len() + 256);
        batch.write(&self.tables, &mut out);
        let family = self.tables.family(Table::Ids);
        for (bucket, id, seen) in &ids {
            out.put_cf(family, store_keys::id(*bucket, *id), store_values::seen(*seen));
        }
        if let Some(bucket) = expired {
            out.delete_range_cf(family, store_keys::ids_from(IdBucket(0)), store_keys::ids_from(bucket));
        }
        out.put_cf(self.tables.family(Table::Meta), store_keys::TASK, store_values::task(meta));
        let started = Instant::now();
        self.tables.write(out)?;
        Ok(Written { ids, expired, meta: meta.clone(), took: started.elapsed() })
    }
}

impl Rows for StoreWriter {
    type Error = StoreError;

    fn row(&self, key: &RowKey<'_>) -> Result<Option<Tally>, StoreError> {
        self.tables.row(key)
    }

    fn content(&self, key: &ContentKey<'_>) -> Result<Option<Content>, StoreError> {
        self.tables.content(key)
    }
}
