//! Decisions of budgets against an obvious model, over random histories: events, late events, corrections, budgets that
//! come, change, override and go, policies, time and restarts. The model looks at every event, every record and every
//! value each time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::budget::TOMBSTONE_AFTER;
use tallyman::domain::limits::decision::{Action, DecisionReason, Level};
use tallyman::domain::limits::scope::{BudgetScope, Scope};
use tallyman::domain::terms::period::{Period, cycle_at};
use tallyman::domain::terms::records::{Budget, BudgetAction, BudgetPeriod, DefaultTerms, OrgPolicy, TermsRecord};
use tallyman::domain::time::Timestamp;
use tallyman::domain::usage::dimension::Dimension;

use crate::budget_world::{ORG, Spent, World, budget};
use crate::support::anchored;

pub const HOUR: i64 = 3_600_000_000;
pub const VALUES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
pub enum Step {
    Batch(Vec<(i64, i64, Option<usize>, Option<usize>)>),
    Budget(Box<Budget>, i64, Option<i64>),
    Policy(i32, &'static str, i64),
    Wait(i64),
    /// Nobody decides for so long.
    Restart(i64),
}

fn value() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![4 => (0..VALUES.len()).prop_map(Some), 1 => Just(None)]
}

/// Microseconds between now and another instant: some in the future, some before the period, most near.
fn away() -> impl Strategy<Value = i64> {
    prop_oneof![6 => -3 * HOUR..5 * HOUR / 60, 2 => -40 * HOUR..0, 1 => -1500 * HOUR..0]
}

pub fn any_budget() -> impl Strategy<Value = Step> {
    let bound = prop_oneof![
        1 => Just((None, None)),
        3 => prop_oneof![Just(Dimension::User), Just(Dimension::Model)].prop_map(|d| (Some(d), Some("*"))),
        3 => (0..2_usize).prop_map(|v| (Some(Dimension::User), Some(VALUES[v]))),
    ];
    let period =
        prop_oneof![3 => Just(BudgetPeriod::Day), 1 => Just(BudgetPeriod::Week), 1 => Just(BudgetPeriod::Month)];
    let limit = prop_oneof![1 => Just(0), 4 => 1..40_i64];
    let thresholds = prop::collection::btree_set(prop_oneof![Just(50), Just(75), Just(100), Just(150)], 0..3);
    let from = prop_oneof![3 => Just(-HOUR), 1 => -50 * HOUR..0, 2 => 0..60 * HOUR];
    let lasts = prop::option::weighted(0.4, prop_oneof![-HOUR..80 * HOUR, Just(24 * HOUR)]);
    let rest = (prop::bool::weighted(0.25), from, lasts);
    (0..5_u8, bound, period, limit, thresholds, rest).prop_map(
        |(id, (dimension, value), period, limit, thresholds, (warns, from, lasts))| {
            let value = value.map(str::to_owned);
            let action = if warns { BudgetAction::Warn } else { BudgetAction::Block };
            let limit = Credits::from_micros(limit).unwrap();
            let thresholds = thresholds.into_iter().collect();
            let like = budget(&format!("b{id}"), None, "0");
            let budget = Budget { dimension, value, period, limit, thresholds, action, ..like };
            Step::Budget(Box::new(budget), from, lasts)
        },
    )
}

fn wait() -> impl Strategy<Value = i64> {
    prop_oneof![5 * HOUR..30 * HOUR, 0..HOUR, Just(24 * HOUR), 100 * HOUR..900 * HOUR]
}

pub fn step() -> impl Strategy<Value = Step> {
    let spent = (away(), prop_oneof![4 => 0..12_i64, 1 => -12..0_i64], value(), value());
    let zone = prop::sample::select(&["UTC", "America/New_York", "Asia/Kathmandu"][..]);
    prop_oneof![
        8 => prop::collection::vec(spent, 1..4).prop_map(Step::Batch),
        6 => any_budget(),
        1 => (1..=28_i32, zone, -HOUR..30 * HOUR).prop_map(|(day, zone, from)| Step::Policy(day, zone, from)),
        6 => wait().prop_map(Step::Wait),
        2 => prop_oneof![Just(0), wait()].prop_map(Step::Restart),
    ]
}

/// What the control topic must hold.
#[derive(Default)]
pub struct Model {
    records: Vec<(i64, Budget)>,
    /// What all amounts are multiplied by; 0 is 1. Rates of few micro-credits a second foretell nothing.
    scale: i64,
    levels: BTreeMap<String, Level>,
}

