//! Usage that comes late, event by event: a simulation's sums are those of the hours and of the closed periods, and what
//! was known at the time alone blocks.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::walk::{Terms, last_instant, segments};
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::records::{
    Budget, BudgetPeriod, CreditGrant, DefaultTerms, LimitMode, OrgPolicy, TermsRecord,
};
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::what_if::budget_replay::Cycles;
use tallyman::domain::what_if::replay::Step;
use tallyman::domain::what_if::simulate::{PeriodOutcome, Simulation};
use tallyman::domain::what_if::simulate_budgets::{BudgetSimulation, ScopeOutcomes};

use crate::budget_model::{HOUR, VALUES};
use crate::budget_world::budget;
use crate::support::{at, credits, policy};

const DAY: i64 = 24 * HOUR;

/// An event: its hour, its credits, and when it was known.
fn event(hour: Hour, micros: i64, late: i64) -> Step {
    Step { known_at: hour.start().plus_micros(late), hour, credits: CreditSum(micros.into()) }
}

/// The events in the order in which they became known, and the sums of their hours in the order of these.
fn both_ways(mut events: Vec<Step>) -> [Vec<Step>; 2] {
    events.sort_by_key(|event| event.known_at);
    let mut hours: BTreeMap<Hour, CreditSum> = BTreeMap::new();
    events.iter().for_each(|event| *hours.entry(event.hour).or_default() += event.credits);
    [events, hours.into_iter().map(|(hour, credits)| Step::whole_hour(hour, credits)).collect()]
}

fn outcome(org: &OrgTerms, steps: &[Step], (from, to): (Timestamp, Timestamp)) -> Vec<PeriodOutcome> {
    let mut simulation = Simulation::new("acme", Terms { org, default: &DefaultTerms::Allow }, from, to);
    steps.iter().for_each(|step| simulation.add(*step));
    simulation.finish()
}

fn org(records: impl IntoIterator<Item = TermsRecord>) -> OrgTerms {
    let mut org = OrgTerms::default();
    for (offset, record) in (10..).zip(records) {
        org.insert(offset, record);
    }
    org
}

#[test]
fn usage_that_comes_after_its_period_counts_to_it_and_blocks_nothing() {
    let org = org([TermsRecord::OrgPolicy(OrgPolicy { base_allocation: credits("5"), ..policy() })]);
    let october = at("2026-10-20T10:00:00Z").hour();
    let late = [event(october, 7_000_000, 14 * DAY)];
    let range = (at("2026-10-01T00:00:00Z"), at("2026-12-01T00:00:00Z"));
    for to in [range.1, at("2026-11-01T00:00:00Z"), at("2026-10-21T00:00:00Z")] {
        let told = outcome(&org, &late, (range.0, to));
        let october = &told[0];
        assert_eq!((october.used, october.overage), (CreditSum::whole(7), CreditSum::whole(2)), "up to {to}");
        assert_eq!(october.allowance, Some(CreditSum::whole(5)));
        assert_eq!(
            (&october.blocked, &october.thresholds),
            (&vec![], &vec![]),
            "nothing of it was known in October"
        );
        assert!(told.get(1).is_none_or(|november| november.used == CreditSum::ZERO));
    }
    assert_eq!(outcome(&org, &late, (range.0, at("2026-10-20T10:00:00Z")))[0].used, CreditSum::ZERO);
}

#[test]
fn a_budget_whose_day_was_filled_late_is_told_with_its_sum_and_without_a_block() {
    let org = org([TermsRecord::Budget(budget("daily", Some("*"), "12"))]);
    let ten = at("2026-11-18T10:00:00Z").hour();
    let told =
        budgets(&org, &[("ann", event(ten, 8, 0)), ("ann", event(ten, 7, 2 * DAY))], |org, cycles, range| {
            BudgetSimulation::of_events(org, cycles, range.0, range.1)
        });
    let (_, ann) = told.iter().find(|(scope, _)| scope.value.as_deref() == Some("ann")).unwrap();
    assert_eq!((ann.fullest.used, ann.blocks, ann.thresholds.len()), (CreditSum(15), 0, 0));
    assert_eq!(ann.fullest.period.starts_at(), at("2026-11-18T00:00:00Z"));
}

const RANGE: (&str, &str) = ("2026-11-18T00:00:00Z", "2026-11-28T00:00:00Z");

