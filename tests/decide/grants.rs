//! Grants, the spending order and the allowance against the sentences of CONTRACT.md, each as a table or a short story.

use std::convert::Infallible;

use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::overage::{beyond_base, uncovered};
use tallyman::domain::limits::walk::{Balance, Terms, Walk, segments};
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::grant::{grants_at, next_change_after};
use tallyman::domain::terms::records::{CreditGrant, DefaultTerms, LimitMode, OrgPolicy};
use tallyman::domain::time::{Hour, Timestamp};

use crate::support::{at, credits, policy};

const PERIOD_START: &str = "2026-11-01T00:00:00Z";

/// A grant without an end.
fn grant(id: &str, amount: &str, effective_at: &str) -> CreditGrant {
    CreditGrant {
        org_id: "acme".into(),
        grant_id: id.into(),
        credits: credits(amount),
        kind: "pack".into(),
        price: None,
        currency: None,
        effective_at: at(effective_at),
        expires_at: None,
        voided_at: None,
        priority: 0,
        updated_by: "test".into(),
    }
}

fn until(end: &str, grant: CreditGrant) -> CreditGrant {
    CreditGrant { expires_at: Some(at(end)), ..grant }
}

/// An org with these records, and usage by hour.
struct Org {
    terms: OrgTerms,
    hours: Vec<(Hour, CreditSum)>,
}

impl Org {
    /// A HARD policy of 100 credits since 2020, and these grants.
    fn new(grants: impl IntoIterator<Item = CreditGrant>) -> Self {
        Self::of([policy()], grants)
    }

    fn of(policies: impl IntoIterator<Item = OrgPolicy>, grants: impl IntoIterator<Item = CreditGrant>) -> Self {
        let mut terms = OrgTerms::default();
        for (offset, policy) in (0..).zip(policies) {
            terms.policies.insert(offset, policy);
        }
        for (offset, grant) in (0..).zip(grants) {
            terms.grants.entry(grant.grant_id.clone()).or_default().insert(offset, grant);
        }
        Self { terms, hours: Vec::new() }
    }

    fn uses(mut self, usage: &[(&str, &str)]) -> Self {
        self.hours.extend(usage.iter().map(|(hour, net)| (at(hour).hour(), sum(net))));
        self.hours.sort_unstable();
        self
    }

    fn terms(&self) -> Terms<'_> {
        Terms { org: &self.terms, default: &DefaultTerms::Allow }
    }

    fn balance(&self, now: &str) -> Balance {
        segments(self.terms(), at(now), &self.hours).0
    }

    fn walk(&self, now: &str) -> Walk {
        let hours = self.hours.iter();
        let walk = Walk::load(self.terms(), at(now), |from, each| {
            hours.filter(|(hour, _)| *hour >= from).for_each(|(hour, net)| each(*hour, *net));
            Ok::<(), Infallible>(())
        });
        walk.unwrap()
    }

    /// What each usable grant holds, by id, in spending order.
    fn held(&self, now: &str) -> Vec<(String, CreditSum)> {
        self.walk(now).grants_left().map(|(grant, left)| (grant.grant_id.clone(), left)).collect()
    }

    /// Uncovered credits by hour.
    fn uncovered(&self, now: &str) -> Vec<(String, String)> {
        let (_, segments) = segments(self.terms(), at(now), &self.hours);
        let parts = uncovered(&segments, &self.hours).into_iter();
        parts.map(|(hour, part)| (hour.start().to_string(), part.to_string())).collect()
    }
}

fn sum(text: &str) -> CreditSum {
    credits(text).into()
}

fn held(held: &[(&str, &str)]) -> Vec<(String, CreditSum)> {
    held.iter().map(|(id, left)| ((*id).to_owned(), sum(left))).collect()
}

/// (allowance, overage, taken from grants)
fn told(balance: Balance) -> (CreditSum, CreditSum, CreditSum) {
    (balance.allowance().unwrap(), balance.uncovered, balance.grants_used)
}

