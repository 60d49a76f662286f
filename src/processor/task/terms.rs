//! The terms of a task: records of its policies partition, taken as they come. Rows never depend on them (Law 2).

use crate::clock::Clock as _;
use crate::codec::{DecodeError, Decoder};
use crate::domain::terms::records::TermsRecord;
use crate::domain::usage::reject::{Reason, Reject};
use crate::processor::intake;
use crate::processor::orgs::Law;
use crate::processor::ports::{OutputTopic, RecordBatch};
use crate::telemetry::Telemetry;

use super::counts::last_of;
use super::{Task, TaskError};

impl Task {
    /// Takes the records of the policies partition at `places` of `batch`.
    ///
    /// # Errors
    /// As `fold`; also when the store cannot tell what a changed org used.
    pub fn take_policies<B: RecordBatch>(
        &mut self,
        batch: &B,
        places: std::ops::Range<usize>,
        decoder: &mut Decoder,
        telemetry: &Telemetry,
    ) -> Result<(), TaskError> {
        let end = places.end;
        for place in places {
            let record = batch.get(place);
            if record.offset < self.meta.policies_position {
                continue;
            }
            let muted = record.offset < self.recovered.policies_through;
            let headers = batch.headers(place);
            let decoded = match record.value {
                Some(value) => decoder.terms(value),
                None => Err(DecodeError::Reject(Reject::new(Reason::Undecodable, "terms have no tombstones"))),
            };
            self.tell_unknown_fields(decoder, telemetry);
            match decoded {
                Err(DecodeError::Reject(reject)) if muted => drop(reject),
                Err(DecodeError::Reject(reject)) => {
                    self.bury(&self.settings.policies_topic.clone(), &record, headers, &reject, telemetry);
                }
                Err(unavailable) => {
                    let error = TaskError::from(unavailable);
                    self.await_schemas(&error, batch, place + 1..end, decoder);
                    self.waits.terms = Some(error.to_string());
                    return Err(error);
                }
                Ok(terms) => match intake::misplaced(&record, terms.org_id(), self.rules.partitions) {
                    None => self.take_terms(record.offset, terms)?,
                    Some(_) if muted => {}
                    Some(home) if intake::is_forwarded(&headers) => {
                        let detail = format!("org {} belongs to partition {home}", terms.org_id());
                        let reject = Reject::new(Reason::Misrouted, detail);
                        self.bury(&self.settings.policies_topic.clone(), &record, headers, &reject, telemetry);
                    }
                    Some(home) => {
                        self.send_on(OutputTopic::Policies, &record, headers, (home, terms.org_id()), telemetry);
                    }
                },
            }
            self.meta.policies_position = record.offset + 1;
            self.meta.policies.last_record = Some(last_of(&record));
            self.keep_committed_policies();
        }
        self.waits.terms = None;
        Ok(())
    }

    /// A store batch carries no later policies position than the committed one, and what was read up to there.
    pub(super) fn keep_committed_policies(&mut self) {
        if self.meta.policies_position <= self.committed.1 {
            self.committed_policies = self.meta.policies;
        }
    }

    fn take_terms(&mut self, offset: i64, terms: TermsRecord) -> Result<(), TaskError> {
        self.meta.policies.taken += 1;
        self.new_terms.push((offset, terms.clone()));
        let Some(org) = self.terms.insert(offset, terms) else { return Ok(()) };
        if self.speaking {
            let now = self.instant(self.settings.clock.now());
            let law = Law { terms: &self.terms, default: &self.settings.default_terms, now };
            let place = self.orgs.find(org.as_str(), &self.store, law)?;
            self.orgs.terms_changed(place);
        }
        Ok(())
    }

    /// The policies partition holds no record between the position and `end`, where it ends for now.
    pub fn reached_policies(&mut self, end: i64) {
        self.meta.policies_position = self.meta.policies_position.max(end);
    }
}
