//! Decisions against the sentences of CONTRACT.md, each as a row of a table, and their algebra as properties.

use proptest::prelude::*;
use tallyman::domain::credits::{CreditSum, Credits};
use tallyman::domain::limits::decide::{Judgement, judge, next_version};
use tallyman::domain::limits::decision::{Action, DecisionReason, Level};
use tallyman::domain::limits::inputs::Inputs;
use tallyman::domain::terms::book::{OrgTerms, PolicyHistory};
use tallyman::domain::terms::period::period_at;
use tallyman::domain::terms::records::{DefaultTerms, LimitMode, OrgPolicy, OrgStatus};
use tallyman::domain::time::Timestamp;

use crate::support::{anchored, at, credits, history, policy};

const NOW: &str = "2026-11-20T12:00:00Z";

fn judged(policies: Option<&PolicyHistory>, default: &DefaultTerms, used: CreditSum, now: Timestamp) -> Judgement {
    let period = period_at(policies, default, now);
    let terms = policies.map(|policies| OrgTerms { policies: policies.clone(), ..OrgTerms::default() });
    let facts = Inputs {
        org: "acme",
        terms: terms.as_ref(),
        granted: None,
        default,
        period,
        used,
        micros_per_second: 7,
        previous: None,
        forecast_cleared: false,
        ahead: None,
        now,
    };
    judge(&facts)
}

fn of_policy(policy: OrgPolicy, used: &str) -> Judgement {
    judged(Some(&history([policy])), &DefaultTerms::Allow, credits(used).into(), at(NOW))
}

fn outcome(policy: &OrgPolicy, used: &str) -> (Action, DecisionReason, i32) {
    let level = of_policy(policy.clone(), used).level;
    (level.action, level.reason, level.level)
}

fn soft(extra: &str) -> OrgPolicy {
    OrgPolicy { limit_mode: LimitMode::Soft, soft_extra: credits(extra), ..policy() }
}

#[test]
fn hard_blocks_when_used_is_at_or_over_the_allowance() {
    use Action::{Allow, Block};
    use DecisionReason::{AllowanceSpent, WithinAllowance};
    for (used, expected) in [
        ("-5", (Allow, WithinAllowance, 0)),
        ("0", (Allow, WithinAllowance, 0)),
        ("74.999999", (Allow, WithinAllowance, 0)),
        ("75", (Allow, WithinAllowance, 75)),
        ("99.999999", (Allow, WithinAllowance, 90)),
        ("100", (Block, AllowanceSpent, 100)),
        ("250", (Block, AllowanceSpent, 100)),
    ] {
        assert_eq!(outcome(&policy(), used), expected, "used {used}");
    }
    let nothing = OrgPolicy { base_allocation: Credits::ZERO, ..policy() };
    assert_eq!(outcome(&nothing, "0"), (Block, AllowanceSpent, 0), "zero is no share");
    assert_eq!(outcome(&nothing, "0.000001"), (Block, AllowanceSpent, 100));
    // What belongs to SOFT means nothing in HARD.
    let hard = OrgPolicy { limit_mode: LimitMode::Hard, unlimited_overage: true, ..soft("50") };
    assert_eq!(outcome(&hard, "100"), (Block, AllowanceSpent, 100));
    assert_eq!(of_policy(hard, "100").level.extra, Some(CreditSum::ZERO));
}

#[test]
fn soft_allows_in_overage_until_used_is_at_or_over_allowance_and_extra() {
    use Action::{Allow, Block};
    use DecisionReason::{InOverage, OverageSpent, WithinAllowance};
    for (extra, used, expected) in [
        ("50", "99.999999", (Allow, WithinAllowance, 90)),
        ("50", "100", (Allow, InOverage, 100)),
        ("50", "149.999999", (Allow, InOverage, 100)),
        ("50", "150", (Block, OverageSpent, 100)),
        ("0", "99.999999", (Allow, WithinAllowance, 90)),
        ("0", "100", (Block, OverageSpent, 100)),
    ] {
        assert_eq!(outcome(&soft(extra), used), expected, "extra {extra}, used {used}");
    }
    let endless = OrgPolicy { unlimited_overage: true, ..soft("50") };
    assert_eq!(outcome(&endless, "1000000"), (Allow, InOverage, 100));
    assert_eq!(of_policy(endless, "1000000").level.extra, None);
}

#[test]
fn suspended_blocks_whatever_is_left() {
    for policy in [policy(), soft("50"), OrgPolicy { unlimited: true, ..policy() }] {
        let suspended = OrgPolicy { status: OrgStatus::Suspended, ..policy };
        assert_eq!(outcome(&suspended, "0"), (Action::Block, DecisionReason::Suspended, 0));
    }
    let suspended = OrgPolicy { status: OrgStatus::Suspended, ..policy() };
    let judgement = of_policy(suspended, "80");
    assert_eq!((judgement.level.level, judgement.figures.remaining), (75, Some(CreditSum::whole(20))));
}