fn tell(allowance: &str, overage: &str, grants_used: &str) -> (CreditSum, CreditSum, CreditSum) {
    (sum(allowance), sum(overage), sum(grants_used))
}

#[test]
fn a_grant_starts_at_the_least_effective_at_of_its_records_and_counts_at_once() {
    let bigger = CreditGrant { credits: credits("50"), ..grant("g", "50", "2026-11-20T00:00:00Z") };
    let org = Org::new([bigger, grant("g", "30", "2026-11-10T08:30:00Z")]);
    for (now, allowance) in [
        ("2026-11-10T08:29:59.999999Z", "100"),
        ("2026-11-10T08:30:00Z", "130"),
        ("2026-11-19T23:59:59.999999Z", "130"),
        ("2026-11-20T00:00:00Z", "150"),
    ] {
        assert_eq!(org.balance(now).allowance(), Some(sum(allowance)), "at {now}");
    }
    assert_eq!(grants_at(&org.terms.grants, at("2026-11-20T00:00:00Z"))[0].starts_at, at("2026-11-10T08:30:00Z"));
}

#[test]
fn in_the_walk_it_belongs_to_the_whole_utc_hour_of_its_start() {
    // Usage of that hour, before its minute, is its own segment's: base first, and the hour before is repaid.
    let org = Org::new([grant("g", "30", "2026-11-10T08:30:00Z")])
        .uses(&[("2026-11-10T07:00:00Z", "110"), ("2026-11-10T08:00:00Z", "5")]);
    assert_eq!(told(org.balance("2026-11-10T08:29:59Z")), tell("100", "15", "0"));
    assert_eq!(told(org.balance("2026-11-10T08:30:00Z")), tell("130", "0", "15"));
    let whole = Org::of(
        [OrgPolicy { base_allocation: Credits::ZERO, ..policy() }],
        [until("2026-11-10T09:00:00Z", grant("g", "30", "2026-11-10T08:59:59Z"))],
    );
    let whole = whole.uses(&[("2026-11-10T08:00:00Z", "5")]);
    assert_eq!(told(whole.balance("2026-11-10T09:00:00Z")), tell("5", "0", "5"));
}

#[test]
fn it_ends_at_the_first_whole_utc_hour_at_or_after_its_expiry_or_void() {
    for (expires_at, voided_at, end) in [
        (Some("2026-11-10T08:00:00Z"), None, "2026-11-10T08:00:00Z"),
        (Some("2026-11-10T08:00:00.000001Z"), None, "2026-11-10T09:00:00Z"),
        (None, Some("2026-11-10T08:59:59Z"), "2026-11-10T09:00:00Z"),
        (Some("2026-11-10T12:00:00Z"), Some("2026-11-10T08:20:00Z"), "2026-11-10T09:00:00Z"),
        (Some("2026-11-10T08:20:00Z"), Some("2026-11-10T12:00:00Z"), "2026-11-10T09:00:00Z"),
    ] {
        let record = grant("g", "30", "2026-11-05T00:00:00Z");
        let org =
            Org::new([CreditGrant { expires_at: expires_at.map(at), voided_at: voided_at.map(at), ..record }]);
        let before = at(end).plus_micros(-1).to_string();
        assert_eq!(org.balance(&before).allowance(), Some(sum("130")), "{expires_at:?} {voided_at:?}");
        assert_eq!(org.balance(end).allowance(), Some(sum("100")), "{expires_at:?} {voided_at:?}");
        assert_eq!(org.walk(&before).until(), at(end), "{expires_at:?} {voided_at:?}");
    }
    let never = Org::new([until("2026-11-05T08:00:00Z", grant("g", "30", "2026-11-05T08:10:00Z"))]);
    assert_eq!(never.balance("2026-11-05T08:20:00Z").allowance(), Some(sum("100")));
}

