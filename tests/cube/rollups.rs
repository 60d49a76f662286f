//! A large block's rollups: they answer as its facts do, and they follow from the facts alone.

use std::collections::BTreeMap;

use tallyman::domain::cube::block::Block;
use tallyman::domain::cube::merge::merge;
use tallyman::domain::cube::scan::{Question, Scan};
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::time::{Day, Hour};
use tallyman::domain::usage::dimension::Dimension;

use crate::facts::{Fact, all_fields, told};
use crate::support::{Added, FIRST, seal};

/// Facts of one org and day: most are distinct by user, and some have no product, no latency or no multiplier.
fn additions() -> Vec<Added> {
    let named = |name: &str, number: i32| Some(format!("{name} {number}"));
    let one = |number: i32| {
        let mut values: [Option<String>; Dimension::COUNT] = Default::default();
        values[Dimension::User.index()] = named("user", number % 4_999);
        values[Dimension::Product.index()] = if number % 11 == 0 { None } else { named("product", number % 7) };
        values[Dimension::Model.index()] = named("model", number * 31 % 5);
        values[Dimension::Operation.index()] = named("operation", 1);
        let mut tally = Tally::new();
        tally.add(Field::CREDITS, i128::from(number) * 1_000 - 5_000_000);
        tally.add(Field::EVENTS, 1);
        if number % 3 == 0 {
            tally.add(Field::MULTIPLIER_MIN, i128::from(number % 97));
            tally.add(Field::MULTIPLIER_MAX, i128::from(number % 89));
        }
        if number % 5 != 0 {
            tally.add(Field::latency_bucket(usize::try_from(number % 13).unwrap()), 1);
        }
        Added { fact: Fact { org: "one".into(), hour: Hour(FIRST + number % 24), values }, tally }
    };
    (0..20_000).map(one).collect()
}

type Answer = BTreeMap<(i32, Vec<Option<String>>), Vec<(Field, i128)>>;

/// The answer, and how many facts were looked at for it.
fn ask(blocks: &[(String, Day, Vec<u8>)], question: &Question) -> (Answer, u64) {
    let mut scan = Scan::new(question.clone());
    for (_, day, bytes) in blocks {
        scan.add(&Block::read(bytes).unwrap(), *day, |hour| (hour.0 % 24 != 3).then_some(hour.0 / 6)).unwrap();
    }
    let groups = scan.groups().map(|(bucket, values, tally)| {
        ((bucket, values.into_iter().map(|value| value.map(str::to_owned)).collect()), told(&tally))
    });
    (groups.collect(), scan.facts())
}

#[test]
fn a_rollup_answers_as_the_facts_do_and_is_read_instead_of_them() {
    let additions = additions();
    let whole = seal(std::slice::from_ref(&additions)).blocks;
    // Too small for rollups.
    let parts = seal(&additions.chunks(2_000).map(<[Added]>::to_vec).collect::<Vec<_>>()).blocks;
    let product = |number| Some(format!("product {number}"));
    let of = |filter: &[(Dimension, Vec<Option<String>>)], group: &[Dimension]| Question {
        filter: filter.to_vec(),
        group: group.to_vec(),
        fields: all_fields(),
    };
    let by_product = (Dimension::Product, vec![product(1), None, product(6), Some("unknown".to_owned())]);
    let rolled = [
        of(&[], &[Dimension::Product]),
        of(&[], &[Dimension::Model]),
        of(std::slice::from_ref(&by_product), &[]),
        of(std::slice::from_ref(&by_product), &[Dimension::Product]),
        of(&[], &[Dimension::Operation]),
    ];
    for question in &rolled {
        let ((found, looked_at), (expected, of_all)) = (ask(&whole, question), ask(&parts, question));
        assert!(!found.is_empty());
        assert_eq!(found, expected, "{question:?}");
        assert!(looked_at <= 24 * 8, "{looked_at} facts were read");
        assert_eq!(of_all, 20_000);
    }
    let scanned = [
        of(std::slice::from_ref(&by_product), &[Dimension::Model]),
        of(&[], &[Dimension::User]),
        of(&[], &[Dimension::Tier]),
        of(&[], &[]),
    ];
    for question in &scanned {
        let ((found, looked_at), (expected, _)) = (ask(&whole, question), ask(&parts, question));
        assert_eq!(found, expected, "{question:?}");
        assert_eq!(looked_at, 20_000);
    }
}