#[test]
fn unlimited_has_no_allowance_no_remaining_and_level_0() {
    let judgement = of_policy(OrgPolicy { unlimited: true, ..policy() }, "1000000");
    let level = &judgement.level;
    assert_eq!((level.action, level.reason), (Action::Allow, DecisionReason::Unlimited));
    assert_eq!((level.level, level.allowance, judgement.figures.remaining), (0, None, None));
    assert_eq!(judgement.figures.used, CreditSum::whole(1_000_000));
}

#[test]
fn an_org_without_policy_gets_the_default() {
    let used = CreditSum::whole(100);
    let reason = DecisionReason::NoPolicy;
    let allowed = judged(None, &DefaultTerms::Allow, used, at(NOW));
    assert_eq!((allowed.level.action, allowed.level.reason, allowed.level.level), (Action::Allow, reason, 0));
    assert_eq!((allowed.level.allowance, allowed.figures.remaining, allowed.policy_offset), (None, None, None));

    let blocked = judged(None, &DefaultTerms::Block, used, at(NOW));
    assert_eq!((blocked.level.action, blocked.level.reason, blocked.level.level), (Action::Block, reason, 0));
    assert_eq!((blocked.level.allowance, blocked.policy_offset), (Some(CreditSum::ZERO), None));

    let default = DefaultTerms::Policy(Box::new(policy()));
    let held = judged(None, &default, used, at(NOW));
    assert_eq!((held.level.action, held.level.reason), (Action::Block, DecisionReason::AllowanceSpent));
    assert_eq!((held.level.level, held.policy_offset), (100, None));
    // A policy that is yet to come is none yet.
    let later = history([anchored(1, "UTC", at("2026-11-25T00:00:00Z"))]);
    let waiting = judged(Some(&later), &DefaultTerms::Block, used, at(NOW));
    assert_eq!(waiting.level.reason, reason);
    assert_eq!(waiting.level.valid_until, at("2026-11-25T00:00:00Z"));
}

#[test]
fn allocation_and_mode_apply_in_full_to_the_running_period_at_effective_at() {
    let raised =
        OrgPolicy { base_allocation: credits("300"), effective_at: at("2026-11-20T12:00:00Z"), ..soft("50") };
    let policies = history([policy(), raised]);
    let judged = |now| judged(Some(&policies), &DefaultTerms::Allow, CreditSum::whole(120), at(now));
    let before = judged("2026-11-20T11:59:59.999999Z");
    assert_eq!((before.level.action, before.policy_offset), (Action::Block, Some(10)));
    let after = judged("2026-11-20T12:00:00Z");
    assert_eq!((after.level.reason, after.policy_offset), (DecisionReason::WithinAllowance, Some(11)));
    assert_eq!(
        (after.level.allowance, after.level.extra),
        (Some(CreditSum::whole(300)), Some(CreditSum::whole(50)))
    );
    assert_eq!(after.figures.remaining, Some(CreditSum::whole(180)));
}

