//! Records that are not folded go to the outbox: as a dead letter, or forwarded to their org's partition (Law 7).

use std::sync::Arc;

use crate::domain::usage::reject::Reject;
use crate::processor::letters;
use crate::processor::ports::{Header, OutputTopic, Record};
use crate::telemetry::Telemetry;

use super::Task;

impl Task {
    /// Publishes a record of `topic` as a dead letter.
    pub(super) fn bury(
        &mut self,
        topic: &str,
        record: &Record<'_>,
        headers: Vec<Header>,
        reject: &Reject,
        telemetry: &Telemetry,
    ) {
        let place = format!("{topic}/{}@{}: {}", record.partition, record.offset, reject.detail);
        telemetry.dead_letter(reject.reason, 1, &place);
        self.outbox.push(letters::dead_letter(topic, record, headers, reject));
    }

    /// Forwards a record to its org's partition; one too large for that becomes a dead letter, and this gives false.
    pub(super) fn send_on(
        &mut self,
        topic: OutputTopic,
        record: &Record<'_>,
        headers: Vec<Header>,
        (home, org): (i32, &str),
        telemetry: &Telemetry,
    ) -> bool {
        let settings = Arc::clone(&self.settings);
        let name = if topic == OutputTopic::Policies { &settings.policies_topic } else { &settings.usage_topic };
        match letters::forward(topic, name, record, headers.clone(), home, org) {
            Ok(output) => {
                self.outbox.push(output);
                true
            }
            Err(reject) => {
                self.bury(name, record, headers, &reject, telemetry);
                false
            }
        }
    }
}
