//! What a task tells of records that it cannot take as they are: those that wait for something that is not their fault
//! (Law 7), and those with fields that nobody reads.

use std::ops::Range;

use crate::codec::{Decoder, nearest_field};
use crate::processor::ports::RecordBatch;
use crate::telemetry::Telemetry;

use super::{Task, TaskError};

/// What the records at the position wait for, if they do.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub usage: Option<String>,
    pub terms: Option<String>,
}

impl Task {
    /// What its next record waits for, in words for a person; `None` when none waits.
    #[must_use]
    pub fn waits_for(&self) -> Option<&str> {
        self.waits.usage.as_deref().or(self.waits.terms.as_deref())
    }

    /// Lets the records at `places`, behind one that waits, be asked for too.
    pub(super) fn await_schemas<B: RecordBatch>(
        &self,
        error: &TaskError,
        batch: &B,
        places: Range<usize>,
        decoder: &Decoder,
    ) {
        if matches!(error, TaskError::Unavailable(_)) {
            decoder.foresee(places.filter_map(|place| batch.get(place).value));
        }
    }

    /// Counts and names the fields of the value decoded last that its record does not have.
    pub(super) fn tell_unknown_fields(&self, decoder: &Decoder, telemetry: &Telemetry) {
        let unknown = decoder.unknown_fields();
        let Some(record) = unknown.record else { return };
        telemetry.unknown_fields(unknown.count);
        for name in &unknown.names {
            telemetry.unknown_field(record.name(), &unknown.source, name, || nearest_field(record, name));
        }
    }
}
