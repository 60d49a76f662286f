//! A log, terms, a control topic or offsets other than those that O* spoke of: the task halts, names both sides and a way
//! out, and the way out works (Laws 3, 5 and 8).

use std::collections::BTreeSet;
use std::path::Path;

use crate::in_memory::POLICIES;
use tallyman::processor::ports::OutputTopic;
use tallyman::processor::settings::AdoptFrom;

use crate::halts::{before, committed, end};
use crate::judge::decisions;
use crate::scenario::{hard, policy, usage};
use crate::support::{START, World, scratch};

/// A worker on `dir` halts partition 0 for `reason`; its message.
fn halts(world: &World, dir: &Path, reason: &str) -> String {
    let mut member = world.member("b", dir);
    member.settle().unwrap();
    let (found, message) = member.halt_of(0).unwrap_or_else(|| panic!("it does not halt for {reason}"));
    assert_eq!(found, reason, "{message}");
    let still = world.log.committed(0);
    member.release(&[0, 1]).unwrap();
    assert_eq!(world.log.committed(0), still, "a halted partition publishes nothing");
    message
}

/// With `--adopt-from` partition 0 goes on to the log's end; without it, it goes on the next time.
fn goes_on(world: &mut World, dir: &Path, adopt: AdoptFrom) {
    world.options.adopt = Some(adopt);
    for adopt in [Some(adopt), None] {
        world.options.adopt = adopt;
        let mut member = world.member("c", dir);
        world.spend(&format!("after {adopt:?}"), &hard(), "0.5");
        member.settle().unwrap();
        assert_eq!(member.halt_of(0), None, "{adopt:?}");
        member.release(&[0, 1]).unwrap();
        assert_eq!(committed(world, 0), end(world, 0), "{adopt:?}");
    }
}

#[test]
fn without_a_store_a_log_that_has_shrunk_halts_and_adopting_it_accepts_the_loss() {
    let (dir, anew) = (scratch(), scratch());
    let mut world = before(dir.path());
    world.log.truncate(0, 1);
    let message = halts(&world, anew.path(), "log_truncated");
    assert!(message.contains("begins at offset 1 where 0 was folded first"), "{message}");
    // The store holds what is gone: with it nothing is missing.
    world.member("d", dir.path()).settle().unwrap();
    goes_on(&mut world, anew.path(), AdoptFrom::End);
}

#[test]
fn a_log_that_was_cut_and_grew_again_beyond_an_older_store_halts() {
    let (dir, older) = (scratch(), scratch());
    let world = World::new(crate::support::Options::default());
    world.spend("first", &hard(), "1");
    let mut member = world.member("a", older.path());
    member.settle().unwrap();
    member.release(&[0, 1]).unwrap();
    // Another instance folds and publishes more, with a store of its own.
    world.spend("second", &hard(), "1");
    let mut member = world.member("b", dir.path());
    member.settle().unwrap();
    member.release(&[0, 1]).unwrap();
    let last = end(&world, 0) - 1;
    let other = usage("another", &hard(), "7", START).to_string();
    world.log.forge(OutputTopic::Usage, 0, last, other.as_bytes());
    let message = halts(&world, older.path(), "log_changed");
    assert!(message.contains(&format!("the record at offset {last} is not the one")), "{message}");
}

#[test]
fn a_record_that_changed_below_the_committed_offset_is_found_when_the_replay_ends() {
    let (dir, anew) = (scratch(), scratch());
    let mut world = before(dir.path());
    let first = world.log.records(OutputTopic::Usage, 0)[0].offset;
    let other = usage("another", &hard(), "0.25", START).to_string();
    world.log.forge(OutputTopic::Usage, 0, first, other.as_bytes());
    let message = halts(&world, anew.path(), "log_differs");
    assert!(message.contains("credits ") && message.contains(", now "), "{message}");
    goes_on(&mut world, scratch().path(), AdoptFrom::End);
}

#[test]
fn terms_that_are_no_longer_what_was_read_halt_with_a_store_and_without() {
    for has_store in [true, false] {
        let (dir, anew) = (scratch(), scratch());
        let mut world = before(dir.path());
        let terms = world.log.records(OutputTopic::Policies, 0);
        let last = terms.last().unwrap().offset;
        world.log.forge(OutputTopic::Policies, 0, last, policy(&hard(), "99").to_string().as_bytes());
        halts(&world, if has_store { dir.path() } else { anew.path() }, "policies_changed");
        goes_on(&mut world, scratch().path(), AdoptFrom::Store);
    }
}

#[test]
fn terms_that_a_replay_refuses_and_that_were_taken_before_halt_it() {
    let (dir, anew) = (scratch(), scratch());
    let world = before(dir.path());
    let first = world.log.records(OutputTopic::Policies, 0)[0].offset;
    world.log.forge(OutputTopic::Policies, 0, first, b"no terms");
    let message = halts(&world, anew.path(), "log_differs");
    assert!(message.contains("terms "), "{message}");
}

