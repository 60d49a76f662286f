//! What is nobody's record's fault: a task that halts tells why and what to do while the others go on, and a registry
//! that is away is waited for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::in_memory::POLICIES;
use tallyman::codec::{
    Decoder, OutputEncoding, RecordType, RegistryError, SchemaRegistry, ValueEncoding, encode_event,
};
use tallyman::processor::ports::OutputTopic;
use tallyman::processor::settings::AdoptFrom;

use crate::judge::{alerts, check_levels, decisions};
use crate::scenario::{PHASES, free, hard, org_in, policy, soft, usage};
use crate::support::{HOUR, Member, Options, START, World, scratch};

pub fn end(world: &World, partition: i32) -> i64 {
    world.log.end(OutputTopic::Usage, partition)
}

pub fn committed(world: &World, partition: i32) -> i64 {
    world.log.committed(partition).map_or(0, |committed| committed.offset)
}

/// All phases are folded, published and let go; the next worker may begin.
pub fn before(dir: &Path) -> World {
    let world = World::new(Options::default());
    let mut member = world.member("a", dir);
    for phase in &PHASES[..2] {
        phase(&world, "a");
        member.settle().unwrap();
    }
    member.release(&[0, 1]).unwrap();
    world
}

/// Partition 0 is halted for `reason`, and partition 1 is folded and published.
fn only_partition_0_halts(world: &World, mut member: Member, reason: &str) -> String {
    world.spend("goes-on", &soft(), "0.5");
    world.spend("stands-still", &hard(), "0.5");
    member.settle().unwrap();
    let (told, message) = member.halt_of(0).unwrap();
    assert_eq!(told, reason);
    assert_eq!(member.halt_of(1), None);
    let still = world.log.committed(0);
    member.release(&[0, 1]).unwrap();
    assert_eq!(committed(world, 1), end(world, 1), "partition 1 goes on");
    assert_eq!(world.log.committed(0), still, "partition 0 stands still");
    message
}

#[test]
fn a_missing_offset_beside_a_store_halts_and_names_the_way_out() {
    let dir = scratch();
    let mut world = before(dir.path());
    let spoken = (decisions(&world, 0), decisions(&world, 1));
    world.log.expire_offsets();
    let mut member = world.member("b", dir.path());
    member.settle().unwrap();
    for partition in 0..2 {
        let (reason, message) = member.halt_of(partition).unwrap();
        assert_eq!(reason, "offset_missing");
        assert!(message.contains("--adopt-from store") && message.contains("--adopt-from end"), "{message}");
    }
    drop(member);
    for (adopt, name) in [(AdoptFrom::Store, "c"), (AdoptFrom::End, "d")] {
        world.options.adopt = Some(adopt);
        world.log.expire_offsets();
        let mut member = world.member(name, dir.path());
        member.settle().unwrap();
        member.release(&[0, 1]).unwrap();
        assert_eq!((committed(&world, 0), committed(&world, 1)), (end(&world, 0), end(&world, 1)), "{adopt:?}");
        assert_eq!((decisions(&world, 0), decisions(&world, 1)), spoken, "{adopt:?}");
    }
}

#[test]
fn a_log_that_was_truncated_below_the_position_halts_its_task_alone() {
    let dir = scratch();
    let world = before(dir.path());
    world.spend("unseen", &hard(), "1");
    world.spend("seen", &hard(), "1");
    world.log.truncate(0, end(&world, 0) - 1);
    let message = only_partition_0_halts(&world, world.member("b", dir.path()), "log_truncated");
    assert!(message.contains("rebuild"), "{message}");
}

#[test]
fn a_log_that_shrinks_while_its_partition_waits_halts_it_alone_and_a_rebalance_moves_on() {
    let registry = Arc::new(Registry::default());
    let (dir, world) = (scratch(), World::new(Options { registry: Some(registry), ..Options::default() }));
    let mut member = world.member("a", dir.path());
    world.put_raw("usage", 0, Some(&hard()), Some(&[0, 0, 0, 0, 1, 1]));
    world.spend("behind", &hard(), "1");
    member.settle().unwrap();
    world.log.truncate(0, end(&world, 0));
    let deadline = Instant::now() + Duration::from_secs(20);
    while member.halt_of(0).is_none_or(|(reason, _)| reason != "log_truncated") {
        assert!(Instant::now() < deadline, "it does not halt: {:?}", member.halt_of(0));
        member.turn().unwrap();
    }
    member.release(&[1]).unwrap();
    world.log.rebalance("a", tallyman::processor::ports::Rebalance::Assigned(vec![1]));
    world.spend("goes-on", &soft(), "0.5");
    member.settle().unwrap();
    member.release(&[0, 1]).unwrap();
    assert_eq!(committed(&world, 1), end(&world, 1), "partition 1 goes on");
}

#[test]
fn a_log_that_was_recreated_halts_its_task_alone() {
    let dir = scratch();
    let world = before(dir.path());
    world.log.recreate(OutputTopic::Usage, 0);
    only_partition_0_halts(&world, world.member("b", dir.path()), "log_changed");
}

#[test]
fn a_log_that_was_cut_and_grew_again_halts_its_task_alone() {
    let dir = scratch();
    let world = before(dir.path());
    let length = end(&world, 0);
    world.log.recreate(OutputTopic::Usage, 0);
    for number in 0..length + 5 {
        world.spend(&format!("new{number}"), &hard(), "1");
    }
    only_partition_0_halts(&world, world.member("b", dir.path()), "log_changed");
}

