//! Budgets against the sentences of CONTRACT.md, each test named by its sentence, and against what users of other systems
//! complain about.

use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::alert::AlertKind;
use tallyman::domain::limits::decision::{Action, DecisionReason, LimitDecision};
use tallyman::domain::terms::period::cycle_at;
use tallyman::domain::terms::records::{Budget, BudgetAction, BudgetPeriod, DefaultTerms, OrgPolicy, TermsRecord};
use tallyman::domain::time::Timestamp;

use crate::budget_world::{ORG, Spent, World, budget};
use crate::support::{anchored, at, credits, history};

const NOW: &str = "2026-11-20T12:00:00Z";

fn with(budgets: impl IntoIterator<Item = Budget>) -> World {
    let mut world = World::new(NOW);
    budgets.into_iter().for_each(|budget| world.put(TermsRecord::Budget(budget)));
    world.news();
    world
}

fn told(world: &World, key: &str) -> (Action, DecisionReason, i32) {
    let decision = decision(world, key);
    (decision.level.action, decision.level.reason, decision.level.level)
}

fn decision<'a>(world: &'a World, key: &str) -> &'a LimitDecision {
    world.decision(key).unwrap_or_else(|| panic!("{key} is not told of"))
}

fn action(world: &World, key: &str) -> Action {
    told(world, key).0
}

/// Alerts of what was said since the last time: scope, kind, old and new level.
fn alerts(world: &mut World) -> Vec<(String, AlertKind, i32, i32)> {
    world
        .news()
        .into_iter()
        .flatten()
        .map(|alert| (alert.scope.key(), alert.kind, alert.previous_level, alert.level))
        .collect()
}

#[test]
fn a_block_budget_blocks_when_used_is_at_or_over_limit_and_a_warn_budget_never() {
    use Action::{Allow, Block};
    use DecisionReason::{BudgetSpent, WithinBudget};
    let warn = Budget { action: BudgetAction::Warn, ..budget("warn", None, "10") };
    let mut world = with([budget("block", None, "10"), warn]);
    for (spend, blocking, warning) in [
        ("7.499999", (Allow, WithinBudget, 0), (Allow, WithinBudget, 0)),
        ("0.000001", (Allow, WithinBudget, 75), (Allow, WithinBudget, 75)),
        ("2.499999", (Allow, WithinBudget, 90), (Allow, WithinBudget, 90)),
        ("0.000001", (Block, BudgetSpent, 100), (Allow, BudgetSpent, 100)),
        ("30", (Block, BudgetSpent, 100), (Allow, BudgetSpent, 100)),
    ] {
        world.user_spends("ann", spend);
        assert_eq!(told(&world, "acme|||block"), blocking, "after {spend}");
        assert_eq!(told(&world, "acme|||warn"), warning, "after {spend}");
    }
    let (block, warn) = (&decision(&world, "acme|||block"), &decision(&world, "acme|||warn"));
    assert_eq!((block.level.allowance, block.level.extra), (Some(CreditSum::whole(10)), Some(CreditSum::ZERO)));
    assert_eq!((warn.level.allowance, warn.level.extra), (Some(CreditSum::whole(10)), None));
    assert_eq!(block.level.budget, Some(("the block".to_owned(), BudgetPeriod::Day)));
    assert_eq!(block.figures.remaining, Some(CreditSum::ZERO));
    assert_eq!(block.cause.policy_offset, Some(1));
    assert_eq!(block.cause.record, Some((0, 0)), "the record that spent the last of it");
}

#[test]
fn a_limit_of_0_blocks_before_anything_is_used() {
    let mut world = with([budget("none", Some("ann"), "0"), budget("each", Some("*"), "0")]);
    assert_eq!(told(&world, "acme|user|ann|none"), (Action::Block, DecisionReason::BudgetSpent, 0));
    assert_eq!(action(&world, "acme|user||each"), Action::Block);
    world.user_spends("ann", "0.000001");
    let reached = (Action::Block, DecisionReason::BudgetSpent, 100);
    assert_eq!(told(&world, "acme|user|ann|none"), reached, "the first use reaches each threshold of nothing");
}

