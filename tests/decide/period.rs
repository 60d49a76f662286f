//! Periods against the sentences of CONTRACT.md and against a model that looks at every hour.

use proptest::prelude::*;
use tallyman::domain::terms::book::PolicyHistory;
use tallyman::domain::terms::period::{
    Period, first_hour_of, next_period_after, period_at, periods_between, time_zone,
};
use tallyman::domain::terms::records::{DefaultTerms, OrgPolicy};
use tallyman::domain::time::{Hour, Timestamp};

use crate::support::{anchored, at, history, policy};

const ZONES: [&str; 10] = [
    "UTC",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Africa/Cairo",
    "Pacific/Kwajalein",
];

fn period(policies: &PolicyHistory, instant: &str) -> (String, String) {
    text(period_at(Some(policies), &DefaultTerms::Allow, at(instant)))
}

fn text(period: Period) -> (String, String) {
    (period.starts_at().to_string(), period.ends_at().to_string())
}

fn pair(start: &str, end: &str) -> (String, String) {
    (start.to_owned(), end.to_owned())
}

#[test]
fn a_period_runs_from_the_first_whole_utc_hour_at_or_after_local_midnight_of_anchor_day_to_the_next() {
    let long_ago = at("2000-01-01T00:00:00Z");
    for (day, zone, instant, start, end) in [
        (1, "UTC", "2026-11-20T12:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        (15, "UTC", "2026-11-14T23:59:59.999999Z", "2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z"),
        (15, "UTC", "2026-11-15T00:00:00Z", "2026-11-15T00:00:00Z", "2026-12-15T00:00:00Z"),
        // Over the end of summer time: 31 days and an hour.
        (15, "America/New_York", "2026-11-01T12:00:00Z", "2026-10-15T04:00:00Z", "2026-11-15T05:00:00Z"),
        // +05:30 and +05:45: midnight is at 18:30 and 18:15 UTC, the next whole hour is 19:00.
        (1, "Asia/Kolkata", "2026-11-20T00:00:00Z", "2026-10-31T19:00:00Z", "2026-11-30T19:00:00Z"),
        (1, "Asia/Kolkata", "2026-11-30T18:45:00Z", "2026-10-31T19:00:00Z", "2026-11-30T19:00:00Z"),
        (28, "Asia/Kathmandu", "2026-03-01T00:00:00Z", "2026-02-27T19:00:00Z", "2026-03-27T19:00:00Z"),
        // +10:30 in winter, +11 in summer.
        (1, "Australia/Lord_Howe", "2026-04-20T00:00:00Z", "2026-03-31T13:00:00Z", "2026-04-30T14:00:00Z"),
    ] {
        let policies = history([anchored(day, zone, long_ago)]);
        assert_eq!(period(&policies, instant), pair(start, end), "day {day} in {zone} at {instant}");
    }
}

#[test]
fn a_midnight_that_is_skipped_is_the_first_instant_after_the_gap() {
    let long_ago = at("1900-01-01T00:00:00Z");
    for (day, zone, instant, start) in [
        // Summer time starts at midnight: 00:00 becomes 01:00.
        (15, "America/Sao_Paulo", "2017-10-20T00:00:00Z", "2017-10-15T03:00:00Z"),
        // The whole of 21 August 1993 is left out at the date line.
        (21, "Pacific/Kwajalein", "1993-08-25T00:00:00Z", "1993-08-21T12:00:00Z"),
    ] {
        let policies = history([anchored(day, zone, long_ago)]);
        assert_eq!(period(&policies, instant).0, start, "day {day} in {zone}");
    }
    // Days that no anchor names: in Toronto midnight lies within a gap from 23:30 to 00:30, that is 04:30 UTC; in Apia
    // the whole day is left out.
    let first_hour = |zone, (year, month, day)| {
        first_hour_of(jiff::civil::date(year, month, day), &time_zone(zone).unwrap()).start().to_string()
    };
    assert_eq!(first_hour("America/Toronto", (1919, 3, 31)), "1919-03-31T05:00:00Z");
    assert_eq!(first_hour("Pacific/Apia", (2011, 12, 30)), "2011-12-30T10:00:00Z");
    assert_eq!(first_hour("Pacific/Apia", (2011, 12, 31)), "2011-12-30T10:00:00Z");
}

#[test]
fn a_midnight_that_happens_twice_counts_when_it_first_happens() {
    // In Havana 01:00 became 00:00 on 2 November 2025: midnight was at 04:00 and at 05:00 UTC.
    let policies = history([anchored(2, "America/Havana", at("2000-01-01T00:00:00Z"))]);
    assert_eq!(period(&policies, "2025-11-20T00:00:00Z").0, "2025-11-02T04:00:00Z");
}

#[test]
fn days_begin_where_the_newest_database_has_them() {
    // 2026f: Havana keeps its summer time through the winter of 2026, Casablanca is at UTC from September 2026 on.
    for (zone, starts) in
        [("America/Havana", "2026-12-01T04:00:00Z"), ("Africa/Casablanca", "2026-12-01T00:00:00Z")]
    {
        let policies = history([anchored(1, zone, at("2000-01-01T00:00:00Z"))]);
        assert_eq!(period(&policies, "2026-12-20T00:00:00Z").0, starts, "{zone}");
    }
}

#[test]
fn anchor_and_zone_of_a_newer_policy_hold_from_the_end_of_the_running_period() {
    let policies = history([policy(), anchored(15, "America/New_York", at("2026-11-10T09:00:00Z"))]);
    let november = pair("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
    assert_eq!(period(&policies, "2026-11-05T00:00:00Z"), november);
    assert_eq!(period(&policies, "2026-11-20T00:00:00Z"), november);
    // The next period runs to the next new anchor.
    let short = pair("2026-12-01T00:00:00Z", "2026-12-15T05:00:00Z");
    assert_eq!(period(&policies, "2026-12-01T00:00:00Z"), short);
    let first_whole = pair("2026-12-15T05:00:00Z", "2027-01-15T05:00:00Z");
    assert_eq!(period(&policies, "2026-12-15T05:00:00Z"), first_whole);
    assert_eq!(period(&policies, "2056-07-20T00:00:00Z"), pair("2056-07-15T04:00:00Z", "2056-08-15T04:00:00Z"));
}

#[test]
fn a_policy_effective_at_the_first_instant_of_a_period_finds_that_period_running() {
    let policies = history([policy(), anchored(15, "UTC", at("2026-12-01T00:00:00Z"))]);
    assert_eq!(period(&policies, "2026-12-20T00:00:00Z"), pair("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"));
    assert_eq!(period(&policies, "2027-01-01T00:00:00Z"), pair("2027-01-01T00:00:00Z", "2027-01-15T00:00:00Z"));
}

#[test]
fn of_several_policies_in_one_period_the_last_in_force_before_its_end_sets_the_next() {
    let policies = history([
        policy(),
        anchored(5, "UTC", at("2026-11-10T00:00:00Z")),
        anchored(20, "UTC", at("2026-11-11T00:00:00Z")),
    ]);
    assert_eq!(period(&policies, "2026-12-07T00:00:00Z"), pair("2026-12-01T00:00:00Z", "2026-12-20T00:00:00Z"));
    let taken_back = history([
        policy(),
        anchored(5, "UTC", at("2026-11-10T00:00:00Z")),
        anchored(1, "UTC", at("2026-11-11T00:00:00Z")),
    ]);
    let december = pair("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    assert_eq!(period(&taken_back, "2026-12-07T00:00:00Z"), december);
}

#[test]
fn the_earliest_policys_anchor_holds_for_all_time_before_it() {
    let policies = history([anchored(15, "UTC", at("2026-11-20T00:00:00Z"))]);
    assert_eq!(period(&policies, "1999-03-01T00:00:00Z"), pair("1999-02-15T00:00:00Z", "1999-03-15T00:00:00Z"));
    // A correction of the earliest policy, effective at the same instant, takes its place altogether.
    let at_once = at("2026-11-20T00:00:00Z");
    let corrected = history([anchored(15, "UTC", at_once), anchored(3, "UTC", at_once)]);
    assert_eq!(period(&corrected, "2026-11-20T00:00:00Z"), pair("2026-11-03T00:00:00Z", "2026-12-03T00:00:00Z"));
}

#[test]
fn an_org_without_policy_has_the_defaults_anchor_or_day_1_utc() {
    let instant = at("2026-11-20T00:00:00Z");
    let first_of_month = pair("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
    for default in [DefaultTerms::Allow, DefaultTerms::Block] {
        assert_eq!(text(period_at(None, &default, instant)), first_of_month);
        assert_eq!(text(period_at(Some(&PolicyHistory::default()), &default, instant)), first_of_month);
    }
    let default = DefaultTerms::Policy(Box::new(anchored(15, "Asia/Kolkata", Timestamp::MIN)));
    let from_default = pair("2026-11-14T19:00:00Z", "2026-12-14T19:00:00Z");
    assert_eq!(text(period_at(None, &default, instant)), from_default);
}

#[test]
fn the_far_past_and_the_far_future_have_periods_too() {
    let policies = history([anchored(15, "Asia/Kolkata", Timestamp::MIN), policy()]);
    for micros in [i64::MIN, i64::MIN / 2, -400_000_000_000_000_000, 400_000_000_000_000_000, i64::MAX / 2] {
        let instant = Timestamp::from_micros(micros);
        let period = period_at(Some(&policies), &DefaultTerms::Allow, instant);
        assert!(period.start < period.end && period.contains(instant), "{micros}: {period:?}");
    }
}

#[test]
fn the_periods_between_two_instants_are_those_that_hold_any_of_it() {
    let policies = history([policy(), anchored(15, "UTC", at("2026-02-10T00:00:00Z"))]);
    let starts = |from: &str, to: &str| -> Vec<String> {
        let periods = periods_between(Some(&policies), &DefaultTerms::Allow, at(from), at(to));
        periods.map(|period| period.starts_at().to_string()[..10].to_owned()).collect()
    };
    let expected = ["2026-01-01", "2026-02-01", "2026-03-01", "2026-03-15", "2026-04-15"];
    assert_eq!(starts("2026-01-31T23:00:00Z", "2026-04-15T00:00:01Z"), expected);
    assert_eq!(starts("2026-01-31T23:00:00Z", "2026-04-15T00:00:00Z"), expected[..4]);
    assert!(starts("2026-01-31T23:00:00Z", "2026-01-31T23:00:00Z").is_empty());
}

/// The boundaries of one anchor as the words say it, hour by hour: a period starts in the first whole hour at which a
/// local clock has once shown midnight of the anchor day, or a later time.
fn boundaries_hour_by_hour(day: i32, zone: &str, hours: std::ops::Range<i32>) -> Vec<Hour> {
    let zone = time_zone(zone).unwrap();
    let mut reached = None;
    let mut boundaries = Vec::new();
    for hour in hours {
        // Clocks may show midnight between two whole hours and then go back: look at each quarter before the hour.
        let quarters = (0..4).rev().map(|quarter| i64::from(hour) * 3600 - quarter * 900);
        let shown = quarters.map(|second| {
            let local = zone.to_datetime(jiff::Timestamp::from_second(second).unwrap());
            i32::from(local.year()) * 12 + i32::from(local.month()) - i32::from(i32::from(local.day()) < day)
        });
        let month = shown.max();
        if reached.is_some() && month > reached {
            boundaries.push(Hour(hour));
        }
        reached = reached.max(month);
    }
    boundaries
}

#[test]
fn a_boundary_is_where_the_model_that_looks_at_every_hour_finds_it() {
    let start = at("1992-06-01T00:00:00Z").hour().0;
    let end = at("2030-06-01T00:00:00Z").hour().0;
    for (zone, day) in ZONES.into_iter().zip([1, 8, 1, 5, 28, 28, 15, 2, 24, 21]) {
        let policies = history([anchored(day, zone, at("1990-01-01T00:00:00Z"))]);
        let periods =
            periods_between(Some(&policies), &DefaultTerms::Allow, Hour(start).start(), Hour(end).start());
        let computed: Vec<Hour> = periods.map(|period| period.start).skip(1).collect();
        assert_eq!(computed, boundaries_hour_by_hour(day, zone, start..end), "day {day} in {zone}");
    }
}

fn policies() -> impl Strategy<Value = Vec<OrgPolicy>> {
    // Hours of ten years, so that several changes fall into one period and some exactly on its boundary.
    let effective_at = prop_oneof![0..87_600_i32, Just(0), (0..120_i32).prop_map(|month| month * 730)];
    let one = (1..=28_i32, prop::sample::select(&ZONES[..]), effective_at, 0..3_600_i64).prop_map(
        |(day, zone, hour, second)| {
            let start = at("2015-01-01T00:00:00Z").micros() + i64::from(hour) * 3_600_000_000;
            anchored(day, zone, Timestamp::from_micros(start + second % 2 * second * 1_000_000))
        },
    );
    prop::collection::vec(one, 0..6)
}

/// The periods of a history as the words say it: one after the other from long before the earliest policy.
fn periods_one_by_one(policies: &PolicyHistory, until: Timestamp) -> Vec<Period> {
    let mut start = at("2013-06-20T00:00:00Z");
    let mut periods: Vec<Period> = Vec::new();
    let Some(earliest) = policies.first() else { return periods };
    while start < until {
        let before = start.plus_micros(-1).max(earliest.effective_at);
        let alone = history([policies.in_force(before).unwrap().1.clone()]);
        let end = period_at(Some(&alone), &DefaultTerms::Allow, start).end;
        periods.push(Period { start: start.hour(), end });
        start = end.start();
    }
    periods
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn periods_tile_time_without_gap_or_overlap(
        list in policies(),
        micros in at("1900-01-01T00:00:00Z").micros()..at("2100-01-01T00:00:00Z").micros(),
    ) {
        let policies = history(list);
        let (policies, default, instant) = (Some(&policies), DefaultTerms::Allow, Timestamp::from_micros(micros));
        let period = period_at(policies, &default, instant);
        prop_assert!(period.start < period.end);
        prop_assert!(period.contains(instant));
        for inside in [period.starts_at(), period.ends_at().plus_micros(-1)] {
            prop_assert_eq!(period_at(policies, &default, inside), period);
        }
        let next = next_period_after(policies, &default, &period);
        prop_assert_eq!(next.start, period.end);
        let before = period_at(policies, &default, period.starts_at().plus_micros(-1));
        prop_assert_eq!(before.end, period.start);
    }

    #[test]
    fn each_period_runs_to_the_next_anchor_of_the_policy_in_force_just_before_it(list in policies()) {
        let policies = history(list);
        for period in periods_one_by_one(&policies, at("2027-01-01T00:00:00Z")).into_iter().skip(1) {
            let middle = Hour(period.start.0.midpoint(period.end.0)).start();
            prop_assert_eq!(period_at(Some(&policies), &DefaultTerms::Allow, middle), period);
        }
    }
}