#[test]
fn a_policies_topic_that_was_recreated_halts() {
    let (dir, anew) = (scratch(), scratch());
    let world = before(dir.path());
    world.log.recreate(OutputTopic::Policies, 0);
    halts(&world, anew.path(), "policies_changed");
}

#[test]
fn a_control_topic_that_was_emptied_halts_and_adopting_it_publishes_every_decision_anew() {
    let (dir, anew) = (scratch(), scratch());
    let mut world = before(dir.path());
    let scopes: BTreeSet<String> = decisions(&world, 0).into_iter().map(|(key, _)| key).collect();
    world.log.recreate(OutputTopic::Decisions, 0);
    let message = halts(&world, dir.path(), "control_emptied");
    assert!(message.contains("transactions published decisions"), "{message}");
    halts(&world, anew.path(), "control_emptied");
    let letters = world.log.records(OutputTopic::DeadLetters, 0).len();
    world.put_raw("usage", 0, None, Some(b"bad, and never published"));
    goes_on(&mut world, dir.path(), AdoptFrom::End);
    assert_eq!(
        world.log.records(OutputTopic::DeadLetters, 0).len(),
        letters + 1,
        "O* stands: what follows it is live"
    );
    let again: BTreeSet<String> = decisions(&world, 0).into_iter().map(|(key, _)| key).collect();
    assert_eq!(again, scopes);
}

#[test]
fn offsets_that_a_tool_reset_are_named_as_that_and_both_ways_out_work() {
    for adopt in [AdoptFrom::Store, AdoptFrom::End] {
        let dir = scratch();
        let mut world = before(dir.path());
        world.log.reset_offsets(0);
        let message = halts(&world, dir.path(), "offset_reset");
        assert!(message.contains("a tool reset the group's offsets") && message.contains("--adopt-from end"));
        let spoken = decisions(&world, 0).len();
        goes_on(&mut world, dir.path(), adopt);
        assert!(decisions(&world, 0).len() <= spoken + 2, "no more than what the new usage changed");
    }
}

#[test]
fn a_log_that_was_recreated_goes_on_after_a_rebuild_and_an_adoption() {
    let dir = scratch();
    let mut world = before(dir.path());
    world.log.recreate(OutputTopic::Usage, 0);
    let message = halts(&world, dir.path(), "log_changed");
    assert!(message.contains("tallyman rebuild --partition 0"), "{message}");
    let rebuilt = scratch();
    let message = halts(&world, rebuilt.path(), "log_changed");
    assert!(message.contains("--adopt-from end"), "{message}");
    goes_on(&mut world, rebuilt.path(), AdoptFrom::End);
}

#[test]
fn adopting_the_end_without_a_store_writes_the_store_while_it_replays() {
    let (dir, anew) = (scratch(), scratch());
    let mut world = before(dir.path());
    for number in 0..200 {
        world.spend(&format!("long {number}"), &hard(), "0.01");
    }
    world.log.expire_offsets();
    world.options.adopt = Some(AdoptFrom::End);
    let mut member = world.member("b", anew.path());
    // A batch has seven records: the replay is not over.
    for _ in 0..12 {
        member.turn().unwrap();
    }
    member.release(&[0, 1]).unwrap();
    let position = world.store(anew.path(), 0).unwrap().meta().map(|meta| meta.position);
    assert!(position.is_some_and(|position| position > 30 && position < end(&world, 0)), "{position:?}");
    goes_on(&mut world, anew.path(), AdoptFrom::End);
}

#[test]
fn metadata_of_the_first_version_still_reads() {
    let dir = scratch();
    let world = before(dir.path());
    world.log.strip_checksums();
    let mut member = world.member("b", dir.path());
    world.put(POLICIES, &policy(&hard(), "50"));
    member.settle().unwrap();
    member.release(&[0, 1]).unwrap();
    assert_eq!(committed(&world, 0), end(&world, 0));
    assert!(world.log.committed(0).unwrap().metadata.starts_with("tallyman2 "));
}

#[test]
fn a_log_truncated_past_the_committed_offset_is_adopted_and_only_what_is_left_is_published() {
    let (dir, anew) = (scratch(), scratch());
    let mut world = before(dir.path());
    world.put_raw("policies", 0, Some(&hard()), Some(b"no terms"));
    let mut member = world.member("a", dir.path());
    member.settle().unwrap();
    member.release(&[0, 1]).unwrap();
    let letters = world.log.records(OutputTopic::DeadLetters, 0).len();
    assert!(letters > 0, "the policies' dead letter is published");
    world.spend("gone", &hard(), "1");
    world.put_raw("usage", 0, None, Some(b"bad, and never published"));
    world.spend("left", &hard(), "1");
    world.log.truncate(0, end(&world, 0) - 2);
    let message = halts(&world, dir.path(), "log_truncated");
    assert!(message.contains("--adopt-from store"), "{message}");
    goes_on(&mut world, anew.path(), AdoptFrom::Store);
    assert_eq!(world.log.records(OutputTopic::DeadLetters, 0).len(), letters + 1);
}
