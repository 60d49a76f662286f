//! Budgets through the whole worker: whatever goes wrong at whatever step, the last level of every scope is that of a run
//! in which nothing did, a rebuild says nothing again, and a batch, a flush or a restart in between is nobody's business.

use std::collections::BTreeSet;

use crate::in_memory::{Fault, POLICIES, USAGE};
use serde_json::{Value, json};
use tallyman::domain::credits::CreditSum;
use tallyman::domain::limits::decision::{Action, DecisionReason};
use tallyman::domain::time::Timestamp;
use tallyman::processor::ports::OutputTopic;

use crate::crashes::{Stores, crash_everywhere, fail_every_transaction, run_phases};
use crate::judge::{Outcome, alerts, decisions, foretold_on, said};
use crate::scenario::{Phase, hard, home, policy, soft, usage, with};
use crate::support::{DAY, HOUR, Member, Options, START, World, scratch};

fn budget(org: &str, id: &str, others: &Value) -> Value {
    let budget = json!({
        "type": "Budget", "org_id": org, "budget_id": id, "name": format!("the {id}"), "limit": "3", "period": "day",
        "action": "BLOCK", "effective_at": START.plus_micros(-DAY).micros(), "updated_by": "sim",
    });
    with(budget, others)
}

fn spend(world: &World, id: &str, org: &str, user: &str, model: &str, credits: &str, at: Timestamp) {
    let event = usage(id, org, credits, at);
    world.put(USAGE, &with(event, &json!({"user_id": user, "model": model})));
}

const PHASES: &[Phase] = &[
    |world, _| terms(world),
    |world, _| first_usage(world),
    |world, _| corrections(world),
    |world, client| {
        expiries(world);
        let all = vec![home(&soft())];
        world.log.rebalance(client, tallyman::processor::ports::Rebalance::Revoked(all.clone()));
        world.log.rebalance(client, tallyman::processor::ports::Rebalance::Assigned(all));
    },
    |world, _| world.set_now(START.plus_micros(14 * HOUR)),
    |world, _| next_day(world),
    |world, _| world.set_now(START.plus_micros(2 * DAY)),
    |world, _| world.set_now(START.plus_micros(3 * DAY)),
    |world, _| world.set_now(START.plus_micros(4 * DAY)),
    |world, _| last_terms(world),
];

fn terms(world: &World) {
    let (hard, soft) = (hard(), soft());
    for org in [&hard, &soft] {
        world.put(POLICIES, &with(policy(org, "0"), &json!({"unlimited": true})));
        world.put(POLICIES, &budget(org, "each", &json!({"dimension": "user", "value": "*"})));
        world.put(POLICIES, &budget(org, "exact", &json!({"dimension": "user", "value": "boss", "limit": "50"})));
        world.put(POLICIES, &budget(org, "all", &json!({"period": "week", "limit": "9", "action": "WARN"})));
    }
    let lasts = json!({"dimension": "model", "value": "m1", "limit": "1",
        "expires_at": START.plus_micros(3 * HOUR).micros()});
    world.put(POLICIES, &budget(&soft, "lasts", &lasts));
    world.put(POLICIES, &budget(&hard, "closed", &json!({"dimension": "model", "value": "*", "limit": "0"})));
    world.put(POLICIES, &budget(&hard, "open", &json!({"dimension": "model", "value": "m1", "limit": "40"})));
}

fn first_usage(world: &World) {
    world.set_now(START.plus_micros(HOUR));
    let now = world.now();
    for (org, prefix) in [(hard(), "h"), (soft(), "s")] {
        for number in 0..6 {
            for (user, credits) in [("ann", "0.5"), ("bob", "0.3"), ("boss", "1")] {
                spend(world, &format!("{prefix}-{user}-{number}"), &org, user, "m1", credits, now);
            }
        }
        spend(world, &format!("{prefix}-late"), &org, "old", "m2", "2", now.plus_micros(-DAY));
    }
}

fn corrections(world: &World) {
    world.set_now(START.plus_micros(2 * HOUR));
    for org in [hard(), soft()] {
        world.put(
            USAGE,
            &json!({
                "type": "UsageAdjusted", "adjustment_id": format!("a-{org}"), "source": "sim",
                "occurred_at": START.plus_micros(HOUR).micros(), "org_id": org, "product": "chat",
                "operation": "answer", "user_id": "ann", "model": "m1", "credits": "-2.25", "reason": "a refund",
            }),
        );
    }
    // It takes over at midnight, with another limit.
    let later = json!({"dimension": "user", "value": "*", "limit": "4", "effective_at":
        START.plus_micros(14 * HOUR).micros()});
    world.put(POLICIES, &budget(&hard(), "each", &later));
}

