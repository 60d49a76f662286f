//! What orgs read from the store when a sum has to be known anew: credits by hour, of the org or of each value of
//! a dimension. It must never be asked while something folded is not in the store. Next: `review`.

use std::ops::{ControlFlow, Range};

use crate::domain::credits::CreditSum;
use crate::domain::cube::field_set::FieldSet;
use crate::domain::cube::scan::Question;
use crate::domain::cube::tally::Field;
use crate::domain::limits::rate::RateRing;
use crate::domain::time::Hour;
use crate::domain::usage::dimension::Dimension;
use crate::store::{Store, StoreError};

/// Sums of hours from the store.
pub trait OrgHours {
    /// Why they cannot be read.
    type Error;
    /// Credits of each value of `dimension` used in the hours of `range`; of days before the hour `fine`, perhaps a
    /// whole day's at its first hour. A day that is cut by the range's start begins there.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn values(
        &self,
        org: &str,
        dimension: Dimension,
        range: Range<Hour>,
        fine: Hour,
        each: &mut dyn FnMut(Hour, &str, CreditSum),
    ) -> Result<(), Self::Error>;
    /// Credits of each stored hour of `org` from `from` on.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn hours(&self, org: &str, from: Hour, each: &mut dyn FnMut(Hour, CreditSum)) -> Result<(), Self::Error>;
    /// The recent rate of `org`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn rate(&self, org: &str) -> Result<RateRing, Self::Error>;
}

impl OrgHours for Store {
    type Error = StoreError;

    fn values(
        &self,
        org: &str,
        dimension: Dimension,
        range: Range<Hour>,
        fine: Hour,
        each: &mut dyn FnMut(Hour, &str, CreditSum),
    ) -> Result<(), StoreError> {
        let question = Question {
            group: vec![dimension],
            fields: FieldSet::of(&[Field::CREDITS, Field::EVENTS, Field::ADJUSTMENTS]),
            ..Question::default()
        };
        let (from, end) = (range.start, fine.day());
        let bucket_of = |hour: Hour| if hour.day() < end { hour.day().first_hour().max(from) } else { hour };
        self.reader().snapshot().sums(org, &question, range, bucket_of, &mut |hour, values, tally| {
            // Outcomes make facts too; only what was used or corrected is usage.
            let used = tally.sum(Field::EVENTS) != 0 || tally.sum(Field::ADJUSTMENTS) != 0;
            if let (Some(value), true) = (values[0], used) {
                each(hour, value, tally.credits());
            }
            ControlFlow::Continue(())
        })
    }

    fn hours(&self, org: &str, from: Hour, each: &mut dyn FnMut(Hour, CreditSum)) -> Result<(), StoreError> {
        self.reader().snapshot().totals(org, from..Hour(i32::MAX), &mut |hour, tally| {
            each(hour, tally.credits());
            ControlFlow::Continue(())
        })
    }

    fn rate(&self, org: &str) -> Result<RateRing, StoreError> {
        Ok(Self::rate(self, org)?.unwrap_or_default())
    }
}
