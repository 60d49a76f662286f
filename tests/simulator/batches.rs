//! Batches, flushes and the moment at which terms arrive are nobody's business: rows and last levels are the same.

use crate::in_memory::{POLICIES, USAGE};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tallyman::domain::credits::CreditSum;

use crate::crashes::{Stores, run};
use crate::judge::{Outcome, outcome};
use crate::scenario::{free, hard, policy, soft, usage, with};
use crate::support::{HOUR, Options, START, World, scratch};

#[test]
fn batches_of_any_size_and_flushes_at_any_time_give_the_same_rows_to_the_byte() {
    let (_, expected) = run(&Options::default(), None, Stores::Kept);
    for batch in [1, 2, 7, 1000] {
        for (flush_rows, working_set) in [(1, 0), (1, 1 << 20), (40, 0), (usize::MAX, 0)] {
            let (_, found) =
                run(&Options { batch, flush_rows, working_set, ..Options::default() }, None, Stores::Kept);
            assert_eq!(found, expected, "batches of {batch}, flushes at {flush_rows} rows");
        }
    }
}

/// Usage and policies of three orgs, each in the order in which they were written.
fn interleaved() -> Vec<(&'static str, Value)> {
    let mut records = Vec::new();
    for number in 0_i64..40 {
        let org = [hard(), soft(), free()][usize::try_from(number % 3).unwrap()].clone();
        let at = START.plus_micros(number);
        records.push((USAGE, usage(&format!("i{number}"), &org, "0.7", at)));
        if number % 5 == 0 {
            let base = (2 + number / 3).to_string();
            let terms = json!({"effective_at": at.plus_micros(-HOUR).micros(), "anchor_day": 1 + number % 4 * 9});
            records.push((POLICIES, with(policy(&org, &base), &terms)));
        }
    }
    records
}

#[test]
fn policies_that_arrive_at_any_moment_give_the_same_last_levels() {
    let mut expected: Option<Outcome> = None;
    for seed in 0..24 {
        let mut random = SmallRng::seed_from_u64(seed);
        let (batch, dir) = (random.random_range(1..12), scratch());
        let world = World::new(Options { batch, ..Options::default() });
        world.set_now(START.plus_micros(HOUR));
        let mut member = world.member("life/1", dir.path());
        for (topic, value) in interleaved() {
            world.put(topic, &value);
            if random.random_range(0..4) == 0 {
                member.turn().unwrap();
            }
        }
        member.settle().unwrap();
        member.release(&[0, 1]).unwrap();
        let mut found = outcome(&world, dir.path());
        // What a decision says of usage is as of its instant, which batches may move.
        found.last.values_mut().for_each(|(used, _)| *used = CreditSum::ZERO);
        assert_eq!(&found, expected.get_or_insert_with(|| found.clone()), "seed {seed}");
    }
}
