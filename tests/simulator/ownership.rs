//! Who speaks for a partition: fencing, zombies, and the difference between letting go and having lost.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use crate::in_memory::{Fault, InMemorySink, InMemorySource, POLICIES, USAGE};
use serde_json::json;
use tallyman::domain::limits::decision::Action;
use tallyman::processor::ports::{CommitOffset, Output, OutputTopic, PortError, Rebalance, Sink, TransactError};

use crate::judge::{check_levels, decisions, heartbeats};
use crate::scenario::{PHASES, buyer, free, grant, hard, home, policy, soft, usage};
use crate::support::{GROUP, HOUR, Member, Options, PARTITIONS, START, World, scratch};

/// Records of all output topics.
fn published(world: &World) -> usize {
    let topics = [OutputTopic::Decisions, OutputTopic::Alerts, OutputTopic::DeadLetters];
    let of = |partition| topics.map(|topic| world.log.records(topic, partition).len()).iter().sum::<usize>();
    (0..PARTITIONS).map(of).sum()
}

fn after_first_usage(world: &World, dir: &Path) -> Member {
    let mut member = world.member("a", dir);
    for phase in &PHASES[..2] {
        phase(world, "a");
        member.settle().unwrap();
    }
    member
}

#[test]
fn a_gone_owners_open_transaction_is_ended_before_the_committed_offset_is_read() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = after_first_usage(&world, dir.path());
    world.spend("more", &hard(), "100");
    world.spend("more", &free(), "1");
    // A turn is a poll and a transaction: the crash is between its records and its commit.
    world.put_raw("usage", 0, None, Some(b"bad"));
    world.log.fault_at(world.log.steps() + 2, Fault::Crash);
    member.settle().unwrap_err();
    drop(member);
    world.log.gone("a");
    let before = world.log.calls().len();
    world.member("b", dir.path()).settle().unwrap();
    let calls = world.log.calls()[before..].to_vec();
    let recovery =
        ["poll", "last_committed", "fence", "stable_committed", "read_control", "read_control", "accept"];
    assert_eq!(calls[..recovery.len()], recovery);
    assert_eq!(world.log.records(OutputTopic::DeadLetters, 0).len(), 2, "the bad record and the bad policy");
}

#[test]
fn an_owner_that_is_still_a_member_is_not_fenced() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = after_first_usage(&world, dir.path());
    member.release(&[0, 1]).unwrap();
    world.member("b", dir.path()).settle().unwrap();
    assert!(!world.log.calls().contains(&"fence"));
}

#[test]
fn a_replay_that_ends_in_a_transactions_marker_is_over_when_the_next_record_comes() {
    let (dir, world) = (scratch(), World::new(Options { batch: 1000, ..Options::default() }));
    let mut member = after_first_usage(&world, dir.path());
    member.release(&[0, 1]).unwrap();
    let last = world.log.records(OutputTopic::Usage, 0).last().unwrap().offset;
    assert!(last + 1 < world.log.committed(0).unwrap().offset, "partition 0 ends with a forward and its marker");
    drop(member);
    world.spend("next", &hard(), "1");
    let anew = scratch();
    let mut member = world.member("b", anew.path());
    member.settle().unwrap();
    member.release(&[0, 1]).unwrap();
    assert_eq!(world.log.committed(0).unwrap().offset, end(&world, 0));
}

/// A producer that sleeps before one transaction while the world goes on.
struct Sleeper {
    sink: InMemorySink,
    meanwhile: Option<Box<dyn FnOnce()>>,
    /// What became of the transaction.
    failed: Rc<Cell<bool>>,
}

impl Sink for Sleeper {
    type Membership = String;

    fn transact(
        &mut self,
        outputs: &[Output],
        offsets: &[CommitOffset],
        membership: &String,
    ) -> Result<(), TransactError> {
        let marked = outputs.iter().any(|output| output.topic == OutputTopic::DeadLetters);
        if marked && let Some(meanwhile) = self.meanwhile.take() {
            meanwhile();
            let result = self.sink.transact(outputs, offsets, membership);
            self.failed.set(matches!(result, Err(TransactError::Fenced(_))));
            return result;
        }
        self.sink.transact(outputs, offsets, membership)
    }

