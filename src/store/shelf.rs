//! The shelf: which stores of this process can be asked now. A worker puts its open stores there, `query/` takes
//! readers from it; the shelf itself keeps no store open.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};

use super::reader::StoreReader;
use super::tables::Tables;
use super::task_store::Store;

/// The open stores by partition; clones share it.
#[derive(Clone, Default)]
pub struct Shelf(Arc<RwLock<BTreeMap<i32, Weak<Tables>>>>);

impl Shelf {
    /// Makes a store readable, in place of any other of its partition.
    pub fn put(&self, store: &Store) {
        let mut stores = self.0.write().unwrap_or_else(PoisonError::into_inner);
        stores.insert(store.partition(), Arc::downgrade(store.tables()));
    }

    /// Takes a partition's store away; readers in flight end in peace. Closing a store does as much by itself.
    pub fn remove(&self, partition: i32) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// A reader of a partition's store; `None` when it is not here or is being closed. Hold it for one question only:
    /// a closing store waits for it.
    #[must_use]
    pub fn get(&self, partition: i32) -> Option<StoreReader> {
        open(self.stores().get(&partition)?)
    }

    /// A reader of each store, by partition.
    #[must_use]
    pub fn all(&self) -> Vec<(i32, StoreReader)> {
        self.stores().iter().filter_map(|(partition, store)| Some((*partition, open(store)?))).collect()
    }

    fn stores(&self) -> RwLockReadGuard<'_, BTreeMap<i32, Weak<Tables>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(store: &Weak<Tables>) -> Option<StoreReader> {
    let tables = store.upgrade()?;
    (!tables.is_closing()).then(|| StoreReader::new(tables))
}
