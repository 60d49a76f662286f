//! What other budgets would have made of the same usage: a replayed scope against what was published of it, and blocked
//! hours against a count that looks at every hour.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::budget::is_over;
use tallyman::domain::limits::decision::Action;
use tallyman::domain::limits::scope::BudgetScope;
use tallyman::domain::limits::walk::Terms;
use tallyman::domain::terms::book::{History, OrgTerms};
use tallyman::domain::terms::period::cycle_at;
use tallyman::domain::terms::records::{Budget, BudgetAction, BudgetPeriod, DefaultTerms, TermsRecord};
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::what_if::budget_replay::{Cycles, ScopeReplay};
use tallyman::domain::what_if::replay::Step;
use tallyman::domain::what_if::simulate::with_terms;
use tallyman::domain::what_if::simulate_budgets::{
    BudgetSimulation, SCOPES_TOLD_MAX, ScopeOutcome, ScopeOutcomes, side_by_side,
};

use crate::budget_model::{HOUR, Model, VALUES, step, take};
use crate::budget_world::{ORG, Spent, World, budget};
use crate::support::at;

const USER: Option<Dimension> = Some(Dimension::User);

fn terms(budgets: impl IntoIterator<Item = Budget>) -> OrgTerms {
    let mut org = OrgTerms::default();
    for (offset, budget) in (10..).zip(budgets) {
        org.insert(offset, TermsRecord::Budget(budget));
    }
    org
}

fn outcomes(org: &OrgTerms, usage: &[(&str, Step)], from: &str, to: &str) -> ScopeOutcomes {
    let cycles = Cycles::new(Terms { org, default: &DefaultTerms::Allow }, at(from), at(to));
    let mut simulation = BudgetSimulation::new(org, &cycles, at(from), at(to));
    for (user, step) in usage {
        simulation.add(None, *step);
        simulation.add(Some((Dimension::User, user)), *step);
    }
    simulation.finish()
}

fn scope(id: &str, value: Option<&str>) -> BudgetScope {
    BudgetScope { dimension: USER, value: value.map(str::to_owned), budget_id: id.to_owned() }
}

fn hour(text: &str, credits: i64) -> Step {
    Step::whole_hour(at(text).hour(), CreditSum::whole(credits))
}

/// Four credits at nine, two at ten, one at noon, by ann and half as much by bob, on the 18th and 19th.
fn usage() -> Vec<(&'static str, Step)> {
    let mut usage = Vec::new();
    for day in 18..20 {
        for (hour_of_day, credits) in [("09", 4), ("10", 2), ("12", 1)] {
            let text = format!("2026-11-{day}T{hour_of_day}:00:00Z");
            usage.push(("ann", hour(&text, 2 * credits)));
            usage.push(("bob", hour(&text, credits)));
        }
    }
    usage
}

#[test]
fn a_budget_is_told_by_when_it_warned_how_long_it_blocked_and_its_fullest_period() {
    let told = outcomes(
        &terms([budget("daily", Some("*"), "12")]),
        &usage(),
        "2026-11-18T00:00:00Z",
        "2026-11-19T18:00:00Z",
    );
    let ann = &told[&scope("daily", Some("ann"))];
    let ten = (at("2026-11-18T10:59:59.999999Z"), Some(at("2026-11-18T10:00:00Z").hour()));
    assert_eq!(ann.first_block, Some((ten, Some(at("2026-11-19T00:00:00Z")))), "unblocked when its day turns");
    assert_eq!((ann.blocks, ann.blocked_micros), (2, (13 + 7) * HOUR + 2));
    assert_eq!(ann.while_blocked, CreditSum::whole(2 + 2));
    assert_eq!((ann.fullest.used, ann.fullest.limit), (CreditSum::whole(14), CreditSum::whole(12)));
    assert_eq!(ann.fullest.period.starts_at(), at("2026-11-18T00:00:00Z"), "the earlier of two equal days");
    let reached: Vec<_> = ann.thresholds.iter().map(|one| (one.percent, one.first, one.periods)).collect();
    assert_eq!(reached, [(75, ten, 2), (90, ten, 2), (100, ten, 2)]);
    let bob = &told[&scope("daily", Some("bob"))];
    assert_eq!((bob.blocks, bob.thresholds.len(), bob.fullest.used), (0, 0, CreditSum::whole(7)));
    let (pairs, left_out) = side_by_side(told, ScopeOutcomes::new());
    assert_eq!((pairs.len(), left_out, &pairs[0].actual), (1, 0, &None), "bob reached nothing");
}