    fn fence(&mut self, transactional_id: &str) -> Result<(), PortError> {
        self.sink.fence(transactional_id)
    }

    fn renew(&mut self) -> Result<(), PortError> {
        self.sink.renew()
    }

    fn transactional_id(&self) -> &str {
        self.sink.transactional_id()
    }

    fn client_id(&self) -> &str {
        self.sink.client_id()
    }
}

#[test]
fn a_worker_that_slept_while_another_took_over_is_fenced_and_publishes_nothing() {
    let (dir, other_dir) = (scratch(), scratch());
    let world = Rc::new(World::new(Options::default()));
    let failed = Rc::new(Cell::new(false));
    let (theirs, other) = (Rc::clone(&world), other_dir.path().to_owned());
    let meanwhile = move || {
        theirs.log.gone("a");
        let mut heir = theirs.member("b", &other);
        heir.settle().unwrap();
        heir.release(&[0, 1]).unwrap();
    };
    let sink = Sleeper {
        sink: InMemorySink::new(&world.log, GROUP, "a"),
        meanwhile: Some(Box::new(meanwhile)),
        failed: Rc::clone(&failed),
    };
    let (mut worker, health) = world.worker((InMemorySource::new(&world.log, "a", 7), sink), dir.path());
    world.log.rebalance("a", Rebalance::Assigned(vec![0, 1]));
    let [terms, first_usage, ..] = PHASES else { panic!("no phases") };
    first_usage(&world, "a");
    for _ in 0..20 {
        worker.turn().unwrap();
    }
    let committed = world.log.committed(0);
    terms(&world, "a");
    for _ in 0..20 {
        if !failed.get() {
            worker.turn().unwrap();
        }
    }
    assert!(failed.get(), "it was not fenced");
    let (spoken, heirs) = (published(&world), world.log.committed(0));
    assert_ne!(heirs, committed, "the heir has spoken");
    for _ in 0..20 {
        worker.turn().unwrap();
    }
    assert_eq!((published(&world), world.log.committed(0)), (spoken, heirs));
    assert!(health.tasks().is_empty(), "it knows that it lost all");
    (0..PARTITIONS).for_each(|partition| check_levels(&world, partition));
}

/// Something is folded that nothing asked to publish.
fn with_unpublished(world: &World, dir: &Path) -> Member {
    let mut member = after_first_usage(world, dir);
    world.spend("quiet", &free(), "1");
    member.settle().unwrap();
    assert!(world.log.committed(0).unwrap().offset < end(world, 0));
    member
}

fn end(world: &World, partition: i32) -> i64 {
    world.log.end(OutputTopic::Usage, partition)
}

#[test]
fn revoked_partitions_are_published_and_persisted_before_they_are_let_go() {
    let (dir, world) = (scratch(), World::new(Options { flush_rows: usize::MAX, ..Options::default() }));
    let mut member = with_unpublished(&world, dir.path());
    member.release(&[0]).unwrap();
    assert_eq!(world.log.committed(0).unwrap().offset, end(&world, 0));
    let store = world.store(dir.path(), 0).unwrap();
    assert_eq!(store.meta().unwrap().position, end(&world, 0));
}

#[test]
fn what_is_taken_away_while_a_transaction_failed_is_let_go_before_the_rest_is_recovered() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = after_first_usage(&world, dir.path());
    member.settle().unwrap();
    world.spend("newcomer", "newcomer", "1");
    // A turn polls, then publishes.
    world.log.fault_at(world.log.steps() + 1, Fault::Abort);
    member.turn().unwrap();
    assert_eq!(world.log.calls().last(), Some(&"transact"), "nothing was published");
    assert!(!world.log.has_faults());
    world.log.rebalance("a", Rebalance::Lost(vec![0]));
    member.settle().unwrap();
    assert_eq!(member.health.tasks().iter().map(|(partition, _)| *partition).collect::<Vec<_>>(), [1]);
    assert_eq!(world.log.committed(1).unwrap().offset, world.log.end(OutputTopic::Usage, 1));
    check_levels(&world, 1);
}

