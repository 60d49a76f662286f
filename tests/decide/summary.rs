//! The summary's numbers: to the micro-credit, and consistent with each other for any usage.

use proptest::prelude::*;
use tallyman::domain::analysis::summary::{Summary, Usage, summarise};
use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::walk::{Balance, Terms, last_instant, segments};
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::in_force::InForce;
use tallyman::domain::terms::period::period_at;
use tallyman::domain::terms::records::{DefaultTerms, LimitMode, OrgPolicy};
use tallyman::domain::time::{Day, Hour, Timestamp};

use crate::support::{anchored, at, credits, history, policy};

fn summary(terms: InForce<'_>, days: &[(Day, CreditSum)], now: &str) -> Summary {
    let now = at(now);
    let policies = match terms {
        InForce::Policy(_, policy) => history([policy.clone()]),
        InForce::Nothing | InForce::Block => history([]),
    };
    let period = period_at(Some(&policies), &DefaultTerms::Allow, now);
    summarise(&Usage { terms, period, balance: balance(terms, days, now), days, active_products: 3, now })
}

/// What a walk over those days makes of an org without grants.
fn balance(terms: InForce<'_>, days: &[(Day, CreditSum)], at: Timestamp) -> Balance {
    let (policies, default) = match terms {
        InForce::Policy(_, policy) => (history([policy.clone()]), DefaultTerms::Allow),
        InForce::Nothing => (history([]), DefaultTerms::Allow),
        InForce::Block => (history([]), DefaultTerms::Block),
    };
    let mut hours: Vec<_> = days.iter().map(|(day, credits)| (day.first_hour(), *credits)).collect();
    hours.sort_unstable();
    segments(Terms { org: &OrgTerms { policies, ..OrgTerms::default() }, default: &default }, at, &hours).0
}

fn day(text: &str) -> Day {
    at(&format!("{text}T00:00:00Z")).hour().day()
}

fn sum(text: &str) -> CreditSum {
    credits(text).into()
}

fn soft() -> OrgPolicy {
    OrgPolicy { limit_mode: LimitMode::Soft, soft_extra: credits("50"), ..policy() }
}

#[test]
fn beyond_base_and_overage_begin_where_the_base_allocation_ends() {
    let policy = soft();
    let of = |used: &str| summary(InForce::Policy(Some(1), &policy), &[(day("2026-11-03"), sum(used))], NOON);
    for (used, base_used, beyond, remaining, extra_remaining, percent) in [
        ("-5", "0", "0", "105", "50", Some(-500)),
        ("0", "0", "0", "100", "50", Some(0)),
        ("33.333333", "33.333333", "0", "66.666667", "50", Some(3333)),
        ("99.999999", "99.999999", "0", "0.000001", "50", Some(9999)),
        ("100", "100", "0", "0", "50", Some(10_000)),
        ("130.5", "100", "30.5", "0", "19.5", Some(13_050)),
        ("200", "100", "100", "0", "0", Some(20_000)),
    ] {
        let summary = of(used);
        assert_eq!(summary.base_used, Some(sum(base_used)), "used {used}");
        assert_eq!(summary.base_remaining, Some(sum("100") - sum(base_used)), "used {used}");
        assert_eq!((summary.beyond_base, summary.overage), (sum(beyond), sum(beyond)), "used {used}");
        assert_eq!(summary.remaining, Some(sum(remaining)), "used {used}");
        assert_eq!(summary.soft_extra_remaining, Some(sum(extra_remaining)), "used {used}");
        assert_eq!(summary.percent_used, percent, "used {used}");
    }
}

const NOON: &str = "2026-11-20T12:00:00Z";

#[test]
fn percent_is_null_at_an_allowance_of_0() {
    let nothing = OrgPolicy { base_allocation: credits("0"), ..policy() };
    let summary = summary(InForce::Policy(None, &nothing), &[(day("2026-11-03"), sum("5"))], NOON);
    assert_eq!((summary.percent_used, summary.base_percent_used), (None, None));
    assert_eq!((summary.overage, summary.remaining), (sum("5"), Some(CreditSum::ZERO)));
}

