//! The cube against the naive sum: what is sealed, merged and scanned is what was added.

#[path = "../support/facts.rs"]
mod facts;
mod golden;
mod rollups;
mod support;

use std::collections::BTreeMap;

use facts::{Fact, facts_of};
use proptest::prelude::*;
use support::{Added, added, seal};
use tallyman::domain::cube::block::Block;
use tallyman::domain::cube::field_set::FieldSet;
use tallyman::domain::cube::merge::merge;
use tallyman::domain::cube::scan::{Question, Scan};
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::time::{Day, Hour};
use tallyman::domain::usage::dimension::Dimension;

/// The facts of all blocks by org, added up.
fn stored(blocks: &[(String, Day, Vec<u8>)]) -> BTreeMap<Fact, Tally> {
    let mut facts = BTreeMap::new();
    for (org, day, bytes) in blocks {
        for (fact, tally) in facts_of(org, *day, &Block::read(bytes).unwrap()) {
            facts.entry(fact).or_insert_with(Tally::new).merge(&tally);
        }
    }
    facts
}

/// All fields that are not zero, and the extremes.
fn told(facts: &BTreeMap<Fact, Tally>) -> BTreeMap<Fact, Vec<(Field, i128)>> {
    facts.iter().map(|(fact, tally)| (fact.clone(), facts::told(tally))).collect()
}

fn naive(additions: &[Added]) -> BTreeMap<Fact, Tally> {
    let mut facts: BTreeMap<Fact, Tally> = BTreeMap::new();
    for addition in additions {
        facts.entry(addition.fact.clone()).or_default().merge(&addition.tally);
    }
    facts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_was_added_is_stored_once_and_in_each_hours_totals(additions in added(60)) {
        let sealed = seal(std::slice::from_ref(&additions));
        prop_assert_eq!(told(&stored(&sealed.blocks)), told(&naive(&additions)));
        let mut totals: BTreeMap<(String, Hour), Tally> = BTreeMap::new();
        for addition in &additions {
            totals.entry((addition.fact.org.clone(), addition.fact.hour)).or_default().merge(&addition.tally);
        }
        prop_assert_eq!(sealed.totals, totals);
    }

    #[test]
    fn blocks_merge_to_the_same_bytes_however_the_log_was_cut(additions in added(80), cuts in proptest::collection::vec(0..80_usize, 0..6)) {
        let whole = seal(std::slice::from_ref(&additions)).by_day();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(additions.len())).collect();
        cuts.extend([0, additions.len()]);
        cuts.sort_unstable();
        let parts: Vec<Vec<Added>> = cuts.windows(2).map(|cut| additions[cut[0]..cut[1]].to_vec()).collect();
        for (of, blocks) in seal(&parts).by_day() {
            let read = |blocks: &[Vec<u8>]| -> Vec<Vec<u8>> {
                merge(&blocks.iter().map(|bytes| Block::read(bytes).unwrap()).collect::<Vec<_>>()).unwrap()
            };
            prop_assert_eq!(&read(&blocks), &whole[&of], "{:?}", of);
            // Tier by tier is the same.
            let halves = [read(&blocks[..blocks.len().div_ceil(2)]), read(&blocks[blocks.len() / 2..])].concat();
            if blocks.len() % 2 == 0 {
                prop_assert_eq!(&read(&halves), &whole[&of]);
            }
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_and_never_more(additions in added(20), place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (_, day, mut bytes) in seal(std::slice::from_ref(&additions)).blocks {
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let Ok(block) = Block::read(&bytes) else { continue };
            let _ = merge(std::slice::from_ref(&block));
            let fields = Field::NAMED.iter().fold(FieldSet::default(), |set, (field, _)| set.with(*field));
            let mut scan = Scan::new(Question { group: vec![Dimension::User], fields, ..Question::default() });
            let _ = scan.add(&block, day, |hour| Some(hour.0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn any_question_is_answered_as_the_naive_sum_does(
        additions in added(80),
        group in proptest::sample::subsequence(Dimension::ALL.to_vec(), 0..=3),
        filter in proptest::collection::vec((0..12_usize, proptest::collection::vec(support::value(), 1..3)), 0..3),
        bucket_hours in prop_oneof![Just(1), Just(24), Just(168), Just(7)],
        range in (0..90_i32, 0..90_i32),
    ) {
        let filter: Vec<_> = filter.into_iter().map(|(place, values)| (Dimension::ALL[place], values)).collect();
        let fields = Field::NAMED.iter().fold(FieldSet::default(), |set, (field, _)| set.with(*field)).with(Field::latency_bucket(0));
        let bucket_of = |hour: Hour| (range.0..range.1).contains(&(hour.0 - support::FIRST)).then(|| hour.0.div_euclid(bucket_hours));
        let mut expected: BTreeMap<(i32, Vec<Option<String>>), Tally> = BTreeMap::new();
        for addition in additions.iter().filter(|addition| addition.fact.org == "one") {
            let fact = &addition.fact;
            let passes = filter.iter().all(|(dimension, values)| values.contains(&fact.values[dimension.index()]));
            if let Some(bucket) = bucket_of(fact.hour).filter(|_| passes) {
                let values = group.iter().map(|dimension| fact.values[dimension.index()].clone()).collect();
                expected.entry((bucket, values)).or_default().merge(&addition.tally);
            }
        }
        let mut scan = Scan::new(Question { filter, group, fields });
        for (org, day, bytes) in seal(&additions.chunks(7).map(<[Added]>::to_vec).collect::<Vec<_>>()).blocks {
            if org == "one" {
                scan.add(&Block::read(&bytes).unwrap(), day, bucket_of).unwrap();
            }
        }
        let found: BTreeMap<_, _> = scan.groups().map(|(bucket, values, tally)| {
            ((bucket, values.into_iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>()), facts::told(&tally))
        }).collect();
        let expected: BTreeMap<_, _> = expected.into_iter().map(|(key, tally)| (key, facts::told(&tally))).collect();
        prop_assert_eq!(found, expected);
    }
}
