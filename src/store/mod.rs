//! The store: one RocksDB per task, a cache of the fold of its log (Law 1), never the truth.
//!
//! The worker owns a [`Store`], fills a [`StoreBatch`] and commits it: facts, totals, ids, terms, levels and the position go in
//! together or not at all. Questions are asked of a [`StoreSnapshot`], which a [`StoreReader`] from the [`Shelf`] gives.
//! This room never decides what a fact holds, never reads a clock, and is the only one that knows RocksDB.
//!
//! Read on: `tables` (files and their tuning), `merging` (several flushes' facts become one),
//! `task_store` (the worker's side), `batch` and `writer`, `ids` and `id_filter`
//! (duplicates), `reader` (questions), `shelf` (who may read what), `place` (whether the disk can hold
//! them).

mod batch;
mod error;
mod id_filter;
mod ids;
mod memory;
mod merging;
mod place;
mod reader;
mod shelf;
mod tables;
mod task_store;
mod writer;
mod zones;

pub use crate::codec::store_values::{FoldSettings, LastRecord, PoliciesRead, TaskMeta, UsageCounts};
pub use batch::StoreBatch;
pub use error::StoreError;
pub use memory::StoreMemory;
pub use place::{check_place, check_space, free_bytes, open_files_of_store, prepare_place, space_needed};
pub use reader::{EachSum, StoreReader, StoreSnapshot};
pub use shelf::Shelf;
pub use task_store::{Store, StoreStats, destroy, partitions};
pub use writer::{StoreWriter, Written};
