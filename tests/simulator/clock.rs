//! A wall clock that is set: nothing is decided by a time that is not, and what a wrong clock has published binds nobody.

use crate::in_memory::POLICIES;
use tallyman::domain::limits::decision::Action;

use crate::judge::{check_levels, decisions, heartbeats};
use crate::scenario::{hard, policy};
use crate::support::{DAY, Options, START, World, scratch};

fn last_of(world: &World, org: &str) -> (Action, i128) {
    let found = decisions(world, 0).into_iter().rev().find(|(key, _)| key == org).unwrap().1;
    (found.level.action, found.figures.used.0)
}

#[test]
fn a_clock_that_jumps_publishes_nothing_and_goes_on_when_it_is_right_again() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = world.member("a", dir.path());
    world.put(POLICIES, &policy(&hard(), "10"));
    world.spend("all", &hard(), "10");
    member.settle().unwrap();
    assert_eq!(last_of(&world, &hard()), (Action::Block, 10_000_000));
    let before = (decisions(&world, 0), heartbeats(&world, 0).len(), world.log.committed(0));

    world.spend("meanwhile", &hard(), "1");
    world.clock.jump(START.plus_micros(40 * DAY));
    member.settle().unwrap();
    assert_eq!((decisions(&world, 0), heartbeats(&world, 0).len(), world.log.committed(0)), before);
    let reasons = member.health.ready().unwrap_err().join("; ");
    assert!(reasons.contains("ahead of what it showed before") && reasons.contains("NTP"), "{reasons}");

    world.clock.jump(START);
    member.settle().unwrap();
    assert_eq!(last_of(&world, &hard()), (Action::Block, 10_000_000), "still blocked, nothing new to say");
    world.put(POLICIES, &policy(&hard(), "20"));
    member.settle().unwrap();
    assert_eq!(last_of(&world, &hard()), (Action::Allow, 11_000_000), "what came meanwhile is counted");
    check_levels(&world, 0);
}

#[test]
fn partitions_are_let_go_and_taken_while_the_clock_is_not_believed() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = world.member("a", dir.path());
    world.spend("one", &hard(), "1");
    member.settle().unwrap();
    let committed = world.log.committed(0);
    world.spend("two", &hard(), "1");
    world.clock.jump(START.plus_micros(-DAY));
    member.release(&[0]).unwrap();
    world.log.rebalance("a", tallyman::processor::ports::Rebalance::Assigned(vec![0]));
    member.settle().unwrap();
    assert_eq!(world.log.committed(0), committed);
    world.clock.jump(START);
    world.put(POLICIES, &policy(&hard(), "2"));
    member.settle().unwrap();
    assert_eq!(last_of(&world, &hard()), (Action::Block, 2_000_000), "what came meanwhile is counted");
}

#[test]
fn what_a_clock_far_ahead_has_published_is_decided_anew_by_one_that_is_right() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    world.put(POLICIES, &policy(&hard(), "10"));
    world.spend("all", &hard(), "10");
    world.clock.set(START.plus_micros(40 * DAY));
    let mut wrong = world.member("wrong", dir.path());
    wrong.settle().unwrap();
    wrong.release(&[0, 1]).unwrap();
    assert_eq!(last_of(&world, &hard()).0, Action::Allow, "a period in which nothing was used");
    world.clock.set(START);
    let mut right = world.member("right", dir.path());
    right.settle().unwrap();
    assert_eq!(last_of(&world, &hard()), (Action::Block, 10_000_000));
    let versions: Vec<i64> = decisions(&world, 0).into_iter().map(|(_, decision)| decision.version).collect();
    assert!(versions.is_sorted(), "a gateway takes the later one: {versions:?}");
}
