//! The table against an obvious model over random histories: a map of keys, read from end to end for every question.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyman::domain::limits::decision::Action;
use tallyman::domain::limits::scope::Scope;
use tallyman::domain::usage::dimension::Dimension;
use tallyman::gateway::table::{Request, Rules};

use crate::support::{Bench, decision, scope};

const ORGS: [&str; 2] = ["acme", "b:1"];
const DIMENSIONS: [Dimension; 2] = [Dimension::User, Dimension::Product];
const VALUES: [&str; 3] = ["x", "y|z", "\u{e9}"];
const BUDGETS: [&str; 3] = ["b1", "b2", "b3"];

/// Something that happens to a scope: a decision, or a tombstone.
#[derive(Clone, Debug)]
struct Step {
    scope: Scope,
    /// Action, remaining, version.
    decision: Option<(&'static str, Option<i64>, i64)>,
}

fn scopes() -> impl Strategy<Value = Scope> {
    let org = prop::sample::select(ORGS.to_vec());
    let dimension = prop::option::of(prop::sample::select(DIMENSIONS.to_vec()));
    let value = prop::option::of(prop::sample::select(VALUES.to_vec()));
    let budget = prop::option::weighted(0.8, prop::sample::select(BUDGETS.to_vec()));
    (org, dimension, value, budget).prop_map(|(org, dimension, value, budget)| match budget {
        None => Scope::org(org),
        Some(budget) => scope(org, dimension, value.filter(|_| dimension.is_some()), budget),
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let action = prop::sample::select(vec!["ALLOW", "ALLOW", "BLOCK", "THROTTLE"]);
    let decided = (action, prop::option::of(0..4_i64), 0..6_i64);
    let step = (scopes(), prop::option::weighted(0.85, decided));
    prop::collection::vec(step.prop_map(|(scope, decision)| Step { scope, decision }), 0..30)
}

type Model = BTreeMap<String, (Scope, &'static str, Option<i64>, i64)>;

fn apply(model: &mut Model, step: &Step) {
    let key = step.scope.key();
    let Some((action, remaining, version)) = step.decision else {
        model.remove(&key);
        return;
    };
    if model.get(&key).is_none_or(|held| held.3 <= version) {
        model.insert(key, (step.scope.clone(), action, remaining, version));
    }
}

/// The action and the key that is told.
fn expected(model: &Model, org: &str, values: &[Option<&str>; 2], unknown: Action) -> (Action, Option<String>) {
    let of_org = || model.values().filter(|held| held.0.org_id == org);
    let budget_of = |scope: &Scope| scope.budget.as_ref().map(|budget| budget.budget_id.clone());
    let matching = |held: &Scope| {
        let Some(budget) = &held.budget else { return true };
        let Some(dimension) = budget.dimension else { return true };
        let place = DIMENSIONS.iter().position(|known| *known == dimension).unwrap();
        let Some(asked) = values[place] else { return false };
        let same = |other: &Scope, value: Option<&str>| {
            other
                .budget
                .as_ref()
                .is_some_and(|other| other.dimension == Some(dimension) && other.value.as_deref() == value)
        };
        let is_own = |other: &Scope| same(other, Some(asked));
        if budget.value.is_some() {
            return is_own(held);
        }
        // A `*` budget: unless the value has its own under it, or one in force that is for this value exactly.
        let stars: Vec<_> =
            of_org().filter(|other| same(&other.0, None)).map(|other| budget_of(&other.0)).collect();
        let own: Vec<_> = of_org().filter(|other| is_own(&other.0)).map(|other| budget_of(&other.0)).collect();
        let limited = of_org().filter(|other| is_own(&other.0) && other.2.is_some());
        let mut limited = limited.map(|other| budget_of(&other.0));
        !own.contains(&budget_of(held)) && limited.all(|own| stars.contains(&own))
    };
    let mut best: Option<((bool, i64, usize, u8, String), Option<String>)> = None;
    let mut offer = |action: Action, remaining: Option<i64>, scope: Option<&Scope>| {
        let budget = scope.and_then(|scope| scope.budget.as_ref());
        let dimension = budget.and_then(|budget| budget.dimension);
        let order = dimension
            .map_or(12, |dimension| Dimension::TOLD_FIRST.iter().position(|all| *all == dimension).unwrap());
        let kind = match budget {
            None => 0,
            Some(budget) => u8::from(budget.value.is_none()),
        };
        let budget = budget.map_or(String::new(), |budget| budget.budget_id.clone());
        let rank = (action == Action::Allow, remaining.unwrap_or(i64::MAX), order, kind, budget);
        if best.as_ref().is_none_or(|(best, _)| rank < *best) {
            best = Some((rank, scope.map(Scope::key)));
        }
    };
    for held in of_org().filter(|held| matching(&held.0)) {
        offer(Action::from_name(held.1).unwrap_or(unknown), held.2, Some(&held.0));
    }
    if !model.contains_key(&Scope::org(org).key()) {
        offer(unknown, None, None);
    }
    let ((allowed, ..), key) = best.unwrap();
    (if allowed { Action::Allow } else { Action::Block }, key)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]
    #[test]
    fn the_table_says_what_the_model_says(steps in steps(), blocks in any::<bool>()) {
        let unknown = if blocks { Action::Block } else { Action::Allow };
        let mut bench = Bench::new(Rules { unknown, ..Rules::default() });
        let mut model = Model::new();
        for step in &steps {
            apply(&mut model, step);
            match step.decision {
                Some((action, remaining, version)) => {
                    bench.put(&step.scope, &decision(&step.scope, action, remaining, version));
                }
                None => drop(bench.remove(&step.scope)),
            }
        }
        prop_assert_eq!(bench.table.len(), model.len());
        for org in ORGS {
            for user in [None, Some(VALUES[0]), Some(VALUES[1])] {
                for product in [None, Some(VALUES[1]), Some(VALUES[2])] {
                    let mut request = Request::of(org);
                    for (dimension, value) in DIMENSIONS.into_iter().zip([user, product]) {
                        request = value.map_or(request, |value| request.with(dimension, value));
                    }
                    let verdict = bench.table.check(&request);
                    let told = (verdict.action(), verdict.scope().map(str::to_owned));
                    prop_assert_eq!(told, expected(&model, org, &[user, product], unknown), "{:?}", request);
                }
            }
        }
    }
}
