//! What unblocks a scope, to the micro-credit: exactly as much does not, one more does. And a replay judges as the decider
//! does.

use proptest::prelude::*;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::decide::{Facts, Judgement, in_force, judge};
use tallyman::domain::decision::{Action, Cause, DecisionReason, LimitDecision};
use tallyman::domain::dimension::Dimension;
use tallyman::domain::explain::{Remedy, remedies, told};
use tallyman::domain::replay::{Replay, Step};
use tallyman::domain::scope::{BudgetScope, Scope};
use tallyman::domain::terms::{DefaultTerms, LimitMode, OrgPolicy, OrgStatus};
use tallyman::domain::terms_book::OrgTerms;
use tallyman::domain::walk::Terms;

use crate::support::{at, history, policy};

const NOW: &str = "2026-11-20T12:00:00Z";

fn judged(policy: &OrgPolicy, used: CreditSum) -> Judgement {
    let policies = history([policy.clone()]);
    let default = DefaultTerms::Allow;
    let period = tallyman::domain::period::period_at(Some(&policies), &default, at(NOW));
    let org = OrgTerms { policies, ..OrgTerms::default() };
    judge(&Facts {
        org: "acme",
        terms: Some(&org),
        granted: None,
        default: &default,
        period,
        used,
        micros_per_second: 0,
        forecast_cleared: false,
        ahead: None,
        previous: None,
        now: at(NOW),
    })
}

fn micros(sum: CreditSum) -> Credits {
    Credits::from_micros(i64::try_from(sum.0).unwrap()).unwrap()
}

fn policies() -> impl Strategy<Value = OrgPolicy> {
    let amounts = (0..1000_i64, 0..1000_i64, any::<bool>(), 0..10);
    amounts.prop_map(|(base, extra, soft, suspended)| OrgPolicy {
        base_allocation: Credits::from_micros(base).unwrap(),
        soft_extra: Credits::from_micros(extra).unwrap(),
        limit_mode: if soft { LimitMode::Soft } else { LimitMode::Hard },
        status: if suspended == 0 { OrgStatus::Suspended } else { OrgStatus::Active },
        ..policy()
    })
}

proptest! {
    #[test]
    fn a_remedy_unblocks_from_one_micro_credit_above_its_amount_on(policy in policies(), used in 0..4000_i128) {
        let used = CreditSum(used);
        let before = judged(&policy, used);
        let policies = history([policy.clone()]);
        let terms = in_force(Some(&policies), &DefaultTerms::Allow, at(NOW));
        let remedies = remedies(&before.level, &before.figures, terms, None);
        prop_assert_eq!(remedies.is_empty(), before.level.action == Action::Allow);
        let one = CreditSum(1);
        for remedy in remedies {
            let with = |more: CreditSum| match remedy {
                Remedy::RaiseBase(above) => OrgPolicy { base_allocation: micros(above + more), ..policy.clone() },
                Remedy::RaiseSoftExtra(above) => {
                    OrgPolicy { soft_extra: micros(above + more), limit_mode: LimitMode::Soft, ..policy.clone() }
                }
                // What a grant adds counts like base as soon as it starts.
                Remedy::Buy(above) => OrgPolicy {
                    base_allocation: micros(CreditSum::from(policy.base_allocation) + above + more),
                    ..policy.clone()
                },
                Remedy::Activate => OrgPolicy { status: OrgStatus::Active, ..policy.clone() },
                other => panic!("{other:?}"),
            };
            if remedy == Remedy::Activate {
                prop_assert_ne!(judged(&with(one), used).level.reason, DecisionReason::Suspended);
                continue;
            }
            prop_assert_eq!(judged(&with(CreditSum::ZERO), used).level.action, Action::Block, "{:?}", remedy);
            prop_assert_eq!(judged(&with(one), used).level.action, Action::Allow, "{:?}", remedy);
        }
    }

    #[test]
    fn a_replay_of_hours_judges_at_its_end_as_the_decider_does(
        hours in prop::collection::btree_map(0..2000_i32, 1..40_000_000_i64, 0..40),
        changes in prop::collection::vec((0..2000_i64, 0..500_i64), 0..4),
        end in 0..2000_i32,
    ) {
        let first = at("2026-09-01T00:00:00Z").hour();
        let hour = |number: i32| tallyman::domain::time::Hour(first.0 + number);
        let mut all = vec![policy()];
        all.extend(changes.iter().map(|(when, base)| OrgPolicy {
            base_allocation: Credits::from_micros(base * 1_000_000).unwrap(),
            effective_at: first.start().plus_micros(when * 3_600_000_000 + 1_234),
            ..policy()
        }));
        let org = OrgTerms { policies: history(all), ..OrgTerms::default() };
        let default = DefaultTerms::Allow;
        let terms = Terms { org: &org, default: &default };
        let mut replay = Replay::new("acme", terms, first.start());
        let mut turns = 0;
        for (&number, &micros) in hours.iter().filter(|(number, _)| **number < end) {
            replay.add(Step::whole_hour(hour(number), CreditSum(i128::from(micros))), &mut |_| turns += 1);
        }
        let now = hour(end).start();
        replay.pass(now, &mut |_| turns += 1);
        let period = terms.period(now);
        let inside = hours.iter().filter(|(number, _)| **number < end && period.contains(hour(**number).start()));
        let used = CreditSum(inside.map(|(_, micros)| i128::from(*micros)).sum());
        let expected = judge(&Facts {
            org: "acme",
            terms: Some(&org),
            granted: None, default: &default, period, used, micros_per_second: 0,
        forecast_cleared: false, previous: None, now,
        ahead: None,
        });
        prop_assert_eq!(&replay.turn().judged, &expected);
        prop_assert!(replay.since().0 <= now && replay.turn().at <= now);
        prop_assert!(turns > 0 || expected.level.level == 0);
    }
}

