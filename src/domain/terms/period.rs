//! Periods: from the first whole UTC hour at or after local midnight of the anchor day to the next such hour
//! (CONTRACT.md, Meaning: Period).
//!
//! Periods tile all time: each hour belongs to exactly one, whatever the policies. This file only looks at policies
//! and the time-zone database (`zones`); it must never read a clock or the machine's own zone. `decide` and
//! `summary` are what periods are for.

use jiff::ToSpan as _;
use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::domain::terms::book::PolicyHistory;
use crate::domain::terms::records::{BudgetPeriod, DefaultTerms, OrgPolicy};
use crate::domain::time::{Hour, Timestamp};
use crate::domain::zones;

/// Months whose anchors are computed: years -9000 to 9000. One endless period lies before and one after them.
const MONTHS: std::ops::RangeInclusive<i32> = -9000 * 12..=9000 * 12;

/// A half-open range of whole UTC hours over which usage counts against one allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Period {
    /// Its first hour.
    pub start: Hour,
    /// The first hour after it; greater than `start`.
    pub end: Hour,
}

impl Period {
    /// Whether `at` lies in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        (self.start..self.end).contains(&at.hour())
    }

    /// Its first instant.
    #[must_use]
    pub const fn starts_at(&self) -> Timestamp {
        self.start.start()
    }

    /// The first instant after it.
    #[must_use]
    pub const fn ends_at(&self) -> Timestamp {
        self.end.start()
    }
}

/// The IANA time zone of that name, links included; `None` when the database in use does not have it. `Etc/Unknown` is no
/// zone of IANA's: jiff knows it as CLDR's word for none, and browsers send it.
#[must_use]
pub fn time_zone(name: &str) -> Option<TimeZone> {
    zones::zone(name).filter(|zone| !zone.is_unknown())
}

/// The zone of that name, UTC for a name that nobody knows: the codec refuses such a policy, so that only a zone that
/// a later database dropped can come here, and a partition must not stop for it (Law 7).
pub(in crate::domain) fn time_zone_or_utc(name: &str) -> TimeZone {
    time_zone(name).unwrap_or(TimeZone::UTC)
}

/// The first whole UTC hour of a local day: at or after its midnight. A midnight that happens twice counts when it
/// first happens; one that is skipped, or a day that is, begins at the first instant after the gap. Days at the very
/// ends of the calendar (years +-9999), which no instant can express, begin at the first or last hour of all.
#[must_use]
pub fn first_hour_of(date: Date, zone: &TimeZone) -> Hour {
    let midnight = date.to_datetime(Time::midnight());
    let ambiguous = zone.to_ambiguous_timestamp(midnight);
    let instant = match ambiguous.offset() {
        // Reading the skipped midnight with the offset after the gap gives an instant before the gap's transition.
        AmbiguousOffset::Gap { after, .. } => after.to_timestamp(midnight).ok().and_then(|before_gap| {
            let ends = |instant: &jiff::Timestamp| zone.to_datetime(*instant) >= midnight;
            zone.following(before_gap).map(|transition| transition.timestamp()).find(ends)
        }),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.compatible().ok(),
    };
    let end_of_time = Hour(if date.year() < 0 { i32::MIN } else { i32::MAX });
    instant.map_or(end_of_time, |instant| Timestamp::from_micros(instant.as_microsecond()).hour_at_or_after())
}

/// Where periods start: a day of the month, each day or each Monday, in a zone.
struct Anchor {
    kind: BudgetPeriod,
    day: i8,
    zone: TimeZone,
}

impl Anchor {
    fn of(kind: BudgetPeriod, policy: &OrgPolicy) -> Self {
        let day = i8::try_from(policy.anchor_day.clamp(1, 28)).unwrap_or(1);
        Self { kind, day, zone: time_zone_or_utc(&policy.time_zone) }
    }

    fn of_default(kind: BudgetPeriod, default: &DefaultTerms) -> Self {
        match default {
            DefaultTerms::Policy(policy) => Self::of(kind, policy),
            DefaultTerms::Allow | DefaultTerms::Block => Self { kind, day: 1, zone: TimeZone::UTC },
        }
    }

    /// The hour at which the period of that month (12 x year + month - 1) starts; strictly greater month by month.
    fn hour(&self, month: i32) -> Hour {
        if month < *MONTHS.start() {
            return Hour(i32::MIN);
        }
        if month > *MONTHS.end() {
            return Hour(i32::MAX);
        }
        let year = i16::try_from(month.div_euclid(12)).expect("a year within +-9000");
        let month = i8::try_from(month.rem_euclid(12) + 1).expect("a month of 12");
        first_hour_of(Date::new(year, month, self.day).expect("each month has 28 days"), &self.zone)
    }