fn budgets(
    org: &OrgTerms,
    steps: &[(&str, Step)],
    begin: for<'a> fn(&'a OrgTerms, &'a Cycles<'a>, (Timestamp, Timestamp)) -> BudgetSimulation<'a>,
) -> ScopeOutcomes {
    let range = (at(RANGE.0), at(RANGE.1));
    let cycles = Cycles::new(Terms { org, default: &DefaultTerms::Allow }, range.0, range.1);
    let mut simulation = begin(org, &cycles, range);
    for (user, step) in steps {
        simulation.add(None, *step);
        simulation.add(Some((Dimension::User, user)), *step);
    }
    simulation.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn sums_event_by_event_are_those_of_the_hours_and_of_the_periods(
        events in prop::collection::vec((0..2200_i32, -20..60_i64, 0..60 * DAY), 0..60),
        policies in prop::collection::vec((0..2200_i32, 0..300_i64, 1..28_i32, any::<bool>()), 0..4),
        grants in prop::collection::vec((0..3_u8, 0..2200_i32, 1..150_i64, 1..1500_i32, 0..3_i32), 0..5),
        (from, lasts) in (0..1200_i32, 1..1500_i32),
    ) {
        let first = at("2026-09-01T00:00:00Z").hour();
        let after = |hours: i32| Hour(first.0 + hours);
        let events = events.into_iter().map(|(hour, micros, late)| event(after(hour), micros, late)).collect();
        let [events, hours] = both_ways(events);
        let policies = policies.into_iter().map(|(from, base, anchor_day, soft)| {
            TermsRecord::OrgPolicy(OrgPolicy {
                base_allocation: Credits::from_micros(base).unwrap(),
                anchor_day,
                limit_mode: if soft { LimitMode::Soft } else { LimitMode::Hard },
                effective_at: after(from).start(),
                ..policy()
            })
        });
        let grants = grants.into_iter().map(|(id, from, micros, lasts, priority)| {
            TermsRecord::CreditGrant(CreditGrant {
                org_id: "acme".into(),
                grant_id: format!("g{id}"),
                credits: Credits::from_micros(micros).unwrap(),
                kind: "pack".into(),
                price: None,
                currency: None,
                effective_at: after(from).start(),
                expires_at: (lasts < 1200).then(|| after(from + lasts).start()),
                voided_at: None,
                priority,
                updated_by: "ann".into(),
            })
        });
        let org = org(policies.chain(grants));
        let range = (after(from).start(), after(from + lasts).start());
        let (exact, by_hour) = (outcome(&org, &events, range), outcome(&org, &hours, range));
        let sums = |all: &[PeriodOutcome]| -> Vec<_> {
            all.iter().map(|one| (one.period, one.used, one.allowance, one.overage)).collect()
        };
        prop_assert_eq!(sums(&exact), sums(&by_hour));
        // What `periods` tells of each.
        let terms = Terms { org: &org, default: &DefaultTerms::Allow };
        let known: Vec<_> = hours.iter().map(|step| (step.hour, step.credits)).collect();
        let known: Vec<_> = known.into_iter().filter(|(hour, _)| hour.start() < range.1).collect();
        for told in &exact {
            let instant = last_instant(told.period).min(range.1.plus_micros(-1));
            let (balance, _) = segments(terms, instant, &known);
            prop_assert_eq!((told.used, told.allowance, told.overage), (balance.used, balance.allowance(), balance.uncovered));
        }
    }

    #[test]
    fn the_fullest_period_of_a_budget_is_the_same_event_by_event_and_by_hours(
        records in prop::collection::vec(
            (0..3_usize, 0..4_usize, 0..30_i64, (0..200_i64, 1..300_i64), any::<bool>()), 1..6),
        events in prop::collection::vec((0..2_usize, 0..240_i32, -3..9_i64, 0..12 * DAY), 0..40),
    ) {
        let first = at(RANGE.0).hour();
        let kinds = [BudgetPeriod::Day, BudgetPeriod::Week, BudgetPeriod::Month];
        let org = org(records.into_iter().map(|(id, value, limit, (start, lasts), expires)| {
            let value = [None, Some("*"), Some(VALUES[0]), Some(VALUES[1])][value];
            let effective_at = Hour(first.0 + i32::try_from(start).unwrap()).start();
            TermsRecord::Budget(Budget {
                limit: Credits::from_micros(limit).unwrap(),
                period: kinds[id],
                effective_at,
                expires_at: expires.then(|| effective_at.plus_micros(lasts * HOUR)),
                dimension: value.map(|_| Dimension::User),
                ..budget(&format!("b{id}"), value, "0")
            })
        }));
        let mut events: Vec<(&str, Step)> = events
            .into_iter()
            .map(|(value, hour, micros, late)| (VALUES[value], event(Hour(first.0 + hour), micros, late)))
            .collect();
        events.sort_by_key(|(_, event)| event.known_at);
        let mut hours: BTreeMap<(Hour, &str), CreditSum> = BTreeMap::new();
        events.iter().for_each(|(value, event)| *hours.entry((event.hour, value)).or_default() += event.credits);
        let hours: Vec<_> =
            hours.into_iter().map(|((hour, value), credits)| (value, Step::whole_hour(hour, credits))).collect();
        let exact = budgets(&org, &events, |org, cycles, range| BudgetSimulation::of_events(org, cycles, range.0, range.1));
        let by_hour = budgets(&org, &hours, |org, cycles, range| BudgetSimulation::new(org, cycles, range.0, range.1));
        for (scope, told) in &by_hour {
            if told.fullest.used > CreditSum::ZERO {
                let found = exact.get(scope).map(|found| (found.fullest, found.level));
                prop_assert_eq!(found, Some((told.fullest, told.level)), "{:?}", scope);
            }
        }
    }
}