#[test]
fn a_store_that_does_not_open_halts_its_task_alone() {
    let dir = scratch();
    let world = World::new(Options::default());
    std::fs::write(dir.path().join("p0"), "no directory").unwrap();
    only_partition_0_halts(&world, world.member("a", dir.path()), "store");
}

/// A registry that answers only while it is up.
#[derive(Default)]
pub struct Registry(pub AtomicBool);

impl Registry {
    fn answer<T>(&self, answer: T) -> Result<T, RegistryError> {
        if self.0.load(Ordering::SeqCst) { Ok(answer) } else { Err(RegistryError("is away".into())) }
    }
}

const RECORDS: [RecordType; 4] =
    [RecordType::UsageEvent, RecordType::LimitDecision, RecordType::Heartbeat, RecordType::Alert];

impl SchemaRegistry for Registry {
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError> {
        self.answer(RECORDS.get(id as usize - 1).map(|record| record.avsc().into()))
    }
    fn register(&self, subject: &str, _: &str) -> Result<u32, RegistryError> {
        let place = RECORDS.iter().position(|record| record.subject() == subject).unwrap();
        self.answer(u32::try_from(place + 1).unwrap())
    }
}

/// Turns until `done`, for as long as a worker waits between two questions at most.
pub fn turn_until(world: &World, member: &mut Member, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        let left = (world.log.committed(0), decisions(world, 0), member.health.tasks());
        assert!(Instant::now() < deadline, "it does not go on: {left:?}");
        member.turn().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_registry_that_is_away_dead_letters_nothing_and_its_partition_goes_on_later() {
    let registry = Arc::new(Registry::default());
    let (dir, world) = (scratch(), World::new(Options { registry: Some(registry.clone()), ..Options::default() }));
    let mut member = world.member("a", dir.path());
    let json = usage("framed", &hard(), "2", START).to_string();
    let mut framed = Vec::new();
    let event = Decoder::new(None).usage(json.as_bytes()).map(|event| {
        encode_event(&event, ValueEncoding::Framed(1), &mut framed);
    });
    event.unwrap();
    world.spend("before", &hard(), "1");
    world.put_raw("usage", 0, Some(&hard()), Some(&framed));
    world.spend("after", &hard(), "4");
    world.spend("elsewhere", &soft(), "1");
    member.settle().unwrap();
    assert!(committed(&world, 0) <= 1, "the framed record is not passed");
    assert_eq!(committed(&world, 1), end(&world, 1), "the other partition goes on");
    registry.0.store(true, Ordering::SeqCst);
    world.put(POLICIES, &policy(&hard(), "7"));
    turn_until(&world, &mut member, || {
        decisions(&world, 0).last().is_some_and(|(_, last)| last.figures.used.0 == 7_000_000)
    });
    assert!(world.log.records(OutputTopic::DeadLetters, 0).is_empty());
    check_levels(&world, 0);
}

#[test]
fn outputs_whose_schema_cannot_be_registered_are_published_once_when_it_can() {
    let registry = Arc::new(Registry::default());
    let options =
        Options { registry: Some(registry.clone()), encoding: OutputEncoding::Registry, ..Options::default() };
    let (dir, world) = (scratch(), World::new(options));
    let mut member = world.member("a", dir.path());
    world.put(POLICIES, &policy(&hard(), "10"));
    for (id, credits) in [("one", "8"), ("two", "1.5"), ("three", "5")] {
        world.spend(id, &hard(), credits);
        member.settle().unwrap();
    }
    world.put_raw("usage", 0, None, Some(b"bad"));
    member.settle().unwrap();
    assert_eq!(world.log.committed(0), None, "nothing can be said");
    registry.0.store(true, Ordering::SeqCst);
    member.settle().unwrap();
    assert_eq!(world.log.records(OutputTopic::DeadLetters, 0).len(), 1);
    let levels = decisions(&world, 0);
    assert!(levels.windows(2).all(|pair| pair[0].1.level != pair[1].1.level));
    assert!(levels.windows(2).all(|pair| pair[0].1.version < pair[1].1.version));
    assert_eq!(levels.last().unwrap().1.level.level, 100);
    let alerts = world.log.records(OutputTopic::Alerts, 0).len();
    assert_eq!(alerts, levels.len() - 1, "each change but the first decision alerts once");
}

#[test]
fn bad_terms_are_dead_letters_and_misplaced_terms_bind_their_org_all_the_same() {
    let dir = scratch();
    let world = before(dir.path());
    let dead = |partition| world.log.records(OutputTopic::DeadLetters, partition).len();
    assert_eq!((dead(0), dead(1)), (1, 1));
    let blocked = alerts(&world, 1).into_iter().filter(|alert| alert["org_id"] == org_in(1, 2).as_str());
    let kinds: Vec<_> = blocked.map(|alert| alert["kind"].clone()).collect();
    assert_eq!(kinds, ["BLOCKED"], "1 credit was allowed and 2 were spent");
}

#[test]
fn the_end_of_a_period_unblocks_without_any_usage() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = world.member("a", dir.path());
    world.put(POLICIES, &policy(&hard(), "1"));
    world.spend("all", &hard(), "1");
    world.spend("free", &free(), "1");
    member.settle().unwrap();
    world.set_now(START.plus_micros(11 * 24 * HOUR));
    member.settle().unwrap();
    let kinds: Vec<_> = alerts(&world, 0).iter().map(|alert| alert["kind"].clone()).collect();
    assert_eq!(kinds, ["BLOCKED", "UNBLOCKED"]);
    check_levels(&world, 0);
}
