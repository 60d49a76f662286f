//! What a guard needs of a task: each org's recent rate, folded with every record (Law 2), and the records of a batch
//! handed to the orgs one by one before they are decided. Nothing here is done without a guard. Next to read:
//! `orgs::guard`.

use crate::domain::credits::Credits;
use crate::domain::limits::rate::{RateRing, Rates};
use crate::domain::time::Timestamp;
use crate::domain::usage::event::Event;
use crate::processor::orgs::Law;
use crate::store::StoreError;

use super::Task;

/// The rates of a task's orgs.
#[derive(Default)]
pub(super) struct Guard {
    pub(super) rates: Rates,
    /// Log time and the org's rate of each spend of the running batch.
    spends: Vec<(Timestamp, RateRing)>,
}

impl Guard {
    /// The batch is over.
    pub(super) fn end_batch(&mut self) {
        self.spends.clear();
    }
}

impl Task {
    /// Counts a folded record in its org's recent rate, at `log_time`.
    pub(super) fn rate(&mut self, event: &Event<'_>, log_time: Timestamp) -> Result<(), StoreError> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        let (org, used): (&str, Option<Credits>) = match event {
            Event::Usage(usage) => (&usage.org_id, Some(usage.credits)),
            Event::Adjusted(adjusted) => (&adjusted.org_id, None),
            Event::Outcome(_) => return Ok(()),
        };
        let ring = *guard.rates.record(org, log_time, used, |org| self.store.rate(org))?;
        guard.spends.push((log_time, ring));
        Ok(())
    }

    /// Shows the batch's records to the guards of their orgs, in order; before the orgs take the batch in.
    pub(super) fn watch(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(guard) = &self.guard else { return Ok(()) };
        let law = Law { terms: &self.terms, default: &self.settings.default_terms, now };
        for delta in self.fold.org_deltas() {
            let place = self.orgs.find(delta.org, &self.store, law)?;
            self.places.insert(delta.symbol, place);
            if let Some(ring) = guard.rates.get(delta.org) {
                self.orgs.watch(place, *ring, law);
            }
        }
        for (spend, (log_time, ring)) in self.fold.spends().zip(&guard.spends) {
            self.orgs.pass(self.places[&spend.symbol], &spend, ring, *log_time);
        }
        Ok(())
    }
}
