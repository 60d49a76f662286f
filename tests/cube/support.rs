//! Random additions, sealed in any parts, and the facts of a block one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tallyman::domain::cube::histogram;
use tallyman::domain::cube::seal::Sealer;
use tallyman::domain::cube::segment::{Frozen, Segment};
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::time::{Day, Hour};
use tallyman::domain::usage::dimension::Dimension;

use crate::facts::Fact;

/// The first hour of any addition.
pub const FIRST: i32 = 480_000;

#[derive(Clone, Debug)]
pub struct Added {
    pub fact: Fact,
    pub tally: Tally,
}

pub fn value() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        Just(Some("a".to_owned())),
        Just(Some("b".to_owned())),
        Just(Some("a longer value, \u{e4}".to_owned())),
    ]
}

fn tally() -> impl Strategy<Value = Tally> {
    let number = prop_oneof![
        4 => (-5..1_000_i64).prop_map(i128::from),
        2 => any::<i64>().prop_map(i128::from),
        1 => (-70_i128..70).prop_map(|high| high << 64),
    ];
    let plain = proptest::collection::vec((0..Field::NAMED.len() - 2, number), 1..12);
    (plain, proptest::option::of(0..histogram::BUCKETS)).prop_map(|(plain, latency)| {
        let mut tally = Tally::new();
        for (place, value) in plain {
            let field = Field::NAMED[place].0;
            let is_extreme = [Field::MULTIPLIER_MIN, Field::MULTIPLIER_MAX].contains(&field);
            tally.add(field, if is_extreme { value.abs() >> 64 } else { value });
        }
        if let Some(bucket) = latency.filter(|_| is_narrow(&tally)) {
            tally.add(Field::latency_bucket(bucket), 1);
        }
        tally
    })
}

/// Whether each sum is one that a single event reaches.
fn is_narrow(tally: &Tally) -> bool {
    tally.iter().all(|(_, value)| i64::try_from(value).is_ok())
}

/// Up to `most` additions to few facts of two orgs on four days.
pub fn added(most: usize) -> impl Strategy<Value = Vec<Added>> {
    let values = proptest::collection::vec(prop_oneof![3 => Just(None), 1 => value()], Dimension::COUNT);
    let one = (any::<bool>(), 0..90_i32, values, tally()).prop_map(|(first, hour, values, tally)| Added {
        fact: Fact {
            org: if first { "one" } else { "two" }.to_owned(),
            hour: Hour(FIRST + hour),
            values: std::array::from_fn(|place| values[place].clone()),
        },
        tally,
    });
    proptest::collection::vec(one, 1..most)
}

pub struct Stored {
    pub blocks: Vec<(String, Day, Vec<u8>)>,
    pub totals: BTreeMap<(String, Hour), Tally>,
}

impl Stored {
    pub fn by_day(self) -> BTreeMap<(String, Day), Vec<Vec<u8>>> {
        let mut by_day: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
        for (org, day, bytes) in self.blocks {
            by_day.entry((org, day)).or_default().push(bytes);
        }
        by_day
    }
}

/// Appends each part and seals it.
pub fn seal(parts: &[Vec<Added>]) -> Stored {
    let (mut segment, mut sealer) = (Segment::default(), Sealer::default());
    let (mut stored, mut spare) = (Stored { blocks: Vec::new(), totals: BTreeMap::new() }, Frozen::default());
    for part in parts {
        for Added { fact, tally } in part {
            let values = std::array::from_fn(|place| fact.values[place].as_deref());
            let symbols = segment.symbols(&fact.org, &values);
            if is_narrow(tally) {
                let mut addition = segment.append(symbols, fact.hour);
                for (field, value) in tally.iter() {
                    addition.add(field, i64::try_from(value).unwrap());
                }
            } else {
                segment.append_all(symbols, fact.hour, tally);
            }
        }
        let frozen = segment.freeze(spare);
        sealer
            .seal(&frozen, |sealed| {
                stored.blocks.push((sealed.org.to_owned(), sealed.day, sealed.block.to_vec()));
                for (hour, tally) in sealed.totals {
                    stored.totals.entry((sealed.org.to_owned(), *hour)).or_default().merge(tally);
                }
                Ok::<(), ()>(())
            })
            .unwrap();
        spare = frozen;
    }
    stored
}