#[test]
fn what_it_still_holds_then_is_gone_and_before_that_it_carries_over() {
    let org = Org::new([until("2026-12-10T00:00:00Z", grant("g", "30", "2026-11-05T00:00:00Z"))])
        .uses(&[("2026-11-20T00:00:00Z", "110"), ("2026-12-02T00:00:00Z", "5")]);
    assert_eq!(told(org.balance("2026-11-30T23:59:59Z")), tell("130", "0", "10"));
    assert_eq!(told(org.balance("2026-12-05T00:00:00Z")), tell("120", "0", "0"), "20 are left of 30");
    assert_eq!(org.held("2026-12-05T00:00:00Z"), held(&[("g", "20")]));
    assert_eq!(told(org.balance("2026-12-10T00:00:00Z")), tell("100", "0", "0"));
}

#[test]
fn a_void_takes_back_only_what_is_unused() {
    let given = grant("g", "30", "2026-11-05T00:00:00Z");
    let void = CreditGrant { voided_at: Some(at("2026-11-20T10:15:00Z")), ..given.clone() };
    let void = CreditGrant { effective_at: at("2026-11-20T10:15:00Z"), ..void };
    let org = Org::new([given, void]).uses(&[("2026-11-10T00:00:00Z", "110")]);
    for (now, told_then) in [
        ("2026-11-20T10:14:00Z", tell("130", "0", "10")),
        ("2026-11-20T10:59:59Z", tell("130", "0", "10")),
        ("2026-11-20T11:00:00Z", tell("110", "0", "10")),
    ] {
        assert_eq!(told(org.balance(now)), told_then, "at {now}");
    }
}

#[test]
fn at_a_segments_start_earlier_uncovered_usage_oldest_hour_first_is_taken_from_its_grants() {
    let org = Org::new([grant("g", "15", "2026-11-10T00:00:00Z")]).uses(&[
        ("2026-11-03T01:00:00Z", "100"),
        ("2026-11-03T02:00:00Z", "10"),
        ("2026-11-03T05:00:00Z", "10"),
        ("2026-11-12T00:00:00Z", "1"),
    ]);
    let uncovered = |now| org.uncovered(now);
    let part = |hour: &str, credits: &str| (hour.to_owned(), credits.to_owned());
    let (second, fifth) = ("2026-11-03T02:00:00Z", "2026-11-03T05:00:00Z");
    let (first, last) = (part(second, "10.000000"), part("2026-11-12T00:00:00Z", "1.000000"));
    assert_eq!(uncovered("2026-11-09T23:59:59Z"), [first, part(fifth, "10.000000"), last.clone()]);
    assert_eq!(uncovered("2026-11-10T00:00:00Z"), [part(fifth, "5.000000"), last]);
    assert_eq!(told(org.balance("2026-11-12T00:00:00Z")), tell("115", "6", "15"));
}

#[test]
fn then_its_own_usage_takes_base_then_grants() {
    for (used, base_left, grants_used, overage) in
        [("40", "60", "0", "0"), ("100", "0", "0", "0"), ("120", "0", "20", "0"), ("140", "0", "30", "10")]
    {
        let org = Org::new([grant("g", "30", "2026-10-05T00:00:00Z")]).uses(&[("2026-11-10T00:00:00Z", used)]);
        let balance = org.balance("2026-11-20T00:00:00Z");
        assert_eq!(told(balance), tell("130", overage, grants_used), "used {used}");
        assert_eq!(balance.base_left, sum(base_left), "used {used}");
    }
}

