//! What a batch's records became, for metrics, and the mark of one record.

use crate::processor::ports::{Record, mark_of};
use crate::store::LastRecord;
use crate::telemetry::{RecordOutcome, Telemetry};

/// What identifies a record, as the store keeps it.
pub(super) fn last_of(record: &Record<'_>) -> LastRecord {
    let mark = mark_of(record);
    LastRecord { offset: mark.offset, timestamp: mark.timestamp, crc: mark.crc }
}

/// Records of one batch by outcome, replayed ones included only as folded or duplicate.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) folded: u64,
    pub(super) duplicate: u64,
    pub(super) forwarded: u64,
    pub(super) dead: u64,
}

impl Counts {
    pub(super) fn report(&self, telemetry: &Telemetry) {
        telemetry.records(RecordOutcome::Folded, self.folded);
        telemetry.records(RecordOutcome::Duplicate, self.duplicate);
        telemetry.records(RecordOutcome::Forwarded, self.forwarded);
        telemetry.records(RecordOutcome::DeadLetter, self.dead);
    }
}
