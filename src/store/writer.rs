//! The writing of one batch, apart from the store's owner: encoded entries are sorted, handed to RocksDB at once and
//! atomically (Law 1), in whichever thread. It decides nothing; what it wrote is told to the store afterwards. Next to
//! read: `batch`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rocksdb::WriteBatch;

use super::batch::StoreBatch;
use super::error::StoreError;
use super::ids::Place;
use super::tables::{Table, Tables};
use crate::codec::store_values::TaskMeta;
use crate::codec::{store_ids, store_keys, store_values};
use crate::domain::usage::dedupe::{IdBucket, IdKey, Seen};

/// Writes one batch to a store.
pub struct StoreWriter {
    tables: Arc<Tables>,
    /// The oldest bucket that holds ids.
    oldest_ids: Option<IdBucket>,
    place: Place,
}

/// What was written, for [`super::Store::written`].
pub struct Written {
    pub(super) ids: Vec<(IdBucket, IdKey, Seen)>,
    pub(super) place: Place,
    /// Ids in buckets below this one were deleted.
    pub(super) expired: Option<IdBucket>,
    pub(super) meta: TaskMeta,
    pub(super) took: Duration,
}

impl StoreWriter {
    pub(super) const fn new(tables: Arc<Tables>, oldest_ids: Option<IdBucket>, place: Place) -> Self {
        Self { tables, oldest_ids, place }
    }

    /// Writes a batch and the position that it brings the store to: all of it or nothing (Law 1). The caller has
    /// published everything below that position (Law 3). After an error the store must be reopened.
    ///
    /// # Errors
    /// When RocksDB cannot write.
    pub fn write(self, mut batch: StoreBatch, meta: &TaskMeta) -> Result<Written, StoreError> {
        let (ids, expired) = batch.take_ids();
        let expired = expired.filter(|bucket| self.oldest_ids.is_some_and(|oldest| oldest < *bucket));
        let mut out = WriteBatch::with_capacity_bytes(batch.bytes() + 32 * ids.len() + 256);
        batch.write(&self.tables, &mut out);
        self.place.put(&self.tables, &ids, &mut out);
        if let Some(bucket) = expired {
            let (runs, filters) = (self.tables.family(Table::Ids), self.tables.family(Table::Filters));
            out.delete_range_cf(runs, store_ids::runs_from(IdBucket(0)), store_ids::runs_from(bucket));
            out.delete_range_cf(filters, store_ids::filters_from(IdBucket(0)), store_ids::filters_from(bucket));
        }
        out.put_cf(self.tables.family(Table::Meta), store_keys::TASK, store_values::task(meta));
        let started = Instant::now();
        self.tables.write(out)?;
        Ok(Written { ids, place: self.place, expired, meta: meta.clone(), took: started.elapsed() })
    }
}