#[test]
fn grants_go_by_priority_end_start_and_id_lowest_first_no_end_last() {
    let (early, late) = ("2026-10-05T00:00:00Z", "2026-10-06T00:00:00Z");
    let grants = [
        CreditGrant { priority: 2, ..until("2026-11-25T00:00:00Z", grant("low-priority", "1", early)) },
        grant("a-no-end", "1", early),
        until("2026-11-30T00:00:00Z", grant("ends-later", "1", early)),
        until("2026-11-29T00:00:00Z", grant("starts-later", "1", late)),
        // Its end is the same whole hour.
        until("2026-11-28T23:01:00Z", grant("b", "1", early)),
        until("2026-11-29T00:00:00Z", grant("a", "1", early)),
        CreditGrant { priority: -1, ..grant("first", "1", late) },
    ];
    let order = ["first", "a", "b", "starts-later", "ends-later", "a-no-end", "low-priority"];
    for spent in 0..=order.len() {
        let used = (100 + spent).to_string();
        let org = Org::new(grants.clone()).uses(&[("2026-11-10T00:00:00Z", &used)]);
        let left: Vec<_> =
            (0..).zip(order).map(|(place, id)| (id, if place < spent { "0" } else { "1" })).collect();
        assert_eq!(org.held("2026-11-20T00:00:00Z"), held(&left), "{spent} spent");
    }
}

#[test]
fn a_negative_net_in_a_segment_first_cancels_uncovered_usage_then_refills_base_never_a_grant() {
    for (back, base_left, overage) in
        [("-4", "0", "6"), ("-10", "0", "0"), ("-15", "5", "0"), ("-120", "110", "0")]
    {
        let org = Org::new([until("2026-11-15T00:00:00Z", grant("g", "30", "2026-10-05T00:00:00Z"))])
            .uses(&[("2026-11-10T00:00:00Z", "140"), ("2026-11-16T00:00:00Z", back)]);
        let balance = org.balance("2026-11-20T00:00:00Z");
        assert_eq!((balance.base_left, balance.uncovered), (sum(base_left), sum(overage)), "{back}");
        assert_eq!(balance.grants_used, sum("30"), "{back}");
    }
    // Within one segment a correction takes away what its usage took.
    let org = Org::new([grant("g", "30", "2026-10-05T00:00:00Z")])
        .uses(&[("2026-11-10T00:00:00Z", "140"), ("2026-11-11T00:00:00Z", "-25")]);
    assert_eq!(told(org.balance("2026-11-20T00:00:00Z")), tell("130", "0", "15"));
}

#[test]
fn base_is_lost_at_the_periods_end() {
    let org = Org::new([grant("g", "30", "2026-10-05T00:00:00Z")])
        .uses(&[("2026-10-10T00:00:00Z", "10"), ("2026-11-10T00:00:00Z", "120")]);
    assert_eq!(told(org.balance("2026-11-20T00:00:00Z")), tell("130", "0", "20"));
    assert_eq!(told(org.balance("2026-12-01T00:00:00Z")), tell("110", "0", "0"));
}

#[test]
fn base_of_a_closed_period_is_that_of_its_last_instant_and_unlimited_ones_take_nothing_from_grants() {
    let bigger =
        OrgPolicy { base_allocation: credits("105"), effective_at: at("2026-11-20T00:00:00Z"), ..policy() };
    let next = OrgPolicy { base_allocation: credits("7"), effective_at: at("2026-12-01T00:00:00Z"), ..policy() };
    let given = || [grant("g", "30", "2026-10-05T00:00:00Z")];
    let usage = [("2026-11-10T00:00:00Z", "120")];
    let org = Org::of([policy(), bigger.clone(), next.clone()], given()).uses(&usage);
    assert_eq!(org.held("2026-11-19T00:00:00Z"), held(&[("g", "10")]));
    assert_eq!(org.held("2026-11-20T00:00:00Z"), held(&[("g", "15")]), "in full to the running period");
    assert_eq!(told(org.balance("2026-12-01T00:00:00Z")), tell("22", "0", "0"), "7 and the 15 carried over");

    let unlimited = OrgPolicy { unlimited: true, ..bigger };
    let org = Org::of([policy(), unlimited, next], given()).uses(&usage);
    assert_eq!(org.balance("2026-11-25T00:00:00Z").allowance(), None);
    assert_eq!(org.balance("2026-11-25T00:00:00Z").uncovered, CreditSum::ZERO);
    assert_eq!(told(org.balance("2026-12-01T00:00:00Z")), tell("37", "0", "0"), "the grant is whole again");
}