impl Model {
    /// The record of `id` in force at `at`: all records are looked at.
    fn in_force(&self, id: &str, at: Timestamp) -> Option<&Budget> {
        let records =
            self.records.iter().filter(|(_, record)| record.budget_id == id && record.effective_at <= at);
        let (_, last) = records.max_by_key(|(offset, record)| (record.effective_at, *offset))?;
        (last.expires_at.is_none_or(|expires_at| at < expires_at)).then_some(last)
    }

    /// All instants after `at` at which some record begins or expires.
    fn changes(&self, at: Timestamp) -> Vec<Timestamp> {
        let records = self.records.iter().flat_map(|(_, record)| [Some(record.effective_at), record.expires_at]);
        let mut changes: Vec<Timestamp> = records.flatten().filter(|change| *change > at).collect();
        changes.sort_unstable();
        changes
    }

    fn overridden(&self, each: &Budget, value: &str, at: Timestamp) -> bool {
        self.ids().iter().filter(|id| **id != each.budget_id).any(|id| {
            self.in_force(id, at)
                .is_some_and(|other| other.dimension == each.dimension && other.value.as_deref() == Some(value))
        })
    }

    fn ids(&self) -> Vec<String> {
        (0..5).map(|id| format!("b{id}")).collect()
    }

    fn step(&mut self, world: &World) {
        for id in self.ids() {
            let dimensions = [None, Some(Dimension::User), Some(Dimension::Model)];
            for dimension in dimensions {
                for value in [None].into_iter().chain(VALUES.map(Some)) {
                    self.step_scope(world, &id, dimension, value);
                }
            }
        }
    }

    fn step_scope(&mut self, world: &World, id: &str, dimension: Option<Dimension>, value: Option<&str>) {
        let scope = BudgetScope { dimension, value: value.map(str::to_owned), budget_id: id.to_owned() };
        let key = Scope { org_id: ORG.into(), budget: Some(scope) }.key();
        let before = self.levels.get(&key).cloned();
        match (self.level(world, id, dimension, value, before.as_ref()), before) {
            (Some(level), _) => drop(self.levels.insert(key, level)),
            (None, None) => {}
            (None, Some(before)) if before.allowance.is_none() => {
                if before.valid_until <= world.now {
                    self.levels.remove(&key);
                }
            }
            (None, Some(before)) => {
                let ended = Level {
                    action: Action::Allow,
                    reason: DecisionReason::WithinBudget,
                    level: 0,
                    allowance: None,
                    extra: None,
                    valid_until: world.now.plus_micros(TOMBSTONE_AFTER),
                    ..before
                };
                self.levels.insert(key, ended);
            }
        }
    }

    fn level(
        &self,
        world: &World,
        id: &str,
        dimension: Option<Dimension>,
        value: Option<&str>,
        before: Option<&Level>,
    ) -> Option<Level> {
        let now = world.now;
        let budget = self.in_force(id, now).filter(|budget| budget.dimension == dimension)?;
        let policies = world.terms.policies(ORG);
        let period = cycle_at(budget.period, policies, &DefaultTerms::Allow, now);
        let of = |period: Period| {
            let mine = move |spent: &&Spent| {
                period.contains(spent.at) && dimension.is_none_or(|dimension| spent.value(dimension) == value)
            };
            world.spent().iter().filter(mine)
        };
        let is_closed = budget.action == BudgetAction::Block && budget.limit.micros() == 0;
        let is_rest = dimension.is_some() && value.is_none();
        let mut changes: Vec<Timestamp> = self.changes(now);
        let same = |at: &Timestamp| self.in_force(id, *at) == Some(budget);
        let mut valid_until = changes.iter().copied().find(|at| !same(at));
        let mut exempt = false;
        match (budget.value.as_deref(), value) {
            (Some("*"), Some(value)) => {
                exempt = self.overridden(budget, value, now);
                changes.retain(|at| self.overridden(budget, value, *at) != exempt);
                valid_until = valid_until.into_iter().chain(changes.first().copied()).min();
                let earlier =
                    cycle_at(budget.period, policies, &DefaultTerms::Allow, period.starts_at().plus_micros(-1));
                let stays = before.is_some_and(|before| {
                    let runs = (before.period_start, before.period_end) == (period.starts_at(), period.ends_at());
                    is_closed || before.allowance.is_some() && (runs || of(earlier).next().is_some())
                });
                if exempt && !is_closed || !exempt && of(period).next().is_none() && !stays {
                    return None;
                }
            }
            (Some("*"), None) => {}
            (own, value) if own == value => {}
            _ => return None,
        }
        let used: i128 = if is_rest { 0 } else { of(period).map(|spent| i128::from(spent.micros)).sum() };
        let limit = i128::from(budget.limit.micros());
        let is_spent = used >= limit && !exempt;
        let blocks = budget.action == BudgetAction::Block;
        let reached =
            budget.thresholds.iter().filter(|t| used > 0 && 100 * used >= i128::from(**t) * limit && !exempt);
        Some(Level {
            action: if is_spent && blocks { Action::Block } else { Action::Allow },
            reason: if is_spent { DecisionReason::BudgetSpent } else { DecisionReason::WithinBudget },
            level: reached.copied().max().unwrap_or(0),
            allowance: (!exempt).then_some(CreditSum(limit)),
            extra: (!exempt && blocks).then_some(CreditSum::ZERO),
            budget: Some((budget.name.clone(), budget.period)),
            period_start: period.starts_at(),
            period_end: period.ends_at(),
            valid_until: valid_until.map_or(period.ends_at(), |at| at.min(period.ends_at())),
            forecast_alerted_on: None,
            purchases_requested: 0,
        })
    }
}

