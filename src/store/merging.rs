//! How RocksDB puts together what several flushes wrote under one key: it calls these functions when it flushes and compacts,
//! in its own threads, and when somebody reads. So merging needs no bookkeeping, and no crash can harm it.
//! No damaged byte may end the process: a merge that fails is RocksDB's corruption, which halts the partition.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;

use rocksdb::{MergeOperands, Options};

use crate::codec::{store_ids, store_values};
use crate::domain::cube::bundle;
use crate::domain::cube::tally::{Field, Tally};

/// A stored sum and a stored count of a latency bucket have at most so many bits.
const SUM_BITS: u32 = 112;
const COUNT_BITS: u32 = 40;

thread_local! {
    /// Whether this thread only wants to look at facts or ids.
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a read in which bundles and runs come one after another: a scan adds their facts up anyway, and an id stands in one
/// of them.
pub(super) fn looking<T>(read: impl FnOnce() -> T) -> T {
    LOOKING.set(true);
    let found = read();
    LOOKING.set(false);
    found
}

/// Blocks of one (org, day): their facts in one bundle.
pub(super) fn of_blocks(options: &mut Options) {
    options.set_merge_operator_associative("tallyman.blocks.1", |_, existing, operands| {
        guarded(|| blocks(existing, operands))
    });
}

/// Totals of one (org, hour): their sum.
pub(super) fn of_totals(options: &mut Options) {
    options.set_merge_operator_associative("tallyman.totals.1", |_, existing, operands| {
        guarded(|| totals(existing, operands))
    });
}

/// Ids of one range: one run in their order.
pub(super) fn of_ids(options: &mut Options) {
    options.set_merge_operator_associative("tallyman.ids.1", |_, existing, operands| {
        let runs = existing.into_iter().chain(operands);
        Some(if LOOKING.get() { runs.collect::<Vec<_>>().concat() } else { store_ids::merged(runs) })
    });
}

/// A panic must not reach RocksDB, whose caller would end the process: it is an error like any other damage.
fn guarded(merge: impl FnOnce() -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    std::panic::catch_unwind(AssertUnwindSafe(merge)).ok().flatten()
}

fn blocks(existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let bundles = existing.into_iter().chain(operands);
    if LOOKING.get() {
        return Some(bundles.collect::<Vec<_>>().concat());
    }
    // Its error becomes RocksDB's, which calls the store damaged.
    bundle::merged(bundles).ok()
}

fn totals(existing: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let mut sum = Tally::new();
    for bytes in existing.into_iter().chain(operands) {
        let tally = store_values::read_tally(bytes).ok()?;
        // Numbers that no log is long enough for are damage, and must not make a sum overflow.
        let bits = |field: Field| if field.bucket().is_some() { COUNT_BITS } else { SUM_BITS };
        if tally.iter().any(|(field, value)| value.unsigned_abs() >> bits(field) != 0) {
            return None;
        }
        sum.merge(&tally);
    }
    let mut out = Vec::new();
    store_values::put_tally(&mut out, &sum);
    Some(out)
}
