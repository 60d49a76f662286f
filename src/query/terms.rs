//! An org's terms: what is in force, what is scheduled, and the history of who changed what. Nothing of it is ever
//! overwritten, so every answer follows from the stored records and the instant alone.

use super::{Query, QueryError, Standing};
use crate::domain::terms::change::{TermsLog, effective_at, end_of};
use crate::domain::time::Timestamp;

/// All terms records of an org.
#[derive(Clone, Debug)]
pub struct TermsAnswer {
    /// Every record with its offset in the policies partition.
    pub log: TermsLog,
    /// The instant for which "in force" is told.
    pub now: Timestamp,
    /// How fresh the answer is.
    pub standing: Standing,
}

impl TermsAnswer {
    /// The next instant at which a record comes into force or ends.
    #[must_use]
    pub fn next_change(&self) -> Option<Timestamp> {
        let instants = self.log.iter().flat_map(|(_, record)| [effective_at(record), end_of(record)]);
        instants.flatten().filter(|at| *at > self.now).min()
    }
}

impl Query {
    /// An org's terms.
    ///
    /// # Errors
    /// As [`Query::decisions`].
    pub fn terms(&self, org: &str) -> Result<TermsAnswer, QueryError> {
        let (reader, moment) = self.open(org)?;
        let snapshot = reader.snapshot();
        moment.known(&snapshot, org)?;
        let standing = moment.standing(&snapshot)?;
        Ok(TermsAnswer { log: TermsLog::new(snapshot.terms(org)?), now: moment.now, standing })
    }
}