    /// The period that holds `hour` while this anchor alone governs.
    fn period(&self, hour: Hour) -> Period {
        let second = i64::from(hour.0) * 3600;
        let end_of_time = if second < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        let local = self.zone.to_datetime(jiff::Timestamp::from_second(second).unwrap_or(end_of_time));
        match self.kind {
            BudgetPeriod::Month => {}
            BudgetPeriod::Day => return self.days(hour, local.date(), 1),
            BudgetPeriod::Week => {
                let monday = local.date().checked_sub(i64::from(local.weekday().to_monday_zero_offset()).days());
                return self.days(hour, monday.unwrap_or(Date::MIN), 7);
            }
        }
        let next_month = i32::from(local.year()) * 12 + i32::from(local.month());
        let mut month = next_month.clamp(MONTHS.start() - 1, MONTHS.end() + 1);
        while self.hour(month) > hour {
            month -= 1;
        }
        Period { start: self.hour(month), end: self.hour(month + 1) }
    }

    /// The period that holds `hour` when one starts every `step` days, on `near` among others. A day that the zone
    /// skips has none of its own.
    fn days(&self, hour: Hour, near: Date, step: i64) -> Period {
        let mut date = near;
        let mut start = first_hour_of(date, &self.zone);
        while start > hour {
            let Ok(before) = date.checked_sub(step.days()) else { break };
            date = before;
            start = first_hour_of(date, &self.zone);
        }
        loop {
            let Ok(after) = date.checked_add(step.days()) else { return Period { start, end: Hour(i32::MAX) } };
            let end = first_hour_of(after, &self.zone);
            if end > hour {
                return Period { start, end };
            }
            (date, start) = (after, end);
        }
    }
}

/// The org's period that holds `at` (an instant before year 246,000: hours are counted up to there). It stays the same until [`Period::ends_at`] unless its policies change.
///
/// Anchor and zone of a newer policy hold from the end of the period that runs at its `effective_at`; that end is an
/// anchor of the old ones, and the next period runs to the next anchor of those in force just before it starts.
/// The anchor and zone of an org's earliest policy hold for all time before it: there was no period of its own that
/// could have been running. An org without policies has those of `default`, or day 1 UTC.
///
/// The cost grows with the changes of anchor and zone before `at`, not with the months.
#[must_use]
pub fn period_at(policies: Option<&PolicyHistory>, default: &DefaultTerms, at: Timestamp) -> Period {
    cycle_at(BudgetPeriod::Month, policies, default, at)
}

/// [`period_at`] for any kind of period: a new zone's days and weeks begin when the day or week ends that runs at the
/// policy's `effective_at`, as its months do.
#[must_use]
pub fn cycle_at(
    kind: BudgetPeriod,
    policies: Option<&PolicyHistory>,
    default: &DefaultTerms,
    at: Timestamp,
) -> Period {
    let earliest = policies.and_then(|history| Some((history, history.first()?.effective_at)));
    let Some((history, earliest)) = earliest else { return Anchor::of_default(kind, default).period(at.hour()) };
    let in_force =
        |at: Timestamp| history.in_force(at.max(earliest)).expect("a policy holds from the earliest on").1;

    let mut from = Hour(i32::MIN);
    let mut governing = in_force(earliest);
    for (_, policy) in history.iter() {
        let same = policy.anchor_day == governing.anchor_day && policy.time_zone == governing.time_zone;
        if policy.effective_at > at {
            break;
        }
        if same || policy.effective_at <= earliest || policy.effective_at < from.start() {
            continue;
        }
        let running_until = Anchor::of(kind, governing).period(policy.effective_at.hour()).end;
        if at.hour() < running_until {
            break;
        }
        from = running_until;
        governing = in_force(from.start().plus_micros(-1));
    }
    let period = Anchor::of(kind, governing).period(at.hour());
    Period { start: period.start.max(from), end: period.end }
}

/// The period that follows `period`.
#[must_use]
pub fn next_period_after(policies: Option<&PolicyHistory>, default: &DefaultTerms, period: &Period) -> Period {
    period_at(policies, default, period.ends_at())
}

/// The periods that hold any instant of `from..to`, earliest first.
pub fn periods_between(
    policies: Option<&PolicyHistory>,
    default: &DefaultTerms,
    from: Timestamp,
    to: Timestamp,
) -> impl Iterator<Item = Period> {
    let first = (from < to).then(|| period_at(policies, default, from));
    std::iter::successors(first, move |period| {
        (period.ends_at() < to).then(|| next_period_after(policies, default, period))
    })
}