#[test]
fn usage_that_comes_late_to_a_closed_period_changes_today_only_by_what_grants_carried_over() {
    let now = "2026-12-05T00:00:00Z";
    let late = [("2026-11-30T23:00:00Z", "110"), ("2026-12-02T00:00:00Z", "5")];
    let without = Org::new([]).uses(&late);
    assert_eq!(told(without.balance(now)), told(Org::new([]).uses(&late[1..]).balance(now)));
    assert_eq!(without.balance("2026-11-30T23:59:59Z").uncovered, sum("10"), "the closed period's report");
    let given = || [grant("g", "30", "2026-10-05T00:00:00Z")];
    assert_eq!(told(Org::new(given()).uses(&late[1..]).balance(now)), tell("130", "0", "0"));
    assert_eq!(told(Org::new(given()).uses(&late).balance(now)), tell("120", "0", "0"));
}

#[test]
fn allowance_is_used_less_uncovered_and_what_can_still_be_used_now_of_a_closed_period_at_its_last_instant() {
    let org = Org::new([
        until("2026-11-12T00:00:00Z", grant("gone", "30", "2026-11-02T00:00:00Z")),
        until("2026-12-01T00:00:00Z", grant("to-the-end", "20", "2026-11-14T00:00:00Z")),
        grant("starts-later", "50", "2026-12-01T00:00:00Z"),
    ])
    .uses(&[("2026-11-05T00:00:00Z", "110"), ("2026-11-13T00:00:00Z", "5"), ("2026-12-02T00:00:00Z", "120")]);
    for (now, used, uncovered, usable) in [
        ("2026-11-01T12:00:00Z", "115", "15", "0"),
        ("2026-11-02T00:00:00Z", "115", "5", "20"),
        ("2026-11-13T00:00:00Z", "115", "5", "0"),
        ("2026-11-14T00:00:00Z", "115", "0", "15"),
        ("2026-11-30T23:59:59.999999Z", "115", "0", "15"),
        ("2026-12-01T00:00:00Z", "120", "0", "30"),
    ] {
        let balance = org.balance(now);
        assert_eq!((balance.used, balance.uncovered), (sum(used), sum(uncovered)), "at {now}");
        assert_eq!(balance.base_left + balance.grants_left, sum(usable), "at {now}");
        assert_eq!(balance.allowance(), Some(sum(used) - sum(uncovered) + sum(usable)), "at {now}");
    }
}

#[test]
fn beyond_base_is_what_a_walk_without_grants_leaves_uncovered() {
    let org = Org::new([grant("g", "30", "2026-11-10T00:00:00Z")]).uses(&[
        ("2026-11-05T00:00:00Z", "90"),
        ("2026-11-12T00:00:00Z", "20"),
        ("2026-11-13T00:00:00Z", "-4"),
    ]);
    let balance = org.balance("2026-11-20T00:00:00Z");
    assert_eq!((balance.beyond_base(), balance.uncovered), (sum("6"), CreditSum::ZERO));
    let parts = beyond_base(org.terms().period(at(PERIOD_START)), sum("100"), &org.hours);
    assert_eq!(parts, [(at("2026-11-12T00:00:00Z").hour(), sum("6"))]);
}