#[test]
fn a_star_budget_binds_each_value_separately() {
    let mut world = with([budget("each", Some("*"), "10")]);
    world.user_spends("ann", "10");
    world.user_spends("bob", "9");
    assert_eq!(action(&world, "acme|user|ann|each"), Action::Block);
    assert_eq!(told(&world, "acme|user|bob|each"), (Action::Allow, DecisionReason::WithinBudget, 90));
    let nobody = Spent { at: world.now, micros: 99_000_000, user: None, model: Some("m") };
    world.spend(&[nobody]);
    assert_eq!(world.control.len(), 4, "null is no value: {:?}", world.control.keys());
}

#[test]
fn a_star_budget_also_has_one_with_empty_value_that_holds_for_values_without_their_own() {
    let mut world = with([budget("each", Some("*"), "10")]);
    world.user_spends("ann", "25");
    let rest = decision(&world, "acme|user||each");
    assert_eq!((rest.level.action, rest.level.allowance), (Action::Allow, Some(CreditSum::whole(10))));
    assert_eq!((rest.figures.used, rest.figures.remaining), (CreditSum::ZERO, Some(CreditSum::whole(10))));
}

#[test]
fn an_exact_value_overrides() {
    let mut world = with([budget("each", Some("*"), "10"), budget("boss", Some("ann"), "50")]);
    world.user_spends("ann", "40");
    assert_eq!(action(&world, "acme|user|ann|boss"), Action::Allow);
    assert!(world.decision("acme|user|ann|each").is_none(), "it binds ann no more");
    // Its own goes: the budget of all others binds ann at once, with all that was used.
    let expires_at = world.now.plus_micros(3_600_000_000);
    world.put(TermsRecord::Budget(Budget { expires_at: Some(expires_at), ..budget("boss", Some("ann"), "50") }));
    world.wait(expires_at);
    assert_eq!(action(&world, "acme|user|ann|boss"), Action::Allow);
    assert_eq!(told(&world, "acme|user|ann|each"), (Action::Block, DecisionReason::BudgetSpent, 100));
    // One of another period and action overrides it too.
    let (period, action_of_it) = (BudgetPeriod::Month, BudgetAction::Warn);
    world.put(TermsRecord::Budget(Budget { period, action: action_of_it, ..budget("boss", Some("ann"), "50") }));
    assert_eq!(decision(&world, "acme|user|ann|each").level.allowance, None);
}

#[test]
fn who_has_a_budget_of_its_own_may_use_what_is_closed_to_all_others() {
    let mut world = with([budget("each", Some("*"), "0"), budget("boss", Some("ann"), "50")]);
    assert_eq!(action(&world, "acme|user||each"), Action::Block);
    assert_eq!(action(&world, "acme|user|ann|boss"), Action::Allow);
    // Whoever looks for ann's decision of `each`, and else takes the empty one, is told that it does not hold for ann.
    let own = decision(&world, "acme|user|ann|each");
    assert_eq!((own.level.action, own.level.allowance), (Action::Allow, None));
    let expires_at = Some(world.now);
    world.put(TermsRecord::Budget(Budget { expires_at, ..budget("boss", Some("ann"), "50") }));
    assert_eq!(action(&world, "acme|user|ann|each"), Action::Block);
}

