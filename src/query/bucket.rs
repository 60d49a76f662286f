//! Buckets of an answer: where a range of UTC hours is cut. A day, week or month starts at the first whole UTC hour at
//! or after its local midnight, as periods do (CONTRACT.md, Meaning: Period); nothing finer than an hour is ever cut.

use jiff::ToSpan as _;
use jiff::tz::TimeZone;

use crate::domain::terms::period::first_hour_of;
use crate::domain::time::Hour;

use super::error::QueryError;

/// The most buckets of one answer: a year of hours and some.
pub const BUCKETS_MAX: usize = 10_000;

/// How much time one row of an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the time of its name")]
pub enum Bucket {
    Hour,
    Day,
    /// ISO, from Monday.
    Week,
    Month,
    /// The org's own period.
    Period,
    /// The whole range.
    None,
}

impl Bucket {
    /// Every bucket with its name in a query.
    pub const NAMED: [(Self, &str); 6] = [
        (Self::Hour, "hour"),
        (Self::Day, "day"),
        (Self::Week, "week"),
        (Self::Month, "month"),
        (Self::Period, "period"),
        (Self::None, "none"),
    ];

    /// Cuts `[from, to)`: the first hour of each bucket, then `to`. The first and last bucket are cut off at the
    /// range's ends. `period_end` gives the end of the org's period that holds an hour.
    ///
    /// # Errors
    /// More than [`BUCKETS_MAX`] buckets, or a date that cannot be told.
    pub fn cut(
        self,
        zone: &TimeZone,
        from: Hour,
        to: Hour,
        period_end: &dyn Fn(Hour) -> Hour,
    ) -> Result<Vec<Hour>, QueryError> {
        let mut edges = Vec::new();
        let mut edge = from;
        while edge < to {
            if edges.len() == BUCKETS_MAX {
                return Err(QueryError::TooLarge { what: "buckets", limit: BUCKETS_MAX });
            }
            edges.push(edge);
            let next = match self {
                Self::Hour => Hour(edge.0 + 1),
                Self::None => to,
                Self::Period => period_end(edge),
                Self::Day | Self::Week | Self::Month => self.next_local(zone, edge)?,
            };
            // A bucket that did not move on would cut for ever.
            edge = next.max(Hour(edge.0 + 1)).min(to);
        }
        edges.push(to);
        Ok(edges)
    }

    /// The first hour after `hour` at which a local day, week or month starts.
    fn next_local(self, zone: &TimeZone, hour: Hour) -> Result<Hour, QueryError> {
        let untold = |error: jiff::Error| QueryError::Internal(format!("a date beyond the calendar: {error}"));
        let date = jiff::Timestamp::from_microsecond(hour.start().micros())
            .map_err(untold)?
            .to_zoned(zone.clone())
            .date();
        let (mut start, step) = match self {
            Self::Week => {
                (date.saturating_sub(i64::from(date.weekday().to_monday_zero_offset()).days()), 7.days())
            }
            Self::Month => (date.first_of_month(), 1.month()),
            _ => (date, 1.day()),
        };
        loop {
            let first = first_hour_of(start, zone);
            if first > hour {
                return Ok(first);
            }
            start = start.checked_add(step).map_err(untold)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn hour(text: &str) -> Hour {
        Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond()).hour()
    }

    fn cut(bucket: Bucket, zone: &str, from: &str, to: &str) -> Vec<String> {
        let period_end = |_: Hour| unreachable!("no period is asked for");
        let edges = bucket.cut(&TimeZone::get(zone).unwrap(), hour(from), hour(to), &period_end).unwrap();
        edges.iter().map(|edge| edge.start().to_string()).collect()
    }

    #[test]
    fn days_are_cut_at_local_midnight_also_over_a_change_of_the_clocks() {
        let edges = cut(Bucket::Day, "Europe/Berlin", "2026-10-24T10:00:00Z", "2026-10-26T23:00:00Z");
        assert_eq!(
            edges,
            ["2026-10-24T10:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z"]
        );
    }

    #[test]
    fn a_zone_of_half_hours_starts_its_day_at_the_next_whole_utc_hour() {
        let edges = cut(Bucket::Day, "Asia/Kolkata", "2026-11-20T18:00:00Z", "2026-11-21T20:00:00Z");
        assert_eq!(
            edges,
            ["2026-11-20T18:00:00Z", "2026-11-20T19:00:00Z", "2026-11-21T19:00:00Z", "2026-11-21T20:00:00Z"]
        );
    }

    #[test]
    fn weeks_start_on_monday_and_months_on_their_first() {
        let edges = cut(Bucket::Week, "UTC", "2026-11-19T00:00:00Z", "2026-11-24T00:00:00Z");
        assert_eq!(edges, ["2026-11-19T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"]);
        let edges = cut(Bucket::Month, "UTC", "2026-10-31T23:00:00Z", "2026-12-01T00:00:00Z");
        assert_eq!(edges, ["2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"]);
        assert_eq!(cut(Bucket::None, "UTC", "2026-10-31T23:00:00Z", "2026-12-01T00:00:00Z").len(), 2);
    }

    #[test]
    fn more_buckets_than_an_answer_holds_are_refused() {
        let period_end = |_: Hour| unreachable!("no period is asked for");
        let error = Bucket::Hour.cut(&TimeZone::UTC, Hour(0), Hour(10_001), &period_end).unwrap_err();
        assert!(error.to_string().contains("more than 10000 buckets"), "{error}");
        assert_eq!(Bucket::Hour.cut(&TimeZone::UTC, Hour(0), Hour(10_000), &period_end).unwrap().len(), 10_001);
    }
}