pub fn take(world: &mut World, model: &mut Model, step: Step) {
    let (now, scale) = (world.now, model.scale.max(1));
    match step {
        Step::Batch(batch) => {
            let spent = |(away, micros, user, model): (i64, i64, Option<usize>, Option<usize>)| Spent {
                at: now.plus_micros(away),
                micros: micros * scale,
                user: user.map(|place| VALUES[place]),
                model: model.map(|place| VALUES[place]),
            };
            world.spend(&batch.into_iter().map(spent).collect::<Vec<_>>());
        }
        Step::Budget(budget, from, lasts) => {
            let effective_at = now.plus_micros(from);
            let expires_at = lasts.map(|lasts| effective_at.plus_micros(lasts));
            let limit = Credits::from_micros(budget.limit.micros() * scale).unwrap();
            let budget = Budget { effective_at, expires_at, limit, ..*budget };
            model.records.push((world.offset + 1, budget.clone()));
            world.put(TermsRecord::Budget(budget));
        }
        Step::Policy(day, zone, from) => {
            let policy = OrgPolicy { org_id: ORG.into(), ..anchored(day, zone, now.plus_micros(from)) };
            world.put(TermsRecord::OrgPolicy(policy));
        }
        Step::Wait(micros) => world.wait(now.plus_micros(micros)),
        Step::Restart(down) => {
            world.news();
            world.now = now.plus_micros(down);
            world.restart();
            assert!(down > 0 || world.said.is_empty(), "a restart published {:?}", world.said);
        }
    }
}

fn check(world: &World, model: &Model) -> Result<(), TestCaseError> {
    // Forecasts are `World`'s to check.
    let lasting = |level: &Level| Level { forecast_alerted_on: None, ..level.clone() };
    let told = world.control.iter().filter(|(key, _)| key.contains('|'));
    let found: BTreeMap<&String, Level> = told.map(|(key, told)| (key, lasting(&told.level))).collect();
    let expected: BTreeMap<&String, Level> =
        model.levels.iter().map(|(key, level)| (key, level.clone())).collect();
    prop_assert_eq!(found, expected, "at {}", world.now);
    Ok(())
}

fn told_once(world: &World) -> Result<(), TestCaseError> {
    let mut alerts: Vec<_> = world.said.iter().flatten().map(|alert| &alert.alert_id).collect();
    let told = alerts.len();
    alerts.sort_unstable();
    alerts.dedup();
    prop_assert_eq!(alerts.len(), told, "an alert went out twice");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn budgets_decide_as_the_obvious_model_over_any_history(steps in prop::collection::vec(step(), 1..24)) {
        let (mut world, mut model) = (World::new("2026-11-20T10:20:00Z"), Model::default());
        for step in steps {
            take(&mut world, &mut model, step);
            model.step(&world);
            check(&world, &model)?;
        }
        told_once(&world)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn budgets_that_foretell_decide_as_the_model_and_once_a_day(steps in prop::collection::vec(step(), 1..24)) {
        let (mut world, mut model) = (World::new("2026-11-20T10:20:00Z"), Model { scale: 1_000_000, ..Model::default() });
        for step in steps {
            take(&mut world, &mut model, step);
            model.step(&world);
            check(&world, &model)?;
        }
        told_once(&world)?;
    }
}