#[test]
fn merged_parts_have_the_bytes_of_the_whole_rollups_included() {
    let additions = additions();
    let whole = seal(std::slice::from_ref(&additions)).blocks;
    for parts_of in [2_000, 17_000] {
        let parts = seal(&additions.chunks(parts_of).map(<[Added]>::to_vec).collect::<Vec<_>>()).blocks;
        let read: Vec<Block<'_>> = parts.iter().map(|(.., bytes)| Block::read(bytes).unwrap()).collect();
        assert!(merge(&read).unwrap() == [whole[0].2.clone()], "parts of {parts_of}");
    }
    let block = Block::read(&whole[0].2).unwrap();
    let rolled = Dimension::ALL.iter().filter(|dimension| block.rollup(**dimension).unwrap().is_some());
    assert_eq!(
        rolled.copied().collect::<Vec<_>>(),
        [Dimension::Product, Dimension::Model, Dimension::Operation],
        "users are too many, and the others are absent"
    );
}

#[test]
fn damaged_rollups_are_refused_or_read_and_never_more() {
    let whole = seal(&[additions()]).blocks.remove(0);
    let (mut read, mut refused) = (0, 0);
    // The columns are long, and their bytes alike: every place of the head and of the rollups, and some of those between.
    let between = (2_000..whole.2.len() - 20_000).step_by(4_001);
    for place in (0..2_000).step_by(7).chain(between).chain((whole.2.len() - 20_000..whole.2.len()).step_by(97)) {
        for byte in [0, 0x7f, 0xff] {
            let mut bytes = whole.2.clone();
            bytes[place] = byte;
            let Ok(block) = Block::read(&bytes) else {
                refused += 1;
                continue;
            };
            read += 1;
            let _ = merge(std::slice::from_ref(&block));
            for dimension in [Dimension::Product, Dimension::Operation, Dimension::Model] {
                let group = vec![dimension];
                let mut scan = Scan::new(Question { group, fields: all_fields(), ..Question::default() });
                let _ = scan.add(&block, whole.1, |hour| Some(hour.0));
            }
        }
    }
    assert!(read > 0 && refused > 0);
}

#[test]
fn a_block_with_rollups_has_the_bytes_that_it_always_had() {
    let bytes = &seal(&[additions()]).blocks[0].2;
    // A store's bytes are read for ever: others are another version.
    assert_eq!((bytes[0], bytes.len(), crc32fast::hash(bytes)), (2, 197_106, 3_222_430_785));
}

#[test]
fn a_day_that_is_cut_into_several_blocks_has_the_same_bytes_however_it_came() {
    let one = |number: i32| {
        let mut values: [Option<String>; Dimension::COUNT] = Default::default();
        values[Dimension::User.index()] = Some(format!("user {number:06}"));
        let mut tally = Tally::new();
        tally.add(Field::EVENTS, 1);
        // Only the second block has them.
        if number > 69_000 {
            tally.add(Field::ADJUSTMENTS, 1);
        }
        Added { fact: Fact { org: "one".into(), hour: Hour(FIRST), values }, tally }
    };
    let additions: Vec<Added> = (0..70_000).map(one).collect();
    let whole: Vec<Vec<u8>> =
        seal(std::slice::from_ref(&additions)).blocks.into_iter().map(|(.., bytes)| bytes).collect();
    let every_other = |rest| additions.iter().skip(rest).step_by(2).cloned().collect();
    let parts = seal(&[every_other(0), every_other(1)]).blocks;
    let read: Vec<Block<'_>> = parts.iter().map(|(.., bytes)| Block::read(bytes).unwrap()).collect();
    assert_eq!(whole.len(), 2);
    assert!(merge(&read).unwrap() == whole);
}
