//! The guard through the whole worker: rates are rows like any other, and where it blocks follows from the log, whatever
//! dies on the way and however records fall into batches.

use std::time::Duration;

use crate::in_memory::{Fault, POLICIES, USAGE};
use serde_json::json;
use tallyman::domain::limits::decision::{Action, DecisionReason};
use tallyman::processor::ports::OutputTopic;
use tallyman::store::StoreError;

use crate::crashes::{Stores, crash_everywhere, run_phases};
use crate::judge::{Outcome, decisions};
use crate::scenario::{Phase, buyer, free, hard, home, policy, soft, suspended, with};
use crate::support::{DAY, HOUR, Member, Options, PARTITIONS, START, World, scratch};

const MINUTE: i64 = HOUR / 60;

/// A minute ahead: a fifth of what was used in the last five.
fn options() -> Options {
    Options { guard: Some(Duration::from_secs(60)), ..Options::default() }
}

const PHASES: &[Phase] = &[
    |world, _| terms(world),
    |world, _| bursts(world),
    |world, _| slow(world),
    |world, _| corrections(world),
    // The rate is gone; the block is not.
    |world, _| world.set_now(START.plus_micros(5 * HOUR)),
    |world, _| raised(world),
    |world, _| bursts_again(world),
    |world, _| world.set_now(START.plus_micros(11 * DAY)),
    |world, _| next_period(world),
    |world, _| last_terms(world),
];

fn terms(world: &World) {
    for org in [hard(), free(), buyer()] {
        world.put(POLICIES, &policy(&org, "10"));
    }
    world.put(POLICIES, &with(policy(&soft(), "10"), &json!({"limit_mode": "SOFT", "soft_extra": "5"})));
    world.put(
        POLICIES,
        &with(policy(&suspended(), "10"), &json!({"limit_mode": "SOFT", "unlimited_overage": true})),
    );
}

fn bursts(world: &World) {
    world.set_now(START.plus_micros(HOUR));
    for number in 0..10 {
        world.spend(&format!("h{number}"), &hard(), "1.1");
        world.spend(&format!("s{number}"), &soft(), "1.9");
        world.spend(&format!("e{number}"), &suspended(), "3");
    }
    world.spend("h3", &hard(), "1.1");
}

/// One that stays below the line, for its rate is low; and one that jumps over it at once.
fn slow(world: &World) {
    for number in 0..9 {
        world.set_now(START.plus_micros(2 * HOUR + number * 3 * MINUTE));
        world.spend(&format!("f{number}"), &free(), "1.05");
    }
    world.spend("b0", &buyer(), "40");
}

fn corrections(world: &World) {
    world.set_now(START.plus_micros(3 * HOUR));
    for (org, credits) in [(hard(), "-9"), (buyer(), "-36")] {
        world.put(
            USAGE,
            &json!({
                "type": "UsageAdjusted", "adjustment_id": format!("a-{org}"), "source": "sim",
                "occurred_at": START.plus_micros(HOUR).micros(), "org_id": org, "product": "chat",
                "operation": "answer", "credits": credits, "events": -1, "reason": "a refund",
            }),
        );
    }
}

fn raised(world: &World) {
    for org in [hard(), soft()] {
        let terms = json!({"effective_at": world.now().micros(), "limit_mode": "HARD"});
        world.put(POLICIES, &with(policy(&org, "30"), &terms));
    }
}

fn bursts_again(world: &World) {
    world.set_now(START.plus_micros(6 * HOUR));
    for number in 0..12 {
        world.spend(&format!("h2{number}"), &hard(), "2");
        world.spend(&format!("s2{number}"), &soft(), "1");
    }
}

fn next_period(world: &World) {
    world.set_now(START.plus_micros(11 * DAY + HOUR));
    for number in 0..7 {
        world.spend(&format!("n{number}"), &hard(), "4");
        world.spend(&format!("n{number}"), &soft(), "3");
    }
}

/// The last decision of each org is made of all its usage, however it came: another limit, as near as the one before.
fn last_terms(world: &World) {
    for (org, base) in [(hard(), "29"), (soft(), "22"), (free(), "9"), (buyer(), "9"), (suspended(), "9")] {
        let terms = json!({"effective_at": world.now().micros()});
        world.put(POLICIES, &with(policy(&org, base), &terms));
    }
}