#[test]
fn unlimited_has_no_allowance_and_no_remaining() {
    let unlimited = OrgPolicy { unlimited: true, ..policy() };
    for terms in [InForce::Policy(Some(1), &unlimited), InForce::Nothing] {
        let summary = summary(terms, &[(day("2026-11-03"), sum("5"))], NOON);
        assert_eq!((summary.allowance, summary.remaining, summary.percent_used), (None, None, None));
        assert_eq!((summary.base_allocation, summary.base_used, summary.soft_extra), (None, None, None));
        assert_eq!((summary.overage, summary.beyond_base), (CreditSum::ZERO, CreditSum::ZERO));
        assert_eq!(summary.used, sum("5"));
    }
    let endless = OrgPolicy { unlimited_overage: true, ..soft() };
    let summary = summary(InForce::Policy(Some(1), &endless), &[(day("2026-11-03"), sum("130"))], NOON);
    assert_eq!((summary.soft_extra, summary.soft_extra_remaining, summary.overage), (None, None, sum("30")));
}

#[test]
fn days_and_averages_count_utc_days_with_today() {
    let policy = policy();
    let days = [
        (day("2026-11-07"), sum("10")),
        (day("2026-11-05"), sum("10")),
        (day("2026-11-06"), sum("-3")),
        (day("2026-11-08"), sum("0")),
    ];
    let summary = summary(InForce::Policy(Some(1), &policy), &days, "2026-11-09T00:00:00Z");
    assert_eq!(summary.peak_day, Some((day("2026-11-05"), sum("10"))), "the earliest of equals");
    assert_eq!(summary.average_per_elapsed_day, sum("1.888889"), "17 over 9 days, to the nearest micro-credit");
    assert_eq!(summary.average_per_active_day, Some(sum("8.5")));
    assert_eq!((summary.days_until_reset, summary.active_products), (22, 3));

    let without = self::summary(InForce::Policy(Some(1), &policy), &[], "2026-11-01T00:00:00Z");
    assert_eq!((without.peak_day, without.average_per_active_day), (None, None));
    assert_eq!(without.average_per_elapsed_day, CreditSum::ZERO);
}

#[test]
fn days_until_reset_are_calendar_days_of_the_policys_zone() {
    for (zone, now, days) in [
        ("UTC", "2026-11-01T00:00:00Z", 30),
        ("UTC", "2026-11-30T23:59:59Z", 1),
        // In New York it is still the 31st of October, and 1 November is 25 hours long.
        ("America/New_York", "2026-11-01T03:59:59Z", 1),
        ("America/New_York", "2026-11-01T04:00:00Z", 30),
        // 00:15 on the day of the reset, which comes with the next whole UTC hour.
        ("Asia/Kolkata", "2026-11-30T18:45:00Z", 0),
    ] {
        let policy = anchored(1, zone, at("2020-01-01T00:00:00Z"));
        assert_eq!(summary(InForce::Policy(None, &policy), &[], now).days_until_reset, days, "{zone} at {now}");
    }
}

#[test]
fn a_closed_period_is_told_as_of_its_end() {
    let policy = policy();
    let period = period_at(Some(&history([policy.clone()])), &DefaultTerms::Allow, at("2026-10-10T00:00:00Z"));
    let days = [(day("2026-10-31"), sum("31"))];
    let terms = InForce::Policy(Some(1), &policy);
    let balance = balance(terms, &days, last_instant(period));
    let summary = summarise(&Usage { terms, period, balance, days: &days, active_products: 1, now: at(NOON) });
    assert_eq!((summary.days_until_reset, summary.average_per_elapsed_day), (0, sum("1")));
}

proptest! {
    #[test]
    fn the_parts_sum_to_the_whole(
        base in 0..1_000_000_i64,
        amounts in prop::collection::vec(-1_000_i128..100_000, 0..30),
        hour in 0..720_i32,
    ) {
        let policy = OrgPolicy {
            base_allocation: tallyman::domain::credits::Credits::from_micros(base).unwrap(),
            ..soft()
        };
        let start = at("2026-11-01T00:00:00Z").hour();
        let now = Hour(start.0 + hour).start();
        let today = now.hour().day().0;
        let days: Vec<_> =
            (start.day().0..=today).zip(amounts).map(|(day, micros)| (Day(day), CreditSum(micros))).collect();
        let summary = summary(InForce::Policy(None, &policy), &days, &now.to_string());
        prop_assert_eq!(summary.period_start, Timestamp::from_micros(start.start().micros()));
        let (base_used, base_remaining) = (summary.base_used.unwrap(), summary.base_remaining.unwrap());
        prop_assert_eq!(Some(base_used + base_remaining), summary.base_allocation);
        prop_assert_eq!(base_used + summary.beyond_base, summary.used.max(CreditSum::ZERO));
        prop_assert_eq!(base_used + summary.grants_used + summary.overage, summary.used.max(CreditSum::ZERO));
        if summary.used >= CreditSum::ZERO && let Some(average) = summary.average_per_active_day {
            prop_assert!(average >= summary.average_per_elapsed_day);
        }
    }
}
