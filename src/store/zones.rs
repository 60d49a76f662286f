//! Which time-zone database a store's partition was last decided with. Rows are by UTC hour and follow from no zone; periods
//! do, also those that are closed.

use rocksdb::WriteBatch;

use super::error::StoreError;
use super::tables::Table;
use super::task_store::Store;
use crate::codec::{store_keys, store_values};

impl Store {
    /// Records the version in use. Gives the one of before where that is another: `Some(None)` where the store was filled by a
    /// release that recorded none.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn note_zones(&self, version: &str) -> Result<Option<Option<String>>, StoreError> {
        let tables = self.tables();
        let before = tables.get(Table::Meta, &store_keys::ZONES, store_values::read_zones)?;
        if before.as_deref() == Some(version) {
            return Ok(None);
        }
        let mut batch = WriteBatch::default();
        batch.put_cf(tables.family(Table::Meta), store_keys::ZONES, store_values::zones(version));
        tables.write(batch)?;
        tables.flush(true)?;
        let is_new = before.is_none() && self.meta().is_none();
        Ok((!is_new).then_some(before))
    }
}