fn expiries(world: &World) {
    world.set_now(START.plus_micros(3 * HOUR));
    let ended = json!({"dimension": "user", "value": "boss", "limit": "50", "expires_at": world.now().micros(),
        "effective_at": world.now().micros()});
    world.put(POLICIES, &budget(&hard(), "exact", &ended));
}

fn next_day(world: &World) {
    world.set_now(START.plus_micros(15 * HOUR));
    for number in 0..5 {
        spend(world, &format!("n{number}"), &hard(), "ann", "m3", "1", world.now());
        spend(world, &format!("n{number}"), &soft(), "cat", "m2", "0.6", world.now());
    }
}

fn last_terms(world: &World) {
    world.put(POLICIES, &budget(&hard(), "all", &json!({"period": "month", "limit": "30"})));
    world.put(POLICIES, &budget(&soft(), "all", &json!({"period": "week", "limit": "0"})));
}

fn run(options: &Options, fault: Option<(u64, Fault)>, stores: Stores) -> (World, Outcome) {
    run_of(PHASES, options, fault, stores)
}

fn run_of(phases: &[Phase], options: &Options, fault: Option<(u64, Fault)>, stores: Stores) -> (World, Outcome) {
    let (world, mut outcome) = run_phases(phases, options, fault, stores);
    // What a decision says of usage is as of its instant, which batches and crashes may move.
    outcome.last.values_mut().for_each(|(used, _)| *used = CreditSum::ZERO);
    (world, outcome)
}

#[test]
fn a_crash_at_any_step_leaves_the_same_scopes_when_the_stores_are_kept() {
    crash_everywhere(run, &Options::default(), Stores::Kept, 60);
}

#[test]
fn a_crash_at_any_step_leaves_the_same_scopes_when_the_stores_come_back_older() {
    crash_everywhere(run, &Options::default(), Stores::Older, 60);
}

#[test]
fn a_crash_at_any_step_leaves_the_same_scopes_when_the_stores_are_deleted() {
    crash_everywhere(run, &Options::default(), Stores::Deleted, 60);
}

#[test]
fn a_transaction_that_fails_or_is_not_answered_for_leaves_the_same_scopes() {
    fail_every_transaction(run, &Options::default());
}

#[test]
fn batches_and_flushes_of_any_size_leave_the_same_scopes() {
    let (_, expected) = run(&Options::default(), None, Stores::Kept);
    for batch in [1, 2, 1000] {
        for (flush_rows, working_set) in [(1, 0), (40, 0), (usize::MAX, 0)] {
            let (_, found) =
                run(&Options { batch, flush_rows, working_set, ..Options::default() }, None, Stores::Kept);
            assert_eq!(found, expected, "batches of {batch}, flushes at {flush_rows} rows");
        }
    }
}

/// All phases up to and with the one of that number; the worker goes on.
fn through(world: &World, phase: usize, dir: &std::path::Path) -> Member {
    let mut member = world.member("a", dir);
    for phase in &PHASES[..=phase] {
        phase(world, "a");
        member.settle().unwrap();
    }
    member
}

#[test]
fn a_rebuild_says_nothing_of_budgets_again() {
    for phase in 0..PHASES.len() {
        let (dir, world) = (scratch(), World::new(Options::default()));
        let mut member = through(&world, phase, dir.path());
        member.release(&[0, 1]).unwrap();
        drop(member);
        let outputs = || {
            let of = |partition| {
                said(&world, partition).len() + world.log.records(OutputTopic::Alerts, partition).len()
            };
            of(0) + of(1)
        };
        let before = outputs();
        let rebuilt = scratch();
        let mut member = world.member("b", rebuilt.path());
        member.settle().unwrap();
        assert_eq!(outputs(), before, "after phase {phase}");
    }
}

/// Users whose rate spends their week's budget, day after day; quiet hours lie between.
const FORECASTS: &[Phase] = &[
    |world, _| {
        for org in [hard(), soft()] {
            world.put(POLICIES, &with(policy(&org, "0"), &json!({"unlimited": true})));
            let each = json!({"dimension": "user", "value": "*", "limit": "100", "period": "week"});
            world.put(POLICIES, &budget(&org, "each", &each));
        }
    },
    |world, _| busy(world, HOUR),
    |world, _| busy(world, 2 * HOUR),
    |world, _| quiet(world, 8 * HOUR),
    |world, _| quiet(world, 20 * HOUR),
    |world, _| busy(world, 21 * HOUR),
    |world, _| busy(world, 22 * HOUR),
];

fn busy(world: &World, after: i64) {
    world.set_now(START.plus_micros(after));
    for number in 0..8 {
        for (org, user) in [(hard(), "ann"), (hard(), "bob"), (soft(), "cat")] {
            spend(world, &format!("{after}-{user}-{number}"), &org, user, "m1", "2.5", world.now());
        }
    }
}