#[test]
fn an_exact_value_overrides_and_a_limit_of_zero_blocks_the_rest_without_any_usage() {
    let closed = budget("none", Some("*"), "0");
    let exact = budget("ann", Some("ann"), "100");
    let told = outcomes(&terms([closed, exact]), &usage(), "2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z");
    assert!(!told.contains_key(&scope("none", Some("ann"))), "it does not bind ann");
    assert_eq!(told[&scope("ann", Some("ann"))].blocks, 0);
    for value in [None, Some("bob")] {
        let ScopeOutcome { blocks, blocked_micros, first_block, .. } = &told[&scope("none", value)];
        assert_eq!((*blocks, *blocked_micros), (1, 24 * HOUR));
        assert_eq!(*first_block, Some(((at("2026-11-18T00:00:00Z"), None), None)));
    }
}

#[test]
fn other_budgets_take_the_place_of_their_namesakes_from_the_range_on_and_count_their_whole_period() {
    let own = terms([budget("daily", Some("*"), "100"), budget("other", Some("bob"), "1")]);
    let tighter = Budget {
        period: BudgetPeriod::Month,
        effective_at: at("2026-11-19T00:00:00Z"),
        ..budget("daily", Some("*"), "20")
    };
    let other = with_terms(&own, &[TermsRecord::Budget(tighter)]);
    let range = ("2026-11-19T00:00:00Z", "2026-11-20T00:00:00Z");
    let (pairs, left_out) =
        side_by_side(outcomes(&other, &usage(), range.0, range.1), outcomes(&own, &usage(), range.0, range.1));
    assert_eq!(left_out, 0);
    let ids: Vec<_> = pairs.iter().map(|pair| (&*pair.scope.budget_id, pair.scope.value.as_deref())).collect();
    assert_eq!(ids, [("daily", Some("ann")), ("other", Some("bob"))], "who is blocked longer comes first");
    let ann = pairs[0].simulated.as_ref().unwrap();
    assert_eq!(ann.first_block.unwrap().0.1, Some(at("2026-11-19T09:00:00Z").hour()), "14 of yesterday, 8 more");
    assert_eq!(pairs[0].actual.as_ref().unwrap().fullest.used, CreditSum::whole(14));
    assert_eq!(pairs[1].simulated, pairs[1].actual, "what the documents leave alone stays as it was");
    let reached = &pairs[1].actual.as_ref().unwrap().thresholds;
    assert_eq!(reached[0].periods, 1, "the day before the range is no part of it");
}

#[test]
fn a_warning_budget_warns_and_never_blocks_and_most_severe_scopes_are_told_first_up_to_a_bound() {
    let warns = Budget { action: BudgetAction::Warn, ..budget("warn", Some("*"), "5") };
    let names: Vec<String> = (0..150).map(|number| format!("u{number:03}")).collect();
    let usage = (0..).zip(&names).map(|(number, name)| {
        let first = at("2026-11-18T00:00:00Z").hour().0;
        (name.as_str(), Step::whole_hour(Hour(first + number % 24), CreditSum::whole(6)))
    });
    let usage: Vec<_> = usage.collect();
    let range = ("2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z");
    let warned = outcomes(&terms([warns]), &usage, range.0, range.1);
    assert!(warned.values().all(|told| told.blocks == 0));
    let blocked = outcomes(&terms([budget("warn", Some("*"), "5")]), &usage, range.0, range.1);
    let (pairs, left_out) = side_by_side(blocked, warned);
    assert_eq!((pairs.len(), left_out), (SCOPES_TOLD_MAX, 50));
    let micros: Vec<_> = pairs.iter().map(|pair| pair.simulated.as_ref().unwrap().blocked_micros).collect();
    assert!(micros.is_sorted_by(|a, b| a >= b) && pairs[0].scope.value.as_deref() == Some("u000"), "{micros:?}");
}

/// What a replay says of a scope in the end, and since when.
fn replayed(world: &World, of: &BudgetScope) -> Option<(Timestamp, tallyman::domain::limits::decision::Level)> {
    let org = world.terms.org(ORG).unwrap();
    let cycles = Cycles::new(Terms { org, default: &DefaultTerms::Allow }, world.now, world.now);
    let names = |history: &&History<Budget>| history.iter().any(|(_, other)| other.value == of.value);
    let others = org.budgets.iter().filter(|(id, _)| **id != of.budget_id).map(|(_, history)| history);
    let others = others.filter(names).collect();
    let value = (of.dimension, of.value.as_deref());
    let mut replay = ScopeReplay::new(&cycles, &org.budgets[&of.budget_id], others, value);
    let is_rest = of.dimension.is_some() && of.value.is_none();
    let counts = |spent: &&Spent| {
        !is_rest
            && spent.at.hour() >= cycles.first_hour()
            && of.dimension.is_none_or(|dimension| spent.value(dimension) == of.value.as_deref())
    };
    let mut spent: Vec<&Spent> = world.spent().iter().filter(counts).collect();
    spent.sort_by_key(|spent| spent.at);
    for spent in spent {
        let credits = CreditSum(spent.micros.into());
        let known_at = spent.at.min(world.now);
        replay.add(Step { known_at, hour: spent.at.hour(), credits }, &mut |_, _| {});
    }
    let bound = replay.look(world.now)?;
    let level = bound.judged.level.clone();
    Some((replay.since().0, level))
}

