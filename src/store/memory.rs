//! The memory that all stores of a process share: block cache, write buffers and id filters, bounded as a whole
//! (Law 6).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rocksdb::{Cache, WriteBufferManager};

/// The least share that works: below it RocksDB would flush at every batch.
const SHARE_MIN: usize = 32 << 20;

/// Files that one store keeps open where nobody counts them.
const OPEN_FILES: i32 = 256;

/// Memory shared by the stores of a process; clones share it.
#[derive(Clone)]
pub struct StoreMemory {
    pub(super) cache: Cache,
    pub(super) write_buffers: WriteBufferManager,
    pub(super) filters: FilterMemory,
    write_buffer_bytes: usize,
    /// The most files that one store keeps open.
    pub(super) open_files: i32,
}

impl StoreMemory {
    /// Shares out `bytes` (at least 32 MiB are taken): five eighths to the block cache, in which the write buffers
    /// (up to three eighths of all) are accounted, and three eighths to the id filters.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let eighth = bytes.max(SHARE_MIN) / 8;
        // Few large shards: a day of a large org is one value of up to megabytes.
        let cache = Cache::new_hyper_clock_cache(5 * eighth, 0);
        let write_buffers =
            WriteBufferManager::new_write_buffer_manager_with_cache(3 * eighth, false, cache.clone());
        Self {
            cache,
            write_buffers,
            filters: FilterMemory::new(3 * eighth),
            write_buffer_bytes: 3 * eighth,
            open_files: OPEN_FILES,
        }
    }

    /// The same, with so many files that one store keeps open at most.
    #[must_use]
    pub fn with_open_files(self, open_files: i32) -> Self {
        Self { open_files, ..self }
    }

    /// The size at which one table's write buffer is flushed by itself.
    pub(super) fn write_buffer_bytes(&self) -> usize {
        (self.write_buffer_bytes / 4).clamp(4 << 20, 64 << 20)
    }
}

/// What is left for id filters; clones share it.
#[derive(Clone, Debug)]
pub(super) struct FilterMemory(Arc<AtomicUsize>);

impl FilterMemory {
    /// A budget of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Takes up to `wanted` bytes and says how many it got.
    pub(super) fn take(&self, wanted: usize) -> usize {
        let rest = |left: usize| Some(left - wanted.min(left));
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest).unwrap_or_else(|left| left);
        wanted.min(left)
    }

    /// Gives bytes back.
    pub(super) fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}