fn quiet(world: &World, after: i64) {
    world.set_now(START.plus_micros(after));
    for (org, user) in [(hard(), "ann"), (hard(), "bob"), (soft(), "cat")] {
        spend(world, &format!("{after}-{user}"), &org, user, "m1", "0.01", world.now());
    }
}

/// Each forecast alert of a run: its scope and UTC day.
fn forecasts(world: &World) -> Vec<(String, String)> {
    let all = (0..2).flat_map(|partition| alerts(world, partition));
    let scope = |alert: &Value| alert["alert_id"].as_str().unwrap().rsplitn(3, '|').last().unwrap().to_owned();
    let mut found: Vec<_> = all.filter_map(|alert| Some((scope(&alert), foretold_on(&alert)?))).collect();
    found.sort();
    found
}

/// A run in which forecasts are told, whatever goes wrong.
fn foretell(options: &Options, fault: Option<(u64, Fault)>, stores: Stores) -> (World, Outcome) {
    let (world, outcome) = run_of(FORECASTS, options, fault, stores);
    let found = forecasts(&world);
    let twice: Vec<_> = found.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{stores:?}, {fault:?}: {twice:?}");
    let first_day = found.iter().filter(|(_, day)| day == "2026-11-20").count();
    assert_eq!(first_day, 3, "{stores:?}, {fault:?}: {found:?}");
    (world, outcome)
}

#[test]
fn a_forecast_of_a_budget_is_told_once_a_day_wherever_a_worker_dies() {
    let options = Options::default();
    let found = forecasts(&foretell(&options, None, Stores::Kept).0);
    assert_eq!(found.len(), 6, "three users on two days: {found:?}");
    for stores in [Stores::Kept, Stores::Older, Stores::Deleted] {
        crash_everywhere(foretell, &options, stores, 30);
    }
}

#[test]
fn a_scope_that_ends_is_published_allow_and_gets_a_tombstone_24_h_later() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = through(&world, 3, dir.path());
    let (soft, key) = (soft(), format!("{}|model|m1|lasts", soft()));
    let last = |world: &World| said(world, home(&soft)).into_iter().rfind(|(of, _)| *of == key).unwrap().1;
    let blocked = decisions(&world, home(&soft)).into_iter().find(|(of, _)| *of == key).unwrap().1;
    assert_eq!((blocked.level.action, blocked.level.level), (Action::Allow, 0));
    let ended = last(&world).unwrap();
    assert_eq!((ended.level.action, ended.level.reason), (Action::Allow, DecisionReason::WithinBudget));
    assert_eq!(ended.decided_at, START.plus_micros(3 * HOUR), "it expired, and no usage event said so");
    assert_eq!(ended.level.valid_until, ended.decided_at.plus_micros(DAY));
    world.set_now(ended.level.valid_until.plus_micros(-1));
    member.settle().unwrap();
    assert!(last(&world).is_some());
    world.set_now(ended.level.valid_until);
    member.settle().unwrap();
    assert_eq!(last(&world), None);
    member.release(&[0, 1]).unwrap();
    drop(member);
    // The store forgot it too, whatever was flushed when.
    let store = world.store(dir.path(), home(&soft)).unwrap();
    let stored = store.reader().snapshot().decisions(&soft).unwrap();
    assert!(stored.iter().all(|decision| decision.scope.key() != key));
}

#[test]
fn the_scenario_blocks_and_unblocks_by_usage_correction_limit_expiry_and_period() {
    let (world, outcome) = run(&Options::default(), None, Stores::Kept);
    let (hard, soft) = (hard(), soft());
    let history = |org: &str, rest: &str| {
        let key = format!("{org}|{rest}");
        let of = said(&world, home(org)).into_iter().filter(move |(of, _)| *of == key);
        of.map(|(_, told)| told.map(|told| (told.level.action, told.level.level))).collect::<Vec<_>>()
    };
    let (allow, block) = (Action::Allow, Action::Block);
    let ann = history(&soft, "user|ann|each");
    assert!(ann.contains(&Some((block, 100))), "{ann:?}");
    assert_eq!(ann.last(), Some(&None), "not used for a whole day: {ann:?}");
    let boss = history(&hard, "user|boss|each");
    assert_eq!(boss.first(), Some(&Some((block, 100))), "the exact budget went: {boss:?}");
    assert_eq!(history(&hard, "model||closed")[0], Some((block, 0)));
    assert_eq!(history(&hard, "model|m1|closed")[0], Some((allow, 0)), "another budget binds it");
    assert_eq!(history(&hard, "model|m3|closed")[0], Some((block, 100)));
    let keys: BTreeSet<&str> = outcome.last.keys().filter_map(|key| key.rsplit('|').next()).collect();
    assert!(keys.is_superset(&BTreeSet::from(["all", "closed", "each", "exact", "open"])), "{keys:?}");
    assert!(!outcome.last.keys().any(|key| key.contains("old")), "what came late to a closed day makes no scope");
}