/// Whether `budgets` block a value at the start of an hour: all usage is looked at.
fn blocks(org: &OrgTerms, id: &str, value: &str, hour: Hour, usage: &BTreeMap<(&str, i32), i64>) -> bool {
    let at = hour.start();
    let in_force = |history: &History<Budget>| {
        let (_, record) = history.in_force(at)?;
        record.expires_at.is_none_or(|end| at < end).then(|| record.clone())
    };
    let Some(record) = in_force(&org.budgets[id]) else { return false };
    let names = |record: &Budget| record.value.as_deref() == Some(value);
    let overridden = || org.budgets.values().filter_map(in_force).any(|other| names(&other));
    if !(names(&record) || record.value.as_deref() == Some("*") && !overridden()) {
        return false;
    }
    let period = cycle_at(record.period, Some(&org.policies), &DefaultTerms::Allow, at);
    let used = usage.iter().filter(|((of, when), _)| *of == value && (period.start.0..hour.0).contains(when));
    let used: i64 = used.map(|(_, micros)| micros).sum();
    record.action == BudgetAction::Block && used >= record.limit.micros()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_replayed_scope_says_what_was_published_of_it_over_any_history(steps in prop::collection::vec(step(), 1..16)) {
        let (mut world, mut model) = (World::new("2026-11-20T10:20:00Z"), Model::default());
        for step in steps {
            take(&mut world, &mut model, step);
        }
        for told in world.control.values() {
            let Some(scope) = &told.scope.budget else { continue };
            let found = replayed(&world, scope);
            if is_over(&told.level) {
                // Exempt, ended, or not used for a whole period: nothing that blocks.
                prop_assert!(found.is_none_or(|(_, level)| level.action == Action::Allow), "{:?}", told);
                continue;
            }
            let Some((since, level)) = found else { return Err(TestCaseError::fail(format!("unbound: {told:?}"))) };
            prop_assert_eq!(&level, &told.level, "{:?} at {}", scope, world.now);
            prop_assert!(since <= world.now);
        }
    }

    #[test]
    fn hours_blocked_are_those_that_a_look_at_every_hour_counts(
        records in prop::collection::vec(
            (0..3_u8, 0..3_usize, 0..3_usize, 0..30_i64, (0..200_i64, 1..300_i64), any::<bool>()), 1..6),
        usage in prop::collection::btree_map((0..2_usize, 0..240_i32), -3..9_i64, 0..40),
        from in 0..100_i32,
    ) {
        let first = at("2026-11-18T00:00:00Z").hour();
        let kinds = [BudgetPeriod::Day, BudgetPeriod::Week, BudgetPeriod::Month];
        let budgets = records.into_iter().map(|(id, value, kind, limit, (start, lasts), expires)| {
            let value = [Some("*"), Some(VALUES[0]), Some(VALUES[1])][value];
            let effective_at = Hour(first.0 + i32::try_from(start).unwrap()).start();
            Budget {
                limit: Credits::from_micros(limit).unwrap(),
                period: kinds[kind],
                effective_at,
                expires_at: expires.then(|| effective_at.plus_micros(lasts * HOUR)),
                ..budget(&format!("b{id}"), value, "0")
            }
        });
        let org = terms(budgets);
        let usage: BTreeMap<(&str, i32), i64> =
            usage.into_iter().map(|((value, hour), micros)| ((VALUES[value], first.0 + hour), micros)).collect();
        let (from, to) = (Hour(first.0 + from), Hour(first.0 + 240));
        let cycles = Cycles::new(Terms { org: &org, default: &DefaultTerms::Allow }, from.start(), to.start());
        let mut simulation = BudgetSimulation::new(&org, &cycles, from.start(), to.start());
        // A value that is never used has no scope of its own: the rest of its budget speaks for it.
        for value in &VALUES[..2] {
            simulation.add(Some((Dimension::User, value)), Step::whole_hour(first, CreditSum::ZERO));
        }
        for (&(value, hour), &micros) in &usage {
            simulation.add(Some((Dimension::User, value)), Step::whole_hour(Hour(hour), CreditSum(micros.into())));
        }
        let told = simulation.finish();
        for id in org.budgets.keys() {
            for value in &VALUES[..2] {
                let hours = (from.0..to.0).filter(|hour| blocks(&org, id, value, Hour(*hour), &usage)).count();
                let found = told.get(&scope(id, Some(value)));
                let micros = found.map_or(0, |found| found.blocked_micros);
                // An hour is known at its last microsecond.
                let found = (micros + HOUR / 2) / HOUR;
                prop_assert_eq!(found, i64::try_from(hours).unwrap(), "{} {} {:?}", id, value, told);
            }
        }
    }
}
