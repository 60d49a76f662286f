//! What the metrics of a worker show: nothing of them may read well while it is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::in_memory::{Fault, POLICIES};
use tallyman::codec::{Decoder, ValueEncoding, encode_event};

use crate::halts::{Registry, turn_until};
use crate::scenario::{free, hard, policy, usage};
use crate::support::{HOUR, Options, START, World, scratch};

/// A sample, if it is shown.
fn sample(world: &World, name: &str) -> Option<f64> {
    let text = world.telemetry.render();
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn the_time_from_event_to_decision_is_observed_only_of_what_came_once_caught_up() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    world.put(POLICIES, &policy(&hard(), "10"));
    for number in 0..60 {
        world.spend(&format!("backlog {number}"), &hard(), "0.2");
    }
    world.set_now(START.plus_micros(HOUR));
    let mut member = world.member("a", dir.path());
    member.settle().unwrap();
    let count = "tallyman_event_to_decision_seconds_count";
    assert!(sample(&world, "tallyman_decisions_total{action=\"BLOCK\",reason=\"ALLOWANCE_SPENT\"}") >= Some(1.0));
    assert_eq!(sample(&world, count), Some(0.0), "the backlog's age is no latency");
    world.put(POLICIES, &policy(&free(), "1"));
    member.settle().unwrap();
    world.spend("live", &free(), "2");
    member.settle().unwrap();
    assert_eq!(sample(&world, count), Some(1.0));
    assert_eq!(sample(&world, "tallyman_event_to_decision_seconds_sum"), Some(0.0), "it came at this instant");
}

#[test]
fn transactions_count_by_their_outcome_and_nothing_else_counts_as_one() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    let mut member = world.member("a", dir.path());
    member.settle().unwrap();
    let outcome = |name| sample(&world, &format!("tallyman_transactions_total{{outcome=\"{name}\"}}")).unwrap();
    let committed = outcome("committed");
    for fault in [Fault::Abort, Fault::CommitUnanswered] {
        world.spend(&format!("{fault:?}"), &hard(), "1");
        world.put_raw("usage", 0, None, Some(b"bad"));
        // A turn is a poll and a transaction.
        world.log.fault_at(world.log.steps() + 1, fault);
        member.settle().unwrap();
        assert!(!world.log.has_faults(), "{fault:?} happened");
    }
    assert_eq!((outcome("aborted"), outcome("unknown"), outcome("fenced")), (1.0, 1.0, 0.0));
    assert!(outcome("committed") > committed, "what failed is published again");
}

#[test]
fn a_partition_that_waits_before_anything_is_folded_shows_what_waits_and_a_believable_age() {
    let registry = Arc::new(Registry::default());
    let (dir, world) = (scratch(), World::new(Options { registry: Some(registry.clone()), ..Options::default() }));
    let json = usage("framed", &hard(), "2", START).to_string();
    let mut framed = Vec::new();
    let event = Decoder::new(None).usage(json.as_bytes()).map(|event| {
        encode_event(&event, ValueEncoding::Framed(1), &mut framed);
    });
    event.unwrap();
    world.put_raw("usage", 0, Some(&hard()), Some(&framed));
    let mut member = world.member("a", dir.path());
    let lag = "tallyman_lag_records{partition=\"0\"}";
    turn_until(&world, &mut member, || sample(&world, lag) == Some(1.0));
    let age = sample(&world, "tallyman_lag_seconds{partition=\"0\"}").unwrap();
    assert!((0.0..60.0).contains(&age), "{age}");
    registry.0.store(true, Ordering::SeqCst);
    turn_until(&world, &mut member, || sample(&world, lag) == Some(0.0));
    assert_eq!(sample(&world, "tallyman_lag_seconds{partition=\"0\"}"), Some(0.0));
}

#[test]
fn the_lag_of_a_halted_partition_grows_with_its_log() {
    let (dir, world) = (scratch(), World::new(Options::default()));
    std::fs::write(dir.path().join("p0"), "no directory").unwrap();
    let mut member = world.member("a", dir.path());
    world.spend("one", &hard(), "1");
    let lag = "tallyman_lag_records{partition=\"0\"}";
    turn_until(&world, &mut member, || sample(&world, lag) == Some(1.0));
    assert_eq!(member.halt_of(0).unwrap().0, "store");
    for number in 0..5 {
        world.spend(&format!("more {number}"), &hard(), "1");
    }
    turn_until(&world, &mut member, || sample(&world, lag) == Some(6.0));
    assert!(sample(&world, "tallyman_lag_seconds{partition=\"0\"}") > Some(0.0));
}