#[test]
fn valid_until_is_the_next_instant_at_which_time_alone_changes_the_decision() {
    let next = OrgPolicy { effective_at: at("2026-11-25T08:30:00Z"), ..policy() };
    let later = OrgPolicy { effective_at: at("2027-02-01T00:00:00Z"), ..policy() };
    let policies = history([policy(), next, later]);
    for (now, valid_until) in [
        (NOW, "2026-11-25T08:30:00Z"),
        ("2026-11-25T08:29:59.999999Z", "2026-11-25T08:30:00Z"),
        ("2026-11-25T08:30:00Z", "2026-12-01T00:00:00Z"),
        ("2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
    ] {
        let judgement = judged(Some(&policies), &DefaultTerms::Allow, CreditSum::ZERO, at(now));
        assert_eq!(judgement.level.valid_until, at(valid_until), "now {now}");
    }
}

#[test]
fn remaining_is_never_below_0_and_grows_by_corrections() {
    let remaining = |used| of_policy(policy(), used).figures.remaining;
    assert_eq!(remaining("30"), Some(CreditSum::whole(70)));
    assert_eq!(remaining("100.5"), Some(CreditSum::ZERO));
    assert_eq!(remaining("-5"), Some(CreditSum::whole(105)));
    assert_eq!(of_policy(policy(), "30").figures.micros_per_second, 7);
}

#[test]
fn what_was_sent_in_a_period_is_carried_on_within_it_and_ends_with_it() {
    let policies = history([policy()]);
    let default = DefaultTerms::Allow;
    let sent = Level {
        forecast_alerted_on: Some(20_000),
        purchases_requested: 3,
        ..judged(Some(&policies), &default, CreditSum::ZERO, at(NOW)).level
    };
    for (now, expected) in [("2026-11-29T00:00:00Z", (Some(20_000), 3)), ("2026-12-01T00:00:00Z", (None, 0))] {
        let terms = OrgTerms { policies: policies.clone(), ..OrgTerms::default() };
        let facts = Inputs {
            org: "acme",
            terms: Some(&terms),
            granted: None,
            default: &default,
            period: period_at(Some(&policies), &default, at(now)),
            used: CreditSum::ZERO,
            micros_per_second: 0,
            previous: Some(&sent),
            forecast_cleared: true,
            ahead: None,
            now: at(now),
        };
        let level = judge(&facts).level;
        assert_eq!((level.forecast_alerted_on, level.purchases_requested), expected, "{now}");
    }
}

#[test]
fn a_decision_is_published_when_its_level_changes_and_only_then() {
    let first = of_policy(policy(), "10").level;
    // More usage without a threshold, another rate or a later now is information, not another level.
    assert_eq!(first, of_policy(policy(), "20").level);
    assert_ne!(first, of_policy(policy(), "75").level);
    assert_ne!(first, of_policy(soft("50"), "10").level);
}

#[test]
fn a_version_is_greater_than_the_one_before_and_at_least_decided_at_in_microseconds() {
    let now = Timestamp::from_micros(1_000);
    assert_eq!(next_version(None, now), 1_000);
    assert_eq!(next_version(Some(10), now), 1_000);
    assert_eq!(next_version(Some(1_000), now), 1_001);
    assert_eq!(next_version(Some(5_000), now), 5_001);
}

prop_compose! {
    fn any_policy()(
        base in 0..2_000_i64,
        extra in 0..1_000_i64,
        soft in any::<bool>(),
        endless in any::<bool>(),
        unlimited in prop::bool::weighted(0.1),
        suspended in prop::bool::weighted(0.1),
        thresholds in prop::collection::btree_set(1..300_i32, 0..5),
        anchor_day in 1..=28_i32,
        zone in prop::sample::select(&["UTC", "America/New_York", "Asia/Kathmandu"][..]),
        hour in 0..40_000_i64,
    ) -> OrgPolicy {
        let effective_at = Timestamp::from_micros(at("2023-01-01T00:00:00Z").micros() + hour * 3_599_999_999);
        OrgPolicy {
            base_allocation: Credits::from_micros(base).unwrap(),
            soft_extra: Credits::from_micros(extra).unwrap(),
            limit_mode: if soft { LimitMode::Soft } else { LimitMode::Hard },
            unlimited_overage: endless,
            unlimited,
            status: if suspended { OrgStatus::Suspended } else { OrgStatus::Active },
            thresholds: thresholds.into_iter().collect(),
            ..anchored(anchor_day, zone, effective_at)
        }
    }
}

fn any_default() -> impl Strategy<Value = DefaultTerms> {
    prop_oneof![
        Just(DefaultTerms::Allow),
        Just(DefaultTerms::Block),
        any_policy().prop_map(|policy| DefaultTerms::Policy(Box::new(policy))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_limit_is_passed_whatever_the_terms(
        list in prop::collection::vec(any_policy(), 0..5),
        default in any_default(),
        used in -100..4_000_i128,
        more in 0..500_i128,
        hour in 0..45_000_i64,
    ) {
        let policies = history(list);
        let now = Timestamp::from_micros(at("2023-01-01T00:00:00Z").micros() + hour * 3_600_000_001);
        let before = judged(Some(&policies), &default, CreditSum(used), now);
        let after = judged(Some(&policies), &default, CreditSum(used + more), now);

        prop_assert!(before.level.valid_until > now);
        prop_assert!(before.level.valid_until <= before.level.period_end);
        prop_assert!(before.level.period_start <= now);
        // More usage never unblocks, never lowers a level, never leaves more.
        prop_assert!(before.level.action == Action::Allow || after.level.action == Action::Block);
        prop_assert!(before.level.level <= after.level.level);
        prop_assert!(before.figures.remaining >= after.figures.remaining);
        // The same facts give the same decision until `valid_until`, whatever the instant within. (The forecast looks
        // at the time that is left; without a level that was sent it alerts nobody.)
        let last = before.level.valid_until.plus_micros(-1);
        let then = judged(Some(&policies), &default, CreditSum(used), last);
        prop_assert_eq!((&then.level, then.figures), (&before.level, before.figures));

        let Judgement { level, .. } = before;
        match (level.allowance, level.extra) {
            (Some(allowance), Some(extra)) if used >= (allowance + extra).0 => {
                prop_assert_eq!(level.action, Action::Block);
            }
            (Some(allowance), _) if used >= allowance.0 => prop_assert!(matches!(
                level.reason,
                DecisionReason::InOverage | DecisionReason::Suspended | DecisionReason::NoPolicy
            )),
            _ => prop_assert_eq!(level.action == Action::Block, matches!(
                (level.reason, level.allowance),
                (DecisionReason::Suspended, _) | (DecisionReason::NoPolicy, Some(_))
            )),
        }
    }
}
