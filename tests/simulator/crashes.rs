//! Whatever call of a port a worker dies at, and whatever becomes of its stores: rows, last decisions, dead letters and
//! forwards are those of a run in which nothing went wrong.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::in_memory::Fault;
use tallyman::domain::usage::reject::Reason;

use crate::judge::{Outcome, outcome};
use crate::scenario::{PHASES, Phase};
use crate::support::{Member, Options, PARTITIONS, Stop, World, scratch};

/// What becomes of the stores of a worker that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// All that was committed to them is there.
    Kept,
    /// What was not flushed is gone: they are older.
    Older,
    /// They are gone.
    Deleted,
}

/// A run of all phases and a hand-over; `fault` is what goes wrong at which step.
pub fn run(options: &Options, fault: Option<(u64, Fault)>, stores: Stores) -> (World, Outcome) {
    run_phases(PHASES, options, fault, stores)
}

/// A run of those phases and a hand-over.
pub fn run_phases(
    phases: &[Phase],
    options: &Options,
    fault: Option<(u64, Fault)>,
    stores: Stores,
) -> (World, Outcome) {
    let dir = scratch();
    let world = World::new(options.clone());
    if let Some((step, fault)) = fault {
        world.log.fault_at(step, fault);
    }
    let mut lives = 1;
    let mut member = world.member("life/1", dir.path());
    for phase in phases {
        phase(&world, &member.client);
        while let Err(stop) = member.settle() {
            member = next_life(&world, member, &stop, &mut lives, (dir.path(), stores));
        }
    }
    let all: Vec<i32> = (0..PARTITIONS).collect();
    while let Err(stop) = member.release(&all) {
        member = next_life(&world, member, &stop, &mut lives, (dir.path(), stores));
        member.settle().unwrap();
    }
    drop(member);
    let outcome = outcome(&world, dir.path());
    (world, outcome)
}

/// The worker is dead: another one takes over on what is left of the stores.
fn next_life(world: &World, dead: Member, stop: &Stop, lives: &mut u32, (dir, stores): (&Path, Stores)) -> Member {
    if let Stop::Error(error) = stop {
        panic!("the worker gave up: {error}");
    }
    *lives += 1;
    let copy = scratch();
    if stores == Stores::Older {
        copy_all(dir, copy.path());
    }
    let client = dead.client.clone();
    drop(dead);
    if stores != Stores::Kept {
        std::fs::remove_dir_all(dir).unwrap();
        std::fs::create_dir(dir).unwrap();
        copy_all(copy.path(), dir);
    }
    world.log.gone(&client);
    world.member(&format!("life/{lives}"), dir)
}

/// Copies files as they lie on disk: of an open store, all but its write buffers. RocksDB may be tidying up behind it;
/// then it is done again.
fn copy_all(from: &Path, to: &Path) {
    for store in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (store.path(), to.join(store.file_name()));
        while !copy(&from, &to).unwrap_or(false) {}
    }
}

/// Whether it was copied as it was at one moment.
fn copy(from: &Path, to: &Path) -> std::io::Result<bool> {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to)?;
    let before = listing(from)?;
    for (name, _) in &before {
        std::fs::copy(from.join(name), to.join(name))?;
    }
    Ok(before == listing(from)?)
}

fn listing(dir: &Path) -> std::io::Result<BTreeSet<(OsString, u64)>> {
    std::fs::read_dir(dir)?
        .map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?.len()))))
        .collect()
}

/// Runs `check` for each of `steps` on three threads.
fn each(steps: &[u64], check: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(&step) = steps.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap()) {
                    check(step);
                }
            });
        }
    });
}

/// A scenario: its run with what goes wrong at which step, and what becomes of the stores of who dies.
pub type Scenario = fn(&Options, Option<(u64, Fault)>, Stores) -> (World, Outcome);

/// Lets the worker die at each step of a scenario of at least `steps_min` steps.
pub fn crash_everywhere(run: Scenario, options: &Options, stores: Stores, steps_min: usize) {
    let (reference, expected) = run(options, None, stores);
    let steps: Vec<u64> = (0..reference.log.steps()).collect();
    assert!(steps.len() > steps_min);
    fail_at(run, options, stores, Fault::Crash, (&steps, &expected));
}

/// Lets each transaction of a scenario fail in each way.
pub fn fail_every_transaction(run: Scenario, options: &Options) {
    let (reference, expected) = run(options, None, Stores::Kept);
    let calls = (0..).zip(reference.log.calls());
    let steps: Vec<u64> = calls.filter(|(_, call)| *call == "transact").map(|(step, _)| step).collect();
    for fault in [Fault::Abort, Fault::AbortUnanswered, Fault::CommitUnanswered] {
        fail_at(run, options, Stores::Kept, fault, (&steps, &expected));
    }
}

fn fail_at(run: Scenario, options: &Options, stores: Stores, fault: Fault, (steps, expected): (&[u64], &Outcome)) {
    each(steps, |step| {
        let (world, found) = run(options, Some((step, fault)), stores);
        assert!(!world.log.has_faults(), "step {step} was never reached");
        assert_eq!(found, *expected, "{stores:?}: {fault:?} at step {step}");
    });
}

#[test]
fn the_scenario_holds_every_kind_of_dead_letter_and_a_forward_of_each_topic() {
    let (_, found) = run(&Options::default(), None, Stores::Kept);
    let reasons: BTreeSet<&str> = found.dead.iter().map(|letter| letter.3.as_str()).collect();
    assert_eq!(reasons, Reason::ALL.iter().map(|reason| reason.as_str()).collect());
    let topics: BTreeSet<&str> = found.forwards.iter().map(|letter| letter.0.as_str()).collect();
    assert_eq!(topics, BTreeSet::from(["policies", "usage"]));
    assert_eq!(found.last.len(), 6, "{:?}", found.last.keys());
    assert!(found.rows.iter().all(|rows| rows.lines().count() > 10));
}

#[test]
fn a_crash_at_any_step_changes_nothing_when_the_stores_are_kept() {
    crash_everywhere(run, &Options::default(), Stores::Kept, 80);
}

#[test]
fn a_crash_at_any_step_changes_nothing_when_the_stores_come_back_older() {
    crash_everywhere(run, &Options::default(), Stores::Older, 80);
}

#[test]
fn a_crash_at_any_step_changes_nothing_when_the_stores_are_deleted() {
    crash_everywhere(run, &Options::default(), Stores::Deleted, 80);
}

#[test]
fn a_transaction_that_fails_or_is_not_answered_for_changes_nothing() {
    fail_every_transaction(run, &Options::default());
}
