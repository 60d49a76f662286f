//! A disk that refuses a partition's files: its task halts, says what is so, and goes on by itself when the disk takes them
//! again. Nothing is lost or counted twice. `tests/e2e/disk.rs` does it on a disk that is really full.

use std::fs;
use std::path::Path;

use crate::in_memory::USAGE;
use serde_json::json;
use tallyman::store::StoreMemory;
use tallyman::telemetry::TaskState;

use crate::halts::{committed, end, turn_until};
use crate::scenario::{hard, soft, usage, with};
use crate::support::{Member, Options, World, scratch};

/// So many events fill the write buffers of a store several times, in the least memory that stores take.
const ENOUGH: usize = 100_000;

/// Turns until every partition has caught up.
fn goes_on(world: &World, member: &mut Member) {
    let health = member.health.clone();
    turn_until(world, member, || health.tasks().iter().all(|(_, state)| *state == TaskState::CaughtUp));
}

/// The rows of a partition are what a new store folds of the whole log.
fn check_rows(world: &World, dir: &Path) {
    let anew = scratch();
    let mut member = world.member("anew", anew.path());
    member.settle().unwrap();
    member.release(&[0, 1]).unwrap();
    for partition in 0..2 {
        assert_eq!(world.dump(dir, partition), world.dump(anew.path(), partition), "partition {partition}");
    }
}

#[test]
fn a_store_that_cannot_be_opened_is_tried_again_until_it_can() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let place = dir.path().join("p0");
    fs::write(&place, "no directory").unwrap();
    let mut member = world.member("a", dir.path());
    world.spend("stands-still", &hard(), "0.5");
    world.spend("goes-on", &soft(), "0.5");
    member.settle().unwrap();
    let (reason, message) = member.halt_of(0).unwrap();
    assert_eq!(reason, "store");
    assert!(message.contains("opened again") && message.contains("goes on by itself"), "{message}");
    assert_eq!(committed(&world, 1), end(&world, 1), "the other partition goes on");
    assert_eq!(committed(&world, 0), 0);

    fs::remove_file(&place).unwrap();
    goes_on(&world, &mut member);
    member.release(&[0, 1]).unwrap();
    assert_eq!(committed(&world, 0), end(&world, 0));
    check_rows(&world, dir.path());
}

#[test]
fn a_disk_that_takes_no_file_halts_its_partition_which_goes_on_when_it_takes_them_again() {
    let dir = scratch();
    let mut world = World::new(Options { batch: 500, flush_rows: 5_000, ..Options::default() });
    world.memory = StoreMemory::new(0);
    let mut member = world.member("a", dir.path());
    world.spend("before", &hard(), "0.5");
    member.settle().unwrap();
    // RocksDB names its files by their whole path: from now on it can make none.
    let (place, aside) = (dir.path().join("p0"), dir.path().join("aside"));
    fs::rename(&place, &aside).unwrap();
    fs::write(&place, "no directory").unwrap();
    let long = "x".repeat(200);
    let mut spent = 0;
    while member.halt_of(0).is_none() {
        assert!(spent < ENOUGH, "a disk that takes no file was not noticed");
        for _ in 0..500 {
            let values = json!({"user_id": format!("{spent}-{long}"), "model": format!("{spent}-{long}")});
            world.put(USAGE, &with(usage(&format!("e{spent}"), &hard(), "0.5", world.now()), &values));
            spent += 1;
        }
        member.settle().unwrap();
    }
    let (reason, message) = member.halt_of(0).unwrap();
    assert_eq!(reason, "store");
    assert!(message.contains("goes on by itself"), "{message}");
    world.spend("meanwhile", &soft(), "0.5");
    member.settle().unwrap();
    assert_eq!(committed(&world, 1), end(&world, 1), "the other partition goes on");

    fs::remove_file(&place).unwrap();
    fs::rename(&aside, &place).unwrap();
    goes_on(&world, &mut member);
    member.release(&[0, 1]).unwrap();
    assert_eq!(committed(&world, 0), end(&world, 0));
    check_rows(&world, dir.path());
}
