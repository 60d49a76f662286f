//! Facts for tests: usage sealed as a flush does it, and the facts of a block one by one.
#![allow(dead_code, reason = "each test binary uses its own part")]

use tallyman::domain::cube::block::Block;
use tallyman::domain::cube::field_set::FieldSet;
use tallyman::domain::cube::scan::{Question, Scan};
use tallyman::domain::cube::seal::{Sealed, Sealer};
use tallyman::domain::cube::segment::{Frozen, Segment};
use tallyman::domain::cube::tally::{Field, Tally};
use tallyman::domain::time::{Day, Hour};
use tallyman::domain::usage::dimension::Dimension;

/// The values of all dimensions.
pub type Values<'a> = [Option<&'a str>; Dimension::COUNT];

/// A fact: org, hour, the values of all dimensions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    pub org: String,
    pub hour: Hour,
    pub values: [Option<String>; Dimension::COUNT],
}

/// Seals additions, each of sums that one event reaches.
pub fn seal(additions: &[(&str, Hour, Values<'_>, Tally)], mut each: impl FnMut(&Sealed<'_>)) {
    let (mut segment, mut sealer) = (Segment::default(), Sealer::default());
    for (org, hour, values, tally) in additions {
        let symbols = segment.symbols(org, values);
        let mut addition = segment.append(symbols, *hour);
        for (field, value) in tally.iter() {
            addition.add(field, i64::try_from(value).unwrap());
        }
    }
    let sealed = sealer.seal(&segment.freeze(Frozen::default()), |sealed| {
        each(sealed);
        Ok::<(), ()>(())
    });
    sealed.unwrap();
}

/// All fields.
pub fn all_fields() -> FieldSet {
    let plain = Field::NAMED.iter().fold(FieldSet::default(), |set, (field, _)| set.with(*field));
    plain.with(Field::latency_bucket(0))
}

/// The facts of a block, one by one: a scan that groups by three dimensions at a time would not tell all twelve, so that each
/// is read by its own code.
pub fn facts_of(org: &str, day: Day, block: &Block<'_>) -> Vec<(Fact, Tally)> {
    let values: Vec<_> = Dimension::ALL.iter().map(|dimension| block.values(*dimension).unwrap()).collect();
    let hours = block.hours().unwrap();
    let fact = |row: usize| Fact {
        org: org.to_owned(),
        hour: Hour(day.first_hour().0 + i32::try_from(hours.get(row)).unwrap()),
        values: std::array::from_fn(|place| values[place].text(values[place].code(row)).map(str::to_owned)),
    };
    let one = |row: usize| {
        let fact = fact(row);
        let filter =
            Dimension::ALL.iter().map(|dimension| (*dimension, vec![fact.values[dimension.index()].clone()]));
        let mut scan = Scan::new(Question { filter: filter.collect(), group: Vec::new(), fields: all_fields() });
        scan.add(block, day, |hour| (hour == fact.hour).then_some(0)).unwrap();
        let (_, _, tally) = scan.groups().next().unwrap();
        (fact, tally)
    };
    (0..block.rows()).map(one).collect()
}

/// The fields of a tally that two tallies are compared by: those that are not zero, and the least and greatest values.
pub fn told(tally: &Tally) -> Vec<(Field, i128)> {
    let is_extreme = |field| [Field::MULTIPLIER_MIN, Field::MULTIPLIER_MAX].contains(&field);
    tally.iter().filter(|(field, value)| *value != 0 || is_extreme(*field)).collect()
}
