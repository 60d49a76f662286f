//! What unblocks a scope, to the micro-credit: exactly as much does not, one more does. And a replay judges as the decider
//! does.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::decide::{Judgement, judge};
use tallyman::domain::limits::decision::{Action, Cause, DecisionReason, Figures, Level, LimitDecision};
use tallyman::domain::limits::inputs::Inputs;
use tallyman::domain::limits::scope::{BudgetScope, Scope};
use tallyman::domain::limits::walk::Terms;
use tallyman::domain::terms::book::OrgTerms;
use tallyman::domain::terms::in_force::InForce;
use tallyman::domain::terms::in_force::in_force;
use tallyman::domain::terms::records::{CreditGrant, DefaultTerms, LimitMode, OrgPolicy, OrgStatus, TermsRecord};
use tallyman::domain::time::{Hour, Timestamp};
use tallyman::domain::usage::dimension::Dimension;
use tallyman::domain::what_if::explain::{Remedy, remedies, told};
use tallyman::domain::what_if::replay::{Replay, Step};

use crate::support::{at, history, policy};

const NOW: &str = "2026-11-20T12:00:00Z";

fn judged(policy: &OrgPolicy, used: CreditSum) -> Judgement {
    let policies = history([policy.clone()]);
    let default = DefaultTerms::Allow;
    let period = tallyman::domain::terms::period::period_at(Some(&policies), &default, at(NOW));
    let org = OrgTerms { policies, ..OrgTerms::default() };
    judge(&Inputs {
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

/// Hours from a month before the asked period on.
fn hour(number: i32) -> Hour {
    Hour(at("2026-10-01T00:00:00Z").hour().0 + number)
}

fn grants() -> impl Strategy<Value = Vec<CreditGrant>> {
    let one = (0..1200_i32, 1..600_i32, any::<bool>(), 0..600_i64, 0..3_i32);
    prop::collection::vec(one, 0..4).prop_map(|all| {
        let grant = |(number, (start, hours, ends, micros, priority)): (usize, (i32, i32, bool, i64, i32))| {
            let expires_at = ends.then(|| hour(start + hours).start());
            let (grant_id, effective_at) = (format!("g{number}"), hour(start).start().plus_micros(1_234));
            CreditGrant { grant_id, priority, expires_at, ..grant(micros, effective_at) }
        };
        all.into_iter().enumerate().map(grant).collect()
    })
}

fn grant(micros: i64, effective_at: Timestamp) -> CreditGrant {
    CreditGrant {
        org_id: "acme".into(),
        grant_id: "bought".into(),
        credits: Credits::from_micros(micros).unwrap(),
        kind: "pack".into(),
        price: None,
        currency: None,
        effective_at,
        expires_at: None,
        voided_at: None,
        priority: 1,
        updated_by: "test".into(),
    }
}

/// What hours of usage, in micro-credits, make of an org at an instant.
fn replayed<'a>(org: &'a OrgTerms, usage: &BTreeMap<i32, i64>, now: Timestamp) -> Replay<'a> {
    let terms = Terms { org, default: &DefaultTerms::Allow };
    let mut replay = Replay::new("acme", terms, terms.period(now).starts_at());
    let known = usage.iter().filter(|(number, _)| hour(**number) >= replay.first_hour());
    let steps: Vec<Step> =
        known.map(|(number, micros)| Step::whole_hour(hour(*number), CreditSum((*micros).into()))).collect();
    steps.into_iter().filter(|step| step.known_at <= now).for_each(|step| replay.add(step, &mut |_| {}));
    replay.pass(now, &mut |_| {});
    replay
}

fn ways_out(org: &OrgTerms, replay: &Replay<'_>, now: Timestamp) -> Vec<Remedy> {
    let judged = &replay.turn().judged;
    let bound_by = in_force(Some(&org.policies), &DefaultTerms::Allow, now);
    remedies(&judged.level, &judged.figures, bound_by, None, replay.greatest_blocked_base())
}

/// The org's terms once what is told was done at `now`, `more` beyond the amount told.
fn with(org: &OrgTerms, remedy: Remedy, more: i128, now: Timestamp) -> OrgTerms {
    let micros = |sum: CreditSum| Credits::from_micros(i64::try_from(sum.0 + more).unwrap()).unwrap();
    let (_, policy) = org.policies.in_force(now).unwrap();
    let policy = OrgPolicy { effective_at: now, ..policy.clone() };
    let mut org = org.clone();
    let record = match remedy {
        Remedy::RaiseBase(above) => TermsRecord::OrgPolicy(OrgPolicy { base_allocation: micros(above), ..policy }),
        Remedy::RaiseSoftExtra(above) => {
            let soft = OrgPolicy { soft_extra: micros(above), limit_mode: LimitMode::Soft, ..policy };
            TermsRecord::OrgPolicy(soft)
        }
        Remedy::Buy(above) => TermsRecord::CreditGrant(grant(micros(above).micros(), now)),
        Remedy::Activate => TermsRecord::OrgPolicy(OrgPolicy { status: OrgStatus::Active, ..policy }),
        other => panic!("{other:?}"),
    };
    org.insert(1_000, record);
    org
}

#[test]
fn a_base_that_is_raised_pays_what_a_grant_paid_that_has_ended_since() {
    let ended = CreditGrant {
        expires_at: Some(at("2026-11-10T00:00:00Z")),
        ..grant(50_000_000, at("2026-11-01T00:00:00Z"))
    };
    let mut org = OrgTerms { policies: history([policy()]), ..OrgTerms::default() };
    org.insert(20, TermsRecord::CreditGrant(ended));
    let usage = BTreeMap::from([(at("2026-11-05T00:00:00Z").hour().0 - hour(0).0, 150_000_000)]);
    let now = at("2026-11-11T00:00:00Z");
    let replay = replayed(&org, &usage, now);
    let expected = [
        Remedy::RaiseBase(CreditSum::whole(150)),
        Remedy::RaiseSoftExtra(CreditSum::ZERO),
        Remedy::Buy(CreditSum::ZERO),
    ];
    assert_eq!(ways_out(&org, &replay, now), expected);
}

#[test]
fn what_no_record_may_say_is_no_remedy() {
    let most = CreditSum::whole(1_000_000_000);
    let ways = |allowance: CreditSum, used: CreditSum, reason: DecisionReason| {
        let judged = judged(&policy(), CreditSum::whole(1_000));
        let level = Level { reason, allowance: Some(allowance), ..judged.level };
        let (policy, figures) = (policy(), Figures { used, ..judged.figures });
        remedies(&level, &figures, InForce::Policy(Some(3), &policy), None, None)
    };
    let spent = DecisionReason::AllowanceSpent;
    let one = CreditSum(1);
    let little_less = most - one;
    assert_eq!(
        ways(one, most, spent),
        [Remedy::RaiseSoftExtra(little_less), Remedy::Buy(little_less)],
        "the most that a record may say is more than that"
    );
    assert_eq!(ways(CreditSum::ZERO, most, spent), [Remedy::BuySeveral(most)]);
    assert_eq!(ways(one, little_less, DecisionReason::BudgetSpent), [Remedy::RaiseBudget(little_less)]);
    assert_eq!(ways(one, most, DecisionReason::BudgetSpent), [Remedy::EndBudget]);
}

proptest! {
    #[test]
    fn a_remedy_unblocks_from_one_micro_credit_above_its_amount_on(
        policy in policies(),
        grants in grants(),
        usage in prop::collection::btree_map(0..1400_i32, -300..900_i64, 0..12),
        now in 745..1400_i32,
    ) {
        let mut org = OrgTerms { policies: history([policy]), ..OrgTerms::default() };
        for (offset, grant) in (20..).zip(grants) {
            org.insert(offset, TermsRecord::CreditGrant(grant));
        }
        let now = hour(now).start().plus_micros(5_000);
        let before = replayed(&org, &usage, now);
        let remedies = ways_out(&org, &before, now);
        prop_assert_eq!(remedies.is_empty(), before.turn().judged.level.action == Action::Allow);
        for remedy in remedies {
            let after = |more: i128| {
                let level = replayed(&with(&org, remedy, more, now), &usage, now).turn().judged.level.clone();
                (level.action, level.reason)
            };
            if remedy == Remedy::Activate {
                prop_assert_ne!(after(0).1, DecisionReason::Suspended);
                continue;
            }
            prop_assert_eq!(after(0).0, Action::Block, "{:?}", remedy);
            prop_assert_eq!(after(1).0, Action::Allow, "{:?}", remedy);
        }
    }

    #[test]
    fn a_replay_of_hours_judges_at_its_end_as_the_decider_does(
        hours in prop::collection::btree_map(0..2000_i32, 1..40_000_000_i64, 0..40),
        changes in prop::collection::vec((0..2000_i64, 0..500_i64), 0..4),
        end in 0..2000_i32,
    ) {
        let first = at("2026-09-01T00:00:00Z").hour();
        let hour = |number: i32| Hour(first.0 + number);
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
        let expected = judge(&Inputs {
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