#[test]
fn the_blocked_scope_is_told_first_then_the_one_with_least_remaining() {
    let decision = |budget: Option<(Dimension, Option<&str>, &str)>, action, left: i128| {
        let judged = judged(&policy(), CreditSum::ZERO);
        let budget = budget.map(|(dimension, value, id)| BudgetScope {
            dimension: Some(dimension),
            value: value.map(str::to_owned),
            budget_id: id.to_owned(),
        });
        let mut made = LimitDecision {
            scope: Scope { org_id: "acme".into(), budget },
            level: judged.level,
            figures: judged.figures,
            version: 1,
            decided_at: at(NOW),
            cause: Cause::default(),
        };
        made.level.action = action;
        made.figures.remaining = Some(CreditSum(left));
        made
    };
    let org = decision(None, Action::Allow, 5);
    let each = decision(Some((Dimension::User, None, "b")), Action::Allow, 3);
    let ann = decision(Some((Dimension::User, Some("ann"), "b")), Action::Block, 0);
    let model = decision(Some((Dimension::Model, Some("m"), "c")), Action::Block, 0);
    let all = [org.clone(), each.clone(), ann.clone(), model];
    assert_eq!(told(&all, None), Some(&org));
    assert_eq!(told(&all, Some((Dimension::User, "ann"))), Some(&ann));
    assert_eq!(told(&all, Some((Dimension::User, "bob"))), Some(&each), "the rest of a `*` budget");
    assert_eq!(told(&all, Some((Dimension::Product, "chat"))), Some(&org));
    assert_eq!(told(&[], None), None);
    // A budget for exactly zoe takes her out of the rest of all others.
    let zoe = decision(Some((Dimension::User, Some("zoe"), "own")), Action::Allow, 4);
    let all = [org.clone(), each.clone(), zoe.clone()];
    assert_eq!(told(&all, Some((Dimension::User, "zoe"))), Some(&zoe));
    // Once that budget is over, its scope waits for its tombstone and hides nothing; while it is not, `b` exempts her.
    let no_allowance = |mut decision: LimitDecision| {
        decision.level.allowance = None;
        decision.figures.remaining = None;
        decision
    };
    let blocked = decision(Some((Dimension::User, None, "b")), Action::Block, 0);
    let all = [org.clone(), blocked.clone(), no_allowance(zoe.clone())];
    assert_eq!(told(&all, Some((Dimension::User, "zoe"))), Some(&blocked));
    let exempt = no_allowance(decision(Some((Dimension::User, Some("zoe"), "b")), Action::Allow, 0));
    let all = [org, blocked, exempt, zoe.clone()];
    assert_eq!(told(&all, Some((Dimension::User, "zoe"))), Some(&zoe));
}
