//! What orgs read from the rows of the store when a sum has to be known anew: credits by hour, of the org or of each value of
//! a dimension. It must never be asked while something folded is not in the store. Next: `review`.

use std::ops::{ControlFlow, Range};

use super::budgets::bit;
use crate::domain::credits::CreditSum;
use crate::domain::dimension::Dimension;
use crate::domain::rate::RateRing;
use crate::domain::tally::Field;
use crate::domain::time::{BucketSize, Day, Hour};
use crate::domain::view::View;
use crate::store::{Store, StoreError};

/// Sums of hours from the store.
pub trait OrgHours {
    /// Why they cannot be read.
    type Error;
    /// The dimensions whose values it has by hour: bit n is dimension n.
    fn dimensions(&self) -> u16;
    /// Credits of each value of `dimension` used in the hours of `range`; of days before the hour `fine`, perhaps a
    /// whole day's at its first hour. Nothing when it does not have the dimension.
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

    fn dimensions(&self) -> u16 {
        let reader = self.reader();
        let hours = reader.views().iter().filter(|view| view.bucket == BucketSize::Hour);
        let single = hours.filter_map(|view| <[Dimension; 1]>::try_from(&*view.dimensions).ok());
        single.fold(0, |bits, [dimension]| bits | bit(Some(dimension)))
    }

    fn values(
        &self,
        org: &str,
        dimension: Dimension,
        range: Range<Hour>,
        fine: Hour,
        each: &mut dyn FnMut(Hour, &str, CreditSum),
    ) -> Result<(), StoreError> {
        let (reader, end) = (self.reader(), fine.day());
        let snapshot = reader.snapshot();
        let view = |bucket| {
            let views = (0_u8..).zip(reader.views());
            let mut of = views.filter(|(_, view)| view.dimensions == [dimension] && view.bucket == bucket);
            of.next().map(|(number, _)| number)
        };
        let mut scan = |view: u8, bucket: BucketSize, from: i32, to: i32| {
            snapshot.rows(view, org, from..to, &mut |number, values, tally| {
                // Outcomes make rows too; only what was used or corrected is usage.
                let used = tally.sum(Field::EVENTS) != 0 || tally.sum(Field::ADJUSTMENTS) != 0;
                if let (Some(value), true) = (values[0], used) {
                    each(bucket.first_hour(number), value, tally.credits());
                }
                ControlFlow::Continue(())
            })
        };
        let Some(hours) = view(BucketSize::Hour) else { return Ok(()) };
        let begin = Day(range.start.day().0 + i32::from(range.start.day().first_hour() != range.start));
        match view(BucketSize::Day).filter(|_| begin < end) {
            Some(days) => {
                scan(hours, BucketSize::Hour, range.start.0, begin.first_hour().0)?;
                scan(days, BucketSize::Day, begin.0, end.0)?;
                scan(hours, BucketSize::Hour, end.first_hour().0, range.end.0)
            }
            None => scan(hours, BucketSize::Hour, range.start.0, range.end.0),
        }
    }

    fn hours(&self, org: &str, from: Hour, each: &mut dyn FnMut(Hour, CreditSum)) -> Result<(), StoreError> {
        let reader = self.reader();
        let by_hour = |view: &View| view.dimensions.is_empty() && view.bucket == BucketSize::Hour;
        let view = reader.views().iter().position(by_hour).expect("a checked list has the org by hour");
        let view = u8::try_from(view).expect("a checked list has at most 64 views");
        reader.snapshot().rows(view, org, from.0..i32::MAX, &mut |hour, _, tally| {
            each(Hour(hour), tally.credits());
            ControlFlow::Continue(())
        })
    }

    fn rate(&self, org: &str) -> Result<RateRing, StoreError> {
        Ok(Self::rate(self, org)?.unwrap_or_default())
    }
}