/// Actions and reasons of an org, as they were said.
fn said(world: &World, org: &str) -> Vec<(Action, DecisionReason)> {
    let mut said: Vec<_> = decisions(world, home(org))
        .into_iter()
        .filter(|(key, _)| key == org)
        .map(|(_, decision)| (decision.level.action, decision.level.reason))
        .collect();
    said.dedup();
    said
}

fn run(options: &Options, fault: Option<(u64, Fault)>, stores: Stores) -> (World, Outcome) {
    run_phases(PHASES, options, fault, stores)
}

#[test]
fn a_guard_blocks_early_and_until_limit_or_period_change() {
    use Action::{Allow, Block};
    use DecisionReason::{AllowanceSpent, Guard, InOverage, WithinAllowance};
    let (world, _) = run(&options(), None, Stores::Kept);
    let twice = [(Allow, WithinAllowance), (Block, Guard), (Allow, WithinAllowance), (Block, Guard)];
    let expected = [twice.as_slice(), &[(Allow, WithinAllowance), (Block, Guard)]].concat();
    assert_eq!(said(&world, &hard()), expected);
    // The last time by its last terms, for its usage was of the same minute.
    assert_eq!(said(&world, &soft()), expected);
    assert_eq!(said(&world, &free()), [(Allow, WithinAllowance)]);
    assert_eq!(said(&world, &suspended())[..2], [(Allow, WithinAllowance), (Allow, InOverage)]);
    // What jumped over the limit was not guarded; when a correction took it back the rate was gone.
    let jumped = [(Allow, WithinAllowance), (Block, AllowanceSpent), (Allow, WithinAllowance)];
    assert_eq!(said(&world, &buyer()), jumped);
}

#[test]
fn rates_are_rows() {
    let (_, outcome) = run(&options(), None, Stores::Kept);
    assert!(outcome.rows.iter().all(|rows| rows.lines().any(|row| row.starts_with("07"))));
}

#[test]
fn a_crash_at_any_step_changes_neither_rates_nor_guards_when_the_stores_are_kept() {
    crash_everywhere(run, &options(), Stores::Kept, 50);
}

#[test]
fn a_crash_at_any_step_changes_neither_rates_nor_guards_when_the_stores_come_back_older() {
    crash_everywhere(run, &options(), Stores::Older, 50);
}

#[test]
fn a_crash_at_any_step_changes_neither_rates_nor_guards_when_the_stores_are_deleted() {
    crash_everywhere(run, &options(), Stores::Deleted, 50);
}

#[test]
fn batches_and_flushes_are_nobodys_business_to_a_guard() {
    let (_, expected) = run(&options(), None, Stores::Kept);
    for batch in [1, 2, 7, 1000] {
        for (flush_rows, working_set) in [(1, 0), (1, 1 << 20), (40, 0), (usize::MAX, 0)] {
            let options = Options { batch, flush_rows, working_set, ..options() };
            let (_, found) = run(&options, None, Stores::Kept);
            assert_eq!(found, expected, "batches of {batch}, flushes at {flush_rows} rows");
        }
    }
}

#[test]
fn a_rebuild_with_a_guard_says_nothing_again() {
    let (world, expected) = run(&options(), None, Stores::Kept);
    let count = |world: &World| -> Vec<usize> {
        (0..PARTITIONS).map(|partition| decisions(world, partition).len()).collect()
    };
    let before = count(&world);
    let dir = scratch();
    world.log.gone("life/1");
    let mut member: Member = world.member("life/2", dir.path());
    member.settle().unwrap();
    member.release(&(0..PARTITIONS).collect::<Vec<_>>()).unwrap();
    drop(member);
    assert_eq!(count(&world), before);
    let rows: Vec<String> = (0..PARTITIONS).map(|partition| world.dump(dir.path(), partition)).collect();
    assert_eq!(rows, expected.rows);
    assert!(world.log.records(OutputTopic::Alerts, 0).len() < 20);
}

#[test]
fn a_guard_that_is_set_or_taken_away_is_a_rebuild() {
    for (before, after) in [(options(), Options::default()), (Options::default(), options())] {
        let dir = scratch();
        drop(World::new(before).store(dir.path(), 0).unwrap());
        let refused = World::new(after).store(dir.path(), 0).err().unwrap();
        assert!(
            matches!(&refused, StoreError::OtherSettings { differences, .. } if differences.contains("limits.guard"))
        );
    }
}