#[test]
fn what_still_gathers_is_decided_and_goes_out_with_its_position_when_it_is_let_go() {
    let options = Options { gather: Duration::from_hours(1), ..Options::default() };
    let (dir, world) = (scratch(), World::new(options));
    world.put(POLICIES, &policy(&hard(), "10"));
    let mut member = world.member("a", dir.path());
    member.settle().unwrap();
    let of_org = || decisions(&world, home(&hard())).into_iter().filter(|(key, _)| *key == hard());
    world.spend("much", &hard(), "11");
    member.settle().unwrap();
    let before: Vec<_> = of_org().map(|(_, decision)| decision.level.action).collect();
    assert!(!before.contains(&Action::Block), "it gathers: {before:?}");

    member.release(&(0..PARTITIONS).collect::<Vec<_>>()).unwrap();
    let (_, last) = of_org().next_back().unwrap();
    assert_eq!((last.level.action, last.cause.event_id.as_deref()), (Action::Block, Some("much")));
    check_levels(&world, home(&hard()));
}

#[test]
fn a_record_that_changed_nothing_is_not_the_cause_of_what_terms_do_later() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let org = buyer();
    world.put(POLICIES, &policy(&org, "100"));
    // Its start cuts the period in two segments: usage before it makes the org wait for a flush.
    world.put(POLICIES, &grant("pack", "2", &json!({"effective_at": START.plus_micros(-HOUR).micros()})));
    let mut member = world.member("a", dir.path());
    member.settle().unwrap();
    world.put(USAGE, &usage("late", &org, "5", START.plus_micros(-3 * HOUR)));
    member.settle().unwrap();
    for number in 0..3 {
        world.spend(&format!("r{number}"), &org, "1");
        member.settle().unwrap();
    }
    world.put(POLICIES, &policy(&org, "1"));
    member.settle().unwrap();
    let (_, last) = decisions(&world, home(&org)).into_iter().rfind(|(key, _)| *key == org).unwrap();
    assert_eq!(last.level.action, Action::Block);
    assert_eq!((last.cause.record, last.cause.event_id), (None, None));
    assert!(last.cause.policy_offset.is_some());
}

#[test]
fn a_partition_that_wants_a_flush_turn_after_turn_keeps_no_other_from_its_own() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    world.put(POLICIES, &policy(&buyer(), "100"));
    world.put(POLICIES, &grant("pack", "2", &json!({"effective_at": START.plus_micros(-HOUR).micros()})));
    let mut member = world.member("a", dir.path());
    member.settle().unwrap();
    // New terms wait for a flush; the other partition has usage from before its segment in every turn.
    world.put(POLICIES, &policy(&soft(), "0"));
    assert_ne!(home(&soft()), home(&buyer()));
    for number in 0..8 {
        world.put(USAGE, &usage(&format!("late-{number}"), &buyer(), "0.1", START.plus_micros(-3 * HOUR)));
        member.turn().unwrap();
    }
    let of_soft = decisions(&world, home(&soft())).into_iter().rfind(|(key, _)| *key == soft());
    assert_eq!(of_soft.unwrap().1.level.action, Action::Block);
}

#[test]
fn lost_partitions_are_dropped_without_a_word() {
    let (dir, world) = (scratch(), World::new(Options { flush_rows: usize::MAX, ..Options::default() }));
    let mut member = with_unpublished(&world, dir.path());
    let (spoken, committed) = (published(&world), world.log.committed(0));
    world.log.rebalance("a", Rebalance::Lost(vec![0, 1]));
    member.turn().unwrap();
    assert_eq!((published(&world), world.log.committed(0)), (spoken, committed.clone()));
    let store = world.store(dir.path(), 0).unwrap();
    assert!(store.meta().is_none_or(|meta| meta.position <= committed.unwrap().offset));
}

#[test]
fn each_partition_has_a_heartbeat_with_its_log_time_as_soon_as_it_is_spoken_for() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    world.spend("one", &free(), "1");
    world.member("a", dir.path()).settle().unwrap();
    for partition in 0..PARTITIONS {
        let beats = heartbeats(&world, partition);
        let mut decoder = tallyman::codec::Decoder::new(None);
        let beat = decoder.heartbeat(beats[0].value.as_ref().unwrap()).unwrap();
        assert_eq!((beats.len(), beat.partition, beat.at), (1, partition, START));
        assert_eq!(beat.log_time == START, partition == 0, "log time is told where there was a record");
    }
}