#[test]
fn day_is_local_week_starts_on_iso_monday_and_month_is_the_orgs_period() {
    use BudgetPeriod::{Day, Month, Week};
    for (kind, zone, instant, start, end) in [
        (Day, "UTC", "2026-11-20T23:59:59Z", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"),
        (Day, "America/New_York", "2026-11-20T04:59:59Z", "2026-11-19T05:00:00Z", "2026-11-20T05:00:00Z"),
        (Day, "America/New_York", "2026-11-20T05:00:00Z", "2026-11-20T05:00:00Z", "2026-11-21T05:00:00Z"),
        // The clocks go back: a day of 25 hours.
        (Day, "America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
        // +05:45: midnight is at 18:15 UTC, the first whole hour at or after it is 19:00.
        (Day, "Asia/Kathmandu", "2026-11-20T18:59:59Z", "2026-11-19T19:00:00Z", "2026-11-20T19:00:00Z"),
        // A day that never was: Samoa went from the 29th to the 31st.
        (Day, "Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        (Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        (Week, "UTC", "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
        (Week, "UTC", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
        (Week, "Asia/Kolkata", "2026-11-22T18:59:59Z", "2026-11-15T19:00:00Z", "2026-11-22T19:00:00Z"),
        // Monday began; its first whole hour did not.
        (Week, "Asia/Kolkata", "2026-11-22T18:30:00Z", "2026-11-15T19:00:00Z", "2026-11-22T19:00:00Z"),
        (Month, "UTC", "2026-11-14T12:00:00Z", "2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z"),
    ] {
        let policies = history([anchored(15, zone, at("2000-01-01T00:00:00Z"))]);
        let period = cycle_at(kind, Some(&policies), &DefaultTerms::Allow, at(instant));
        assert_eq!((period.starts_at(), period.ends_at()), (at(start), at(end)), "{kind:?} {zone} {instant}");
    }
}

#[test]
fn a_new_zone_holds_from_the_end_of_the_running_day_and_week() {
    let long_ago = at("2000-01-01T00:00:00Z");
    let policies = history([anchored(1, "UTC", long_ago), anchored(1, "America/New_York", at(NOW))]);
    let period = |kind, instant| {
        let period = cycle_at(kind, Some(&policies), &DefaultTerms::Allow, at(instant));
        (period.starts_at(), period.ends_at())
    };
    let pair = |start, end| (at(start), at(end));
    let day = BudgetPeriod::Day;
    assert_eq!(period(day, NOW), pair("2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"));
    assert_eq!(period(day, "2026-11-21T00:00:00Z"), pair("2026-11-21T00:00:00Z", "2026-11-21T05:00:00Z"));
    assert_eq!(period(day, "2026-11-21T05:00:00Z"), pair("2026-11-21T05:00:00Z", "2026-11-22T05:00:00Z"));
    let week = BudgetPeriod::Week;
    assert_eq!(period(week, NOW), pair("2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"));
    assert_eq!(period(week, "2026-11-23T00:00:00Z"), pair("2026-11-23T00:00:00Z", "2026-11-23T05:00:00Z"));
}

#[test]
fn a_budget_counts_its_whole_period_also_before_effective_at() {
    let mut world = World::new(NOW);
    world.user_spends("ann", "6");
    let effective_at = world.now.plus_micros(3_600_000_000);
    world.put(TermsRecord::Budget(Budget { effective_at, ..budget("later", Some("ann"), "10") }));
    world.put(TermsRecord::Budget(Budget { effective_at, ..budget("each", Some("*"), "5") }));
    world.user_spends("ann", "2");
    assert!(!world.control.keys().any(|key| key.contains('|')), "neither is in force yet");
    world.wait(effective_at);
    assert_eq!(decision(&world, "acme|user|ann|later").figures.used, CreditSum::whole(8));
    assert_eq!(decision(&world, "acme|user||each").level.action, Action::Allow);
    assert!(world.decision("acme|user|ann|each").is_none());
}

#[test]
fn a_model_or_user_is_unblocked_the_moment_its_period_turns_its_limit_is_raised_or_the_budget_goes() {
    let kinds = || {
        [
            budget("day", Some("ann"), "10"),
            Budget { expires_at: Some(at("2026-11-20T18:00:00Z")), ..budget("day", Some("ann"), "10") },
        ]
    };
    let [turns, goes] = kinds();
    for (budget, until) in [(turns, "2026-11-21T00:00:00Z"), (goes, "2026-11-20T18:00:00Z")] {
        let mut world = with([budget]);
        world.user_spends("ann", "10");
        let key = "acme|user|ann|day";
        assert_eq!(action(&world, key), Action::Block);
        assert_eq!(decision(&world, key).level.valid_until, at(until), "a gateway can tell when to ask again");
        world.wait(at(until).plus_micros(-1));
        assert_eq!(action(&world, key), Action::Block);
        world.news();
        world.wait(at(until));
        assert_eq!(action(&world, key), Action::Allow);
        assert_eq!(alerts(&mut world), [(key.to_owned(), AlertKind::Unblocked, 100, 0)]);
    }
    let mut world = with([budget("day", Some("ann"), "10")]);
    world.user_spends("ann", "10");
    world.put(TermsRecord::Budget(budget("day", Some("ann"), "10.000001")));
    assert_eq!(told(&world, "acme|user|ann|day"), (Action::Allow, DecisionReason::WithinBudget, 90));
}

#[test]
fn an_adjustment_unblocks_and_the_alert_names_the_lower_level() {
    let mut world = with([budget("each", Some("*"), "10")]);
    world.user_spends("ann", "10");
    let blocked = alerts(&mut world);
    assert_eq!(
        blocked,
        [("acme|user|ann|each".to_owned(), AlertKind::Blocked, 0, 100)],
        "several jumped at once are one"
    );
    world.user_spends("ann", "-0.5");
    assert_eq!(alerts(&mut world), [("acme|user|ann|each".to_owned(), AlertKind::Unblocked, 100, 90)]);
    world.user_spends("ann", "-9.5");
    assert_eq!(alerts(&mut world), [("acme|user|ann|each".to_owned(), AlertKind::Threshold, 90, 0)]);
}

#[test]
fn each_budget_has_thresholds_of_its_own() {
    let own = |id, thresholds: &[i32]| Budget { thresholds: thresholds.to_vec(), ..budget(id, None, "10") };
    let mut world = with([own("fine", &[10, 20, 30]), own("none", &[]), own("over", &[100, 150])]);
    world.user_spends("ann", "2.5");
    assert_eq!(["fine", "none", "over"].map(|id| told(&world, &format!("acme|||{id}")).2), [20, 0, 0]);
    world.user_spends("ann", "12.5");
    assert_eq!(["fine", "none", "over"].map(|id| told(&world, &format!("acme|||{id}")).2), [30, 0, 150]);
}

#[test]
fn late_usage_of_a_closed_period_never_changes_todays_decision() {
    let mut world = with([budget("each", Some("*"), "10"), budget("day", Some("bob"), "10")]);
    let yesterday = at("2026-11-19T23:59:59Z");
    for user in ["ann", "bob"] {
        world.spend(&[Spent { at: yesterday, micros: 99_000_000, user: Some(user), model: None }]);
    }
    assert!(world.news().is_empty(), "{:?}", world.said);
    assert_eq!(decision(&world, "acme|user|bob|day").figures.used, CreditSum::ZERO);
}

#[test]
fn in_force_is_the_greatest_effective_at_and_offset_and_nothing_is_overwritten() {
    let from = |instant: &str, limit| Budget { effective_at: at(instant), ..budget("day", None, limit) };
    let mut world = with([
        from("2026-11-20T10:00:00Z", "10"),
        from("2026-11-20T15:00:00Z", "30"),
        from("2026-11-20T09:00:00Z", "1"),
    ]);
    let allowance = |world: &World| decision(world, "acme|||day").level.allowance.unwrap();
    assert_eq!(allowance(&world), CreditSum::whole(10));
    assert_eq!(decision(&world, "acme|||day").level.valid_until, at("2026-11-20T15:00:00Z"));
    world.put(TermsRecord::Budget(from("2026-11-20T10:00:00Z", "12")));
    assert_eq!(allowance(&world), CreditSum::whole(12), "the later offset of the same instant");
    world.wait(at("2026-11-20T15:00:00Z"));
    assert_eq!(allowance(&world), CreditSum::whole(30));
}

#[test]
fn a_scope_that_ends_is_published_allow_and_gets_a_tombstone_24_h_later() {
    let mut world = with([budget("each", Some("*"), "10")]);
    world.user_spends("ann", "10");
    let ended = |expires_at| Budget { expires_at: Some(expires_at), ..budget("each", Some("*"), "10") };
    world.put(TermsRecord::Budget(ended(world.now)));
    for key in ["acme|user|ann|each", "acme|user||each"] {
        let level = &decision(&world, key).level;
        assert_eq!((level.action, level.allowance), (Action::Allow, None));
        assert_eq!(level.valid_until, at("2026-11-21T12:00:00Z"));
    }
    world.user_spends("ann", "10");
    world.restart();
    world.wait(at("2026-11-21T11:59:59.999999Z"));
    assert_eq!(world.control.len(), 3);
    world.news();
    world.wait(at("2026-11-21T12:00:00Z"));
    assert_eq!(world.news().len(), 2);
    assert_eq!(world.control.len(), 1, "only the org's own is left");
}

#[test]
fn a_value_that_is_not_used_for_a_whole_period_ends_and_comes_back_when_it_is() {
    let mut world = with([budget("each", Some("*"), "10")]);
    let key = "acme|user|ann|each";
    world.user_spends("ann", "10");
    world.wait(at("2026-11-21T00:00:00Z"));
    let level = &decision(&world, key).level;
    assert_eq!((level.allowance, level.period_start), (Some(CreditSum::whole(10)), at("2026-11-21T00:00:00Z")));
    world.wait(at("2026-11-22T00:00:00Z"));
    assert_eq!(decision(&world, key).level.allowance, None, "over");
    world.user_spends("ann", "1");
    assert_eq!(decision(&world, key).level.allowance, Some(CreditSum::whole(10)));
    world.wait(at("2026-11-25T00:00:00Z"));
    world.wait(at("2026-11-26T00:00:00Z"));
    assert!(world.decision(key).is_none());
}

#[test]
fn overshoot_is_of_blocks_that_usage_caused() {
    let limited = |limit: &str| TermsRecord::Budget(budget("ann", Some("ann"), limit));
    let mut world = with([budget("ann", Some("ann"), "10")]);
    world.user_spends("ann", "5");
    world.put(limited("3"));
    assert_eq!(decision(&world, "acme|user|ann|ann").level.action, Action::Block);
    world.put(limited("10"));
    assert_eq!(world.overshoots, [], "terms blocked what was used before");
    world.user_spends("ann", "7");
    world.user_spends("ann", "1");
    world.put(limited("20"));
    assert_eq!(world.overshoots, [CreditSum::whole(3)]);
}

#[test]
fn a_value_whose_scope_is_over_is_bound_again_when_its_budget_blocks_all() {
    let mut world = with([budget("each", Some("*"), "10")]);
    let key = "acme|user|ann|each";
    world.user_spends("ann", "1");
    world.wait(at("2026-11-21T00:00:00Z"));
    world.wait(at("2026-11-22T00:00:00Z"));
    assert_eq!(decision(&world, key).level.allowance, None, "over");
    let closed = Budget { effective_at: world.now, ..budget("each", Some("*"), "0") };
    world.put(TermsRecord::Budget(closed));
    assert_eq!(decision(&world, "acme|user||each").level.action, Action::Block);
    assert_eq!(decision(&world, key).level.action, Action::Block, "what is left of her scope hides no block");
}

#[test]
fn a_value_goes_on_in_the_new_period_also_when_nobody_decided_at_its_turn() {
    let mut world = with([budget("each", Some("*"), "10")]);
    world.user_spends("ann", "4");
    world.now = at("2026-11-21T00:00:00Z");
    world.restart();
    let level = &decision(&world, "acme|user|ann|each").level;
    assert_eq!((level.allowance, level.period_start), (Some(CreditSum::whole(10)), world.now));
}

#[test]
fn a_new_anchor_and_zone_of_the_org_hold_for_its_budgets() {
    let mut world = with([Budget { period: BudgetPeriod::Month, ..budget("month", None, "10") }]);
    let end = |world: &World| decision(world, "acme|||month").level.period_end;
    assert_eq!(end(&world), at("2026-12-01T00:00:00Z"));
    let policy = OrgPolicy { org_id: ORG.into(), ..anchored(25, "America/New_York", at("2026-01-01T00:00:00Z")) };
    world.user_spends("ann", "4");
    world.put(TermsRecord::OrgPolicy(policy));
    assert_eq!(end(&world), at("2026-11-25T05:00:00Z"));
    assert_eq!(decision(&world, "acme|||month").figures.used, CreditSum::whole(4));
}

#[test]
fn many_scopes_that_turn_at_one_instant_are_decided_in_slices() {
    const USERS: usize = 500;
    let names: Vec<String> = (0..USERS).map(|number| format!("user-{number}")).collect();
    let mut world = with(names.iter().map(|name| budget(name, Some(name), "10")));
    assert_eq!(world.control.len(), USERS + 1);
    world.news();
    world.largest_turn = 0;
    world.wait(at("2026-11-21T00:00:00Z"));
    assert_eq!(world.news().len(), USERS);
    assert!(world.largest_turn <= 6, "{} in one turn", world.largest_turn);
}

#[test]
fn an_alert_and_a_decision_name_the_budget_that_blocks() {
    let mut world = with([budget("a", Some("*"), "10"), budget("b", Some("ann"), "5"), budget("c", None, "100")]);
    world.user_spends("ann", "5");
    let blocked: Vec<&LimitDecision> =
        world.control.values().filter(|decision| decision.level.action == Action::Block).collect();
    let [decision] = blocked[..] else { panic!("{} are blocked", blocked.len()) };
    let budget = decision.scope.budget.as_ref().unwrap();
    assert_eq!((&*budget.budget_id, budget.value.as_deref()), ("b", Some("ann")));
    assert_eq!(decision.level.budget.as_ref().unwrap().0, "the b");
    assert_eq!(decision.level.allowance, Some(credits("5").into()));
    assert_eq!(decision.cause.policy_offset, Some(2));
}

#[test]
fn a_clock_that_stands_still_or_goes_back_decides_nothing_twice() {
    let mut world = with([budget("each", Some("*"), "10")]);
    world.user_spends("ann", "10");
    world.news();
    world.wait(Timestamp::MIN);
    world.wait(world.now);
    world.restart();
    assert!(world.news().is_empty());
}

/// The UTC day on which a forecast alert of a scope last went out, as its decision says.
fn foretold_on(world: &World, key: &str) -> Option<i32> {
    decision(world, key).level.forecast_alerted_on
}

#[test]
fn a_forecast_alert_comes_when_the_recent_rate_spends_a_budget_before_its_period_ends_at_most_one_a_day() {
    let key = "acme|user|ann|each";
    let foretold = |level| vec![(key.to_owned(), AlertKind::DepletionForecast, level, level)];
    let weekly = Budget { period: BudgetPeriod::Week, ..budget("each", Some("*"), "100") };
    let mut world = with([weekly]);
    world.user_spends("ann", "4.9");
    assert_eq!(alerts(&mut world), [], "a few requests are no rate yet");
    world.user_spends("ann", "0.1");
    assert_eq!(alerts(&mut world), foretold(0), "5 credits an hour for 60 hours, and 95 are left");
    assert_eq!(foretold_on(&world, key), Some(world.now.hour().day().0));
    world.user_spends("ann", "10");
    world.restart();
    world.user_spends("ann", "10");
    assert_eq!(alerts(&mut world), [], "at most one a day, also after a restart");
    world.wait(at("2026-11-21T12:00:00Z"));
    world.user_spends("ann", "10");
    assert_eq!(alerts(&mut world), [], "not again before it would have lasted");
    world.wait(at("2026-11-21T15:00:00Z"));
    world.user_spends("ann", "0.1");
    world.user_spends("ann", "10");
    assert_eq!(alerts(&mut world), foretold(0), "another day, and the rate had fallen meanwhile");
    world.wait(at("2026-11-23T10:00:00Z"));
    assert_eq!(foretold_on(&world, key), None, "a new period begins anew");
    world.user_spends("ann", "6");
    assert_eq!(alerts(&mut world), foretold(0));
}

#[test]
fn a_forecast_waits_behind_the_threshold_that_the_same_usage_reached() {
    let mut world = with([budget("day", Some("ann"), "100")]);
    world.user_spends("ann", "80");
    let key = "acme|user|ann|day".to_owned();
    let expected = [(key.clone(), AlertKind::Threshold, 0, 75), (key, AlertKind::DepletionForecast, 75, 75)];
    assert_eq!(alerts(&mut world), expected);
}

#[test]
fn nothing_is_foretold_of_a_budget_that_lasts_is_spent_or_may_not_be_used() {
    let mut world = with([
        budget("lasts", Some("ann"), "1000"),
        budget("spent", Some("ann"), "10"),
        budget("closed", Some("ann"), "0"),
        Budget { action: BudgetAction::Warn, ..budget("warn", Some("ann"), "9") },
        budget("each", Some("*"), "1"),
    ]);
    world.news();
    world.user_spends("ann", "60");
    world.user_spends("ann", "10");
    assert!(alerts(&mut world).iter().all(|(_, kind, ..)| *kind != AlertKind::DepletionForecast));
    // A threshold of a spent budget may come; a forecast may not.
    world.wait(at("2026-11-20T14:00:00Z"));
    world.user_spends("ann", "10");
    assert_eq!(alerts(&mut world), []);
}

#[test]
fn a_period_that_ends_within_a_day_foretells_no_second_time_on_that_day() {
    let mut world = World::new("2026-11-21T03:00:00Z");
    let policy = anchored(1, "America/New_York", at("2020-01-01T00:00:00Z"));
    world.put(TermsRecord::OrgPolicy(OrgPolicy { org_id: ORG.into(), unlimited: true, ..policy }));
    world.put(TermsRecord::Budget(budget("day", Some("ann"), "20")));
    world.news();
    let key = "acme|user|ann|day";
    let foretold = [(key.to_owned(), AlertKind::DepletionForecast, 0, 0)];
    world.user_spends("ann", "10");
    assert_eq!(alerts(&mut world), foretold);
    world.wait(at("2026-11-21T05:00:00Z"));
    world.user_spends("ann", "10");
    assert_eq!(alerts(&mut world), [], "another day of New York, the same of UTC");
    world.wait(at("2026-11-22T01:00:00Z"));
    world.user_spends("ann", "3");
    assert_eq!(alerts(&mut world), foretold);
}