#[test]
fn a_grant_that_starts_or_ends_or_changes_names_its_instant() {
    let org = Org::new([
        grant("half-past", "1", "2026-11-10T08:30:00Z"),
        until("2026-11-12T08:30:00Z", grant("ends", "1", "2026-10-10T00:00:00Z")),
        CreditGrant { priority: 1, ..grant("ends", "1", "2026-11-11T00:00:00Z") },
    ]);
    let next = |after: &str| next_change_after(&org.terms.grants, at(after)).map(|at| at.to_string());
    assert_eq!(next("2026-11-10T08:00:00Z").as_deref(), Some("2026-11-10T08:30:00Z"));
    assert_eq!(next("2026-11-10T08:30:00Z").as_deref(), Some("2026-11-11T00:00:00Z"));
    assert_eq!(next("2026-11-11T00:00:00Z"), None, "the later record has no end");
    assert_eq!(org.walk("2026-11-11T00:00:00Z").until(), at("2026-12-01T00:00:00Z"), "the period's end");
}

#[test]
fn a_pack_bought_in_a_crossing_is_taken_without_reading_hours_again() {
    // One worked example of a soft limit with packs, to the credit: 100 of base, packs of 20.
    let soft = OrgPolicy { limit_mode: LimitMode::Soft, soft_extra: credits("10"), ..policy() };
    let usage = [("2026-11-20T10:00:00Z", "95"), ("2026-11-20T11:00:00Z", "9")];
    let mut org = Org::of([soft], []).uses(&usage);
    let mut walk = org.walk("2026-11-20T11:00:00Z");
    assert_eq!(told(walk.balance()), tell("100", "4", "0"), "in overage by 4");
    let pack = grant("purchase-1", "20", "2026-11-20T11:10:00Z");
    org.terms.grants.entry(pack.grant_id.clone()).or_default().insert(1, pack);
    assert!(walk.advance(org.terms(), at("2026-11-20T11:10:01Z")));
    assert_eq!(told(walk.balance()), tell("120", "0", "4"), "the pack repays them and holds 16");
    assert!(walk.add(at("2026-11-20T11:00:00Z").hour(), sum("18")));
    assert_eq!(told(walk.balance()), tell("120", "2", "20"), "122 used of 120 and the extra 10");
    assert!(!walk.add(at("2026-10-31T23:00:00Z").hour(), sum("1")), "a closed period's usage: load again");
    assert_eq!(walk.balance(), org.uses(&[("2026-11-20T11:00:00Z", "18")]).balance("2026-11-20T11:10:01Z"));
}

#[test]
fn usage_of_the_next_segment_and_of_the_next_period_stands_apart_until_its_time() {
    let org = Org::new([until("2026-11-30T23:00:00Z", grant("g", "30", "2026-11-05T00:00:00Z"))])
        .uses(&[("2026-11-30T22:00:00Z", "110")]);
    let mut walk = org.walk("2026-11-30T22:58:00Z");
    let hour = |text: &str| at(text).hour();
    // Three minutes ahead: the grant has ended by then, so nothing covers it.
    assert!(walk.add(hour("2026-11-30T23:01:00Z"), sum("5")));
    assert_eq!(told(walk.balance()), tell("130", "5", "10"));
    assert!(walk.advance(org.terms(), at("2026-11-30T23:57:00Z")));
    assert!(walk.add(hour("2026-12-01T00:01:00Z"), sum("7")));
    assert!(walk.add(hour("2026-11-30T22:00:00Z"), sum("1")), "an hour late");
    assert_eq!(told(walk.balance()), tell("111", "5", "11"));
    assert_eq!(walk.until(), at("2026-12-01T00:00:00Z"));
    assert!(walk.advance(org.terms(), at("2026-12-01T00:00:00Z")));
    assert_eq!((walk.balance().used, told(walk.balance())), (sum("7"), tell("100", "0", "0")));
    assert!(walk.add(hour("2026-11-30T23:00:00Z"), sum("1")), "late to the period before");
    assert_eq!(walk.balance().used, sum("7"));
    assert_eq!(Timestamp::from_micros(walk.period().starts_at().micros()), at("2026-12-01T00:00:00Z"));
}
